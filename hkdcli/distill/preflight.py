"""What is done about a pyramid before a single weight is read: is all there, and can it be compared?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hkdcli.augment.policies import build_policy
from hkdcli.distill.pyramid import plan_recipe_lessons
from hkdcli.distill.reading import check_reading, check_upper_models
from hkdcli.errors import ModelError
from hkdcli.models.fetching import fetch_models
from hkdcli.models.folders import check_model_folder, check_weights, find_local_folder, is_adapter_folder
from hkdcli.models.loading import load_processor
from hkdcli.models.locating import list_bases
from hkdcli.models.quantization import check_quantizable
from hkdcli.recipe import Level, Recipe, RunRecipe
from hkdcli.recipe_refine import RefineRecipe


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor without its model, and the name of that model."""

    processor: Any
    source: str


def check_pyramid(recipe: RunRecipe) -> list[dict[str, str]]:
    """Check every model that is on this machine, and every teacher against its student.

    Args:
        recipe: the resolved recipe, of either stage.

    Returns:
        For each level, apex first: its name, model, size on disk, quantization, how it learns and from whom.
        A folder that is damaged or no model, and two levels that cannot be compared as the recipe wants, are
        a ModelError.
    """
    readers = [_check_level(level) for level in recipe.pyramid]
    if isinstance(recipe, RefineRecipe):
        taught_by = _check_refinement(recipe, readers)
    elif isinstance(recipe, Recipe):
        taught_by = _check_lessons(recipe, readers)
    return [_describe(level, taught_by.get(place, ())) for place, level in enumerate(recipe.pyramid)]


def check_devices(recipe: RunRecipe, device: torch.device) -> None:
    """Refuse a level that cannot be held on the device as its recipe wants, with a SetupError."""
    for level in recipe.pyramid:
        check_quantizable(level.quantization, device)


def fetch_pyramid(recipe: RunRecipe) -> bool:
    """Bring every model and adapter of a recipe to this machine, bases of adapters included.

    Args:
        recipe: the resolved recipe, of either stage.

    Returns:
        Whether any was fetched. `fetch_models` says what is refused; what is missing is listed at once.
    """
    fetched = fetch_models(list_models(recipe))
    return fetch_models(list_models(recipe)) or fetched  # adapters that have come have bases


def list_models(recipe: RunRecipe) -> list[str]:
    """Every name of a model or adapter that a recipe needs, bases of adapters included as far as known."""
    levels = recipe.pyramid
    named = [name for level in levels for name in (level.model, level.adapter) if name is not None]
    return [*named, *list_bases(level.model for level in levels if level.adapter is None)]


def check_augment(recipe: RunRecipe) -> None:
    """Refuse a probability of an operation that there is not, with a UsageError."""
    if (wanted := recipe.augment) is not None:
        build_policy(wanted.policy, wanted.probabilities)


def _check_lessons(recipe: Recipe, readers: Sequence[Processor | None]) -> dict[int, list[str]]:
    """Who teaches each level of stage one."""
    lessons = plan_recipe_lessons(recipe)
    choice_only, mutual = recipe.distill.choice_weight == 1.0, recipe.distill.mutual
    for lesson in lessons:
        student = readers[lesson.student]
        for place in lesson.teachers:
            teacher, learns = readers[place], mutual and place == lesson.teachers[0]
            if teacher is not None and student is not None:
                check_reading(teacher, student, choice_only=choice_only, learns=learns)
    names = [level.name for level in recipe.pyramid]
    return {lesson.student: [names[place] for place in lesson.teachers] for lesson in lessons}


def _check_refinement(recipe: RefineRecipe, readers: Sequence[Processor | None]) -> dict[int, list[str]]:
    """Who teaches the student of stage two."""
    refine, here = recipe.refine, [reader for reader in readers if reader is not None]
    if len(here) == len(readers):
        *uppers, student = here
        check_upper_models(
            [*uppers, student] if refine.snapshot else uppers,
            student,
            choice_weight=refine.response.choice_weight if refine.response else None,
            states=refine.feature is not None or refine.relation is not None,
        )
    *upper, last = range(len(readers))
    names = [recipe.pyramid[place].name for place in upper]
    return {last: [*names, *(["its snapshot"] if refine.snapshot else [])]}


def _check_level(level: Level) -> Processor | None:
    """Check the files of a level; returns how it reads, or None where its model is not here yet."""
    folder, adapter = find_local_folder(level.model), find_local_folder(level.adapter or level.model)
    if adapter is not None and is_adapter_folder(adapter):
        check_weights(adapter, "adapter_model")
    elif adapter is not None and level.adapter is not None:
        raise ModelError(
            f"{level.name}: {level.adapter} is no adapter: it has no adapter_config.json",
            hint="Weights that were trained in full are a model: name them as the level's model.",
        )
    if folder is None or is_adapter_folder(folder) and not any(folder.glob("*processor_config.json")):
        return None  # the adapter reads as its base does
    if not is_adapter_folder(folder):
        check_model_folder(folder)
    return Processor(load_processor(folder), level.model)


def _describe(level: Level, taught_by: Sequence[str]) -> dict[str, str]:
    folder = find_local_folder(level.model)
    if level.train is None:
        learns = taught = "-"
    else:
        how = "in full" if level.tuning == "full" else f"LoRA of rank {level.tuning.lora.rank}"
        learns, taught = f"{how}, {level.train.max_steps} steps", " and ".join(taught_by) or "labels alone"
    return {
        "level": level.name,
        "model": level.model,
        "weights": "to download" if folder is None else _weigh(folder),
        "quantization": level.quantization,
        "learns": learns,
        "taught by": taught,
    }


def _weigh(folder: Path) -> str:
    mib = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 2**20
    return f"{mib:.1f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"
