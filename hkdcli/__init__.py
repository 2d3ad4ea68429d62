"""hkd: distil big vision-language judges into small hallucination and factuality detectors."""

from __future__ import annotations

__version__ = "0.1.0"
