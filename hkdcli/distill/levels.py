"""The levels of a run: where each one is, how it is loaded to teach and to learn, how it is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from accelerate.utils.memory import release_memory

from hkdcli.checkpoints import is_complete, publish_folder
from hkdcli.data.datasets import Dataset
from hkdcli.distill.parallel import keep_whole
from hkdcli.errors import ModelError
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.families import unwrap
from hkdcli.models.loading import LoadedModel, load_model, quiet
from hkdcli.models.prompt_file import write_prompt_file
from hkdcli.models.quantization import Quantization, QuantizedParts
from hkdcli.ranks import find_place, wait_for_all
from hkdcli.reporter import Reporter
from hkdcli.runs import RunFolder
from hkdcli.runtime import Runtime

if TYPE_CHECKING:
    from hkdcli.recipe import Level, RunRecipe
    from hkdcli.recipe_blocks import Lora


@dataclass(frozen=True, slots=True)
class TrainedLevel:
    """A level that is ready to answer: what `load_level` loads."""

    name: str
    model: str
    adapter: str | None
    quantization: Quantization
    quantized_parts: QuantizedParts = "language"
    batch_size: int = 8  # records that it answers at once: as many as it is trained on


R_co = TypeVar("R_co", bound="RunRecipe", covariant=True)


@dataclass(frozen=True, slots=True)
class Stage(Generic[R_co]):
    """Everything that the levels of one run share."""

    recipe: R_co
    data: Mapping[str, Dataset]
    run: RunFolder
    runtime: Runtime
    reporter: Reporter

    @property
    def base(self) -> int:
        """Place of the level to deploy, the last."""
        return len(self.recipe.pyramid) - 1

    def get_folder(self, place: int) -> Path:
        """Where a trained level ends up: the base is the student, ready to infer."""
        level = self.recipe.pyramid[place]
        if place == self.base:
            return self.run.student
        return self.run.level(place, level.name) / ("model" if level.tuning == "full" else "adapter")

    def get_mutual_folder(self, place: int) -> Path:
        """Where a level ends up that has learned from its own student."""
        return self.run.level(place, self.recipe.pyramid[place].name) / "mutual"


def locate_levels(stage: Stage[RunRecipe]) -> list[TrainedLevel]:
    """Where each level is, or will be once it is trained, apex first."""
    return [_locate(stage, place) for place in range(len(stage.recipe.pyramid))]


def load_level(level: TrainedLevel, runtime: Runtime, *, trainable: bool = False) -> LoadedModel:
    """Load a level as it will be used, quantized where its recipe says so.

    Args:
        level: where it is.
        runtime: device and number type.
        trainable: False freezes it; True leaves its adapter (or, without one, all weights) trainable.

    Returns:
        The level, in evaluation mode.
    """
    release_memory()  # models of earlier levels lie about in cycles, and there may be no room beside them
    return load_model(
        level.model,
        adapter=level.adapter,
        quantization=level.quantization,
        quantized_parts=level.quantized_parts,
        device=runtime.device,
        dtype=runtime.dtype,
        trainable=trainable,
    )


def load_learner(stage: Stage[RunRecipe], place: int, start: TrainedLevel) -> LoadedModel:
    """Load a level with what is to be trained requiring gradients; weights that are trained are float32.

    Args:
        stage: the run.
        place: of the level in the pyramid.
        start: what it begins from.

    Returns:
        The level, with a fresh adapter where its recipe wants one and `start` has none. A level with an
        adapter that is to be trained in full is a ModelError.
    """
    lora = None if (tuning := stage.recipe.pyramid[place].tuning) == "full" else tuning.lora
    runtime = Runtime(stage.runtime.device, torch.float32) if lora is None else stage.runtime
    loaded = load_level(start, runtime, trainable=True)
    if loaded.adapter is not None:
        _check_adapter_learns(stage, place, loaded.adapter)
    if lora is None or loaded.adapter is not None:
        return loaded
    torch.manual_seed(stage.recipe.seed)
    return put_adapter_on(loaded, lora)


def put_adapter_on(loaded: LoadedModel, lora: Lora) -> LoadedModel:
    """Put a fresh adapter on a level, as its recipe has it; everything else is frozen."""
    wrapped = attach_lora(
        loaded.model,
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        targets=lora.targets,
        train_projector=lora.train_projector,
    )
    return LoadedModel(wrapped, loaded.processor, loaded.source, None, loaded.quantization)


def get_start(stage: Stage[RunRecipe], place: int) -> TrainedLevel:
    """What a level is before any training: the model, and the adapter, that the recipe names."""
    level = stage.recipe.pyramid[place]
    return _build(stage, level, level.model, level.adapter)


def publish_level(folder: Path, trained: LoadedModel, level: Level) -> None:
    """Write a level as a sealed folder that `load_model` takes, and plain transformers too.

    Every process has to call this; the main one writes.

    Args:
        folder: where it appears, as a whole.
        trained: the level with its final weights.
        level: what the recipe says of it.
    """
    keep_whole(trained.model)
    if find_place().is_main:
        publish_folder(folder, partial(_write_level, trained=trained, level=level))
    wait_for_all()


def _check_adapter_learns(stage: Stage[RunRecipe], place: int, adapter: str) -> None:
    """An adapter goes on learning with the settings it was made with; beneath it nothing does."""
    level = stage.recipe.pyramid[place]
    if level.tuning == "full":
        raise ModelError(
            f"{level.name}: a model with an adapter ({adapter}) cannot be trained in full",
            hint=f"pyramid.{level.name}.tuning={{lora: {{}}}} trains the adapter further.",
        )
    stage.reporter.note(f"{level.name} goes on from {adapter}, with that adapter's own LoRA settings")


def _locate(stage: Stage[RunRecipe], place: int) -> TrainedLevel:
    level = stage.recipe.pyramid[place]
    folder = stage.get_folder(place)
    # What learned beside its student is what the level is from then on; not before that student is done.
    if stage.recipe.mutual and place < stage.base and is_complete(stage.get_folder(place + 1)):
        folder = stage.get_mutual_folder(place)
    elif level.train is None:
        return get_start(stage, place)
    # An adapter's folder names its base; what the recipe names may be an adapter itself.
    return _build(stage, level, str(folder), None)


def _build(stage: Stage[RunRecipe], level: Level, model: str, adapter: str | None) -> TrainedLevel:
    batch_size = (level.train or stage.recipe.train).micro_batch_size
    return TrainedLevel(level.name, model, adapter, level.quantization, level.quantized_parts, batch_size)


def _write_level(folder: Path, trained: LoadedModel, level: Level) -> None:
    """Weights or adapter, and the processor."""
    with quiet():
        if level.tuning == "full":
            unwrap(trained.model).save_pretrained(folder)
        else:
            save_adapter(trained.model, folder, source=trained.source)
        trained.processor.save_pretrained(folder)
    write_prompt_file(folder, trained.processor)
