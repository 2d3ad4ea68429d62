"""Recipes of two tiny models, for `hkd plan`: a process that weighs the same in every test, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_models import save_tiny_qwen

READY_IN_NF4 = {"quantization": "nf4", "train": None}


def save_pair(folder: Path) -> Path:
    """Two Qwen2.5-VL of four and two layers, `large` and `small`."""
    save_tiny_qwen(folder / "large", hidden_size=96, layers=4)
    save_tiny_qwen(folder / "small", hidden_size=48, layers=2, seed=1)
    return folder


def write_recipe(path: Path, models: Path, *, large: dict[str, Any] = READY_IN_NF4, **changes: Any) -> Path:
    """The small one, in full, below the large one; `changes` replace whole blocks."""
    recipe = {
        "name": "planned",
        "data": {"train": {"scenes": {"split": "train", "size": 24}}},
        "pyramid": [
            {"name": "large", "model": str(models / "large"), **large},
            {"name": "small", "model": str(models / "small"), "tuning": "full"},
        ],
        "train": {"max_steps": 4, "micro_batch_size": 4, "gradient_accumulation_steps": 2},
        "runtime": {"device": "cpu"},
    }
    path.write_text(yaml.safe_dump(recipe | changes))
    return path


def weigh_alike(patch: pytest.MonkeyPatch) -> None:
    """What the process of the tests holds grows from test to test."""
    for module in ("room", "staging"):
        patch.setattr(f"hkdcli.planning.{module}.weigh_process", lambda: 300 * 2**20)
