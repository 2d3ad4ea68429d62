"""The model folders and adapters that the package ships, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.errors import ModelError

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    from hkdcli.scenes.pretraining import Plan

SHIPPED = Path(__file__).parent / "pretrained"
CURVE_EVERY = 25


def model_folder(name: str) -> Path:
    """The folder of a shipped model (`large`, `medium`, `small`) or adapter (`large-tuned`).

    Args:
        name: what follows `scenes:` in a recipe.

    Returns:
        A folder that loads like any local model or adapter folder.

    Raises:
        ModelError: the package ships nothing of that name.
    """
    folder = SHIPPED / name
    if not folder.is_dir() or Path(name).name != name:
        names = ", ".join(f"scenes:{path.name}" for path in sorted(SHIPPED.glob("*")) if path.is_dir())
        raise ModelError(f"the embedded world has no model scenes:{name}", hint=f"it has: {names}")
    return folder


def build_shipped_processor() -> LlavaProcessor:
    """The processor of every size: one token for each fixed text of the prompts and of the records."""
    from hkdcli.data.prompts import PROMPT_CONSTANTS
    from hkdcli.scenes.architecture import build_processor
    from hkdcli.scenes.records import TEXT_CONSTANTS

    return build_processor((*PROMPT_CONSTANTS, *TEXT_CONSTANTS))


def save_pretrained(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    plan: Plan,
    curve: Sequence[tuple[int, float, float]],
    cpu_seconds: float,
    folder: Path,
) -> None:
    """Write a pretrained level as a model folder: float16 weights, processor, plan and curve.

    Args:
        model: what `pretraining.pretrain` returned.
        processor: what `build_shipped_processor` returned.
        plan: how it was pretrained.
        curve: step, language-model loss and flag loss of every step; every 25th is kept.
        cpu_seconds: what the pretraining cost.
        folder: created if need be.
    """
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    kept = [entry for entry in curve if entry[0] == 1 or entry[0] % CURVE_EVERY == 0]
    story = {"plan": asdict(plan), "cpu_seconds": round(cpu_seconds), "curve": kept}
    (folder / "pretraining.json").write_text(json.dumps(story) + "\n", encoding="utf-8")
