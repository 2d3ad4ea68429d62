"""Where real records and models are, if they are there at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _find(variable: str, default: str) -> Path:
    return ROOT / os.environ.get(variable, default)


def find_coco_bench() -> Path:
    """Folder of coco-bench: below HKD_REAL_DATA, by default ../shared/data."""
    return _find("HKD_REAL_DATA", "../shared/data") / "coco-bench"


def find_models() -> Path:
    """What benchmarks/real/assemble.py wrote: HKD_REAL_MODELS, by default runs/real-models."""
    return _find("HKD_REAL_MODELS", "runs/real-models")


needs_coco_bench = pytest.mark.skipif(
    not (find_coco_bench() / "task1.json").is_file(), reason="no coco-bench; HKD_REAL_DATA says where it is"
)
needs_models = pytest.mark.skipif(
    not (find_models() / "large").is_dir(), reason="no assembled models; see benchmarks/real/assemble.py"
)
