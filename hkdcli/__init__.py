"""hkd: distil big vision-language judges into small hallucination and factuality detectors.

    from hkdcli import Detector

    verdict = Detector.load("runs/x").check_caption("cat.jpg", "A cat on a red mat.")

The public names are those of `__all__`. They are imported when they are first asked for, so that
`import hkdcli` costs nothing; torch is loaded by `Detector.load` alone.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hkdcli.data.given_images import ImageInput
    from hkdcli.data.images import ImageError, ImagePolicy
    from hkdcli.data.phrases import propose_phrases
    from hkdcli.detector import Detector
    from hkdcli.errors import DataError, HkdError, ModelError, RefusedError, UsageError
    from hkdcli.inference.evidence import Evidence
    from hkdcli.verdicts import (
        CaptionRequest,
        CaptionVerdict,
        ClaimRequest,
        ClaimVerdict,
        PhraseVerdict,
    )

__version__ = "0.1.0"

# Its import, which peft's brings too, tells of optional packages; 8 bits on a CPU tell of every call.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

__all__ = [
    "CaptionRequest",
    "CaptionVerdict",
    "ClaimRequest",
    "ClaimVerdict",
    "DataError",
    "Detector",
    "Evidence",
    "HkdError",
    "ImageError",
    "ImageInput",
    "ImagePolicy",
    "ModelError",
    "PhraseVerdict",
    "RefusedError",
    "UsageError",
    "__version__",
    "propose_phrases",
]

_HOMES = {
    "hkdcli.data.given_images": ("ImageInput",),
    "hkdcli.data.images": ("ImageError", "ImagePolicy"),
    "hkdcli.data.phrases": ("propose_phrases",),
    "hkdcli.detector": ("Detector",),
    "hkdcli.errors": ("DataError", "HkdError", "ModelError", "RefusedError", "UsageError"),
    "hkdcli.inference.evidence": ("Evidence",),
    "hkdcli.verdicts": ("CaptionRequest", "CaptionVerdict", "ClaimRequest", "ClaimVerdict", "PhraseVerdict"),
}


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(home), name)
            globals()[name] = value  # asked for once
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
