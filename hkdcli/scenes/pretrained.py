"""The model folders and adapters that the package ships, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.errors import ModelError

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    from hkdcli.scenes.pretraining import Plan

SHIPPED = Path(__file__).parent / "pretrained"
STORY_FILE = "pretraining.json"
CURVE_EVERY = 25


@dataclass(frozen=True, slots=True)
class Story:
    """A part of a pretraining: plan, cost, and (step, language-model loss, flag loss) of each step."""

    name: str
    plan: Plan
    cpu_seconds: int
    curve: Sequence[tuple[int, float, float]]


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
        raise ModelError(f"the embedded world has no model scenes:{name}", hint=f"It has: {names}.")
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
    story: Story,
    folder: Path,
    *,
    before: Path | None = None,
) -> None:
    """Write a level as a model folder: float16 weights, processor, and how it was pretrained.

    Args:
        model: what was taught.
        processor: what `build_shipped_processor` returned.
        story: how it was taught.
        folder: created if need be.
        before: the folder whose model it was before, with its own story.
    """
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    stories = json.loads((before / STORY_FILE).read_text(encoding="utf-8")) if before else {}
    curve = [entry for entry in story.curve if entry[0] == 1 or entry[0] % CURVE_EVERY == 0]
    stories[story.name] = {"plan": asdict(story.plan), "cpu_seconds": story.cpu_seconds, "curve": curve}
    (folder / STORY_FILE).write_text(json.dumps(stories) + "\n", encoding="utf-8")
