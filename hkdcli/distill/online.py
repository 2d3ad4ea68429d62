"""Stage one as a whole: the levels of a recipe's pyramid, trained top-down, each taught live by those above.

A finished level is a sealed folder, so a resume passes over it; a level in the middle of its training
goes on from its latest checkpoint. A level that teaches is loaded from its folder, as it will be when used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from hkdcli.checkpoints import is_complete, publish_folder
from hkdcli.data.chat import get_tokenizer
from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.data.prompts import compute_prompt_hash, identity_presentation
from hkdcli.distill.log import TrainLog
from hkdcli.distill.objective import OnlineObjective
from hkdcli.distill.pyramid import Lesson, plan_lessons
from hkdcli.distill.pyramid import Level as PlannedLevel
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.sources import DatasetSource
from hkdcli.distill.stepper import TrainSettings
from hkdcli.distill.trainer import train
from hkdcli.errors import ModelError
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.answers import AnswerModel
from hkdcli.models.families import get_vocabulary_size, unwrap
from hkdcli.models.loading import LoadedModel, load_model
from hkdcli.reporter import Reporter
from hkdcli.runs import RunFolder
from hkdcli.runtime import Runtime

if TYPE_CHECKING:
    from hkdcli.recipe import Distill, Level, Recipe, Train


@dataclass(frozen=True, slots=True)
class TrainedLevel:
    """A level that is ready to answer: what to load, and how it came about."""

    name: str
    model: str
    adapter: str | None
    quantization: Any
    is_trained: bool


def train_levels(
    recipe: Recipe, data: Mapping[str, Dataset], run: RunFolder, runtime: Runtime, reporter: Reporter
) -> list[TrainedLevel]:
    """Train every level of a pyramid that does not come ready, top-down.

    Args:
        recipe: the resolved recipe.
        data: the splits; `train` is learned from.
        run: the open run folder.
        runtime: what to run on.
        reporter: told how it goes.

    Returns:
        The levels, apex first.
    """
    levels = [_locate(recipe, place, run) for place in range(len(recipe.pyramid))]
    planned = [PlannedLevel(level.name, ready=level.train is None) for level in recipe.pyramid]
    for lesson in plan_lessons(planned, recipe.distill.teachers):
        folder = _level_folder(recipe, lesson.student, run)
        if is_complete(folder):
            reporter.note(f"{recipe.pyramid[lesson.student].name}: trained already")
            continue
        teachers = [load_level(levels[place], runtime) for place in lesson.teachers]
        _train_level(recipe, lesson, teachers, data["train"], run, runtime, reporter)
    return levels


def _level_folder(recipe: Recipe, place: int, run: RunFolder) -> Path:
    """Where a trained level ends up: the base is the student, ready to infer."""
    level = recipe.pyramid[place]
    if place == len(recipe.pyramid) - 1:
        return run.student
    return run.level(place, level.name) / ("model" if level.tuning == "full" else "adapter")


def _locate(recipe: Recipe, place: int, run: RunFolder) -> TrainedLevel:
    level = recipe.pyramid[place]
    if level.train is None:
        return TrainedLevel(level.name, level.model, level.adapter, level.quantization, False)
    folder = str(_level_folder(recipe, place, run))
    if level.tuning == "full":
        return TrainedLevel(level.name, folder, None, "none", True)
    return TrainedLevel(level.name, level.model, folder, level.quantization, True)


def load_level(level: TrainedLevel, runtime: Runtime) -> LoadedModel:
    """Load a level as it will be used: frozen, quantized where its recipe says so."""
    return load_model(
        level.model,
        adapter=level.adapter,
        quantization=level.quantization,
        device=runtime.device,
        dtype=runtime.dtype,
    )


def _train_level(
    recipe: Recipe,
    lesson: Lesson,
    teachers: Sequence[LoadedModel],
    data: Dataset,
    run: RunFolder,
    runtime: Runtime,
    reporter: Reporter,
) -> None:
    level = recipe.pyramid[lesson.student]
    assert level.train is not None  # the plan passes over levels that come ready
    student = _load_student(level, recipe.seed, runtime)
    for teacher in teachers:
        check_same_reading(teacher, student)
    heads = [get_vocabulary_size(loaded.model) for loaded in (student, *teachers)]
    # Heads are padded to round sizes; no text ever has the tokens past the tokenizer's.
    vocabulary = min(*heads, len(get_tokenizer(student.processor)))
    source = DatasetSource(
        data, Collator(student.processor), lambda example, _: identity_presentation(example)
    )
    log = TrainLog(run.path / "log.jsonl", reporter, level=level.name, tensorboard=run.path / "tensorboard")
    train(
        AnswerModel(student.model),
        LiveTeachers([AnswerModel(teacher.model) for teacher in teachers]),
        _build_objective(recipe.distill, vocabulary, lesson.weights),
        source,
        _build_settings(level.train, recipe.distill, recipe.seed, taught=bool(teachers)),
        run.level(lesson.student, level.name),
        reporter,
        log=log,
        accelerator=_build_accelerator(runtime),
        resume=run.resumed,
        task=_describe_lesson(recipe, lesson),
    )
    publish_folder(
        _level_folder(recipe, lesson.student, run), lambda folder: _write_level(folder, student, level)
    )


def _describe_lesson(recipe: Recipe, lesson: Lesson) -> str:
    teachers = " and ".join(recipe.pyramid[place].name for place in lesson.teachers)
    return f"{recipe.pyramid[lesson.student].name}, taught by {teachers or 'labels alone'}"


def _load_student(level: Level, seed: int, runtime: Runtime) -> LoadedModel:
    """The level with what is to be trained requiring gradients; weights that are trained are float32."""
    lora = None if level.tuning == "full" else level.tuning.lora
    loaded = load_model(
        level.model,
        adapter=level.adapter,
        quantization=level.quantization,
        device=runtime.device,
        dtype=torch.float32 if lora is None else runtime.dtype,
        trainable=True,
    )
    if lora is None or level.adapter is not None:
        return loaded
    torch.manual_seed(seed)
    wrapped = attach_lora(
        loaded.model, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, targets=lora.targets
    )
    return LoadedModel(wrapped, loaded.processor, loaded.source, None, loaded.quantization)


def check_same_reading(teacher: LoadedModel, student: LoadedModel) -> None:
    """Check that teacher and student turn a record into the same tokens and pixels.

    Args:
        teacher: its logits are compared with the student's, position by position.
        student: its processor prepares the batches for both.

    Raises:
        ModelError: tokenizer, chat template or image processor differ.
    """
    if compute_prompt_hash(teacher.processor) != compute_prompt_hash(student.processor):
        raise ModelError(
            f"{teacher.source} and {student.source} read prompts differently: tokenizer, chat template or "
            "image processor differ, so their answers cannot be compared token by token",
            hint="choose levels of one model family, with the same processor files",
        )


def _build_objective(distill: Distill, vocabulary: int, weights: tuple[float, ...]) -> OnlineObjective:
    return OnlineObjective(
        vocabulary=vocabulary,
        divergence=distill.divergence,
        temperature=distill.temperature,
        beta=distill.beta,
        choice_weight=distill.choice_weight,
        teacher_weights=weights or None,
    )


def _build_settings(chosen: Train, distill: Distill, seed: int, *, taught: bool) -> TrainSettings:
    """The level's settings; without a teacher lambda is 0, and labels are all there is."""
    schedule = distill.lambda_
    return TrainSettings(
        **chosen.model_dump(),
        lambda_schedule=schedule.schedule if taught else "constant",
        lambda_start=schedule.start if taught else 0.0,
        lambda_end=schedule.end if taught else None,
        seed=seed,
    )


def _build_accelerator(runtime: Runtime) -> Accelerator:
    precision = "bf16" if runtime.dtype == torch.bfloat16 else "no"
    return Accelerator(cpu=runtime.device.type == "cpu", mixed_precision=precision)


def _write_level(folder: Path, student: LoadedModel, level: Level) -> None:
    """A folder that `load_model` takes, and plain transformers too: weights or adapter, and the processor."""
    if level.tuning == "full":
        unwrap(student.model).save_pretrained(folder)
    else:
        save_adapter(student.model, folder, source=level.model)
    student.processor.save_pretrained(folder)
