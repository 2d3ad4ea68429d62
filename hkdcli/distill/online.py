"""Stage one as a whole: the levels of a recipe's pyramid, trained top-down, each taught live by those above.

A finished level is a sealed folder, so a resume passes over it; a level in the middle of its training
goes on from its latest checkpoint. A level that teaches is loaded from its folder, as it will be when used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
from hkdcli.distill.settings import TrainSettings
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.sources import DatasetSource
from hkdcli.distill.trainer import train
from hkdcli.errors import ModelError
from hkdcli.evaluation.metrics import evaluate_predictions
from hkdcli.evaluation.predictions import Prediction
from hkdcli.inference.predict import Asking, answer_examples
from hkdcli.inference.scoring import Scorer
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.answers import AnswerModel
from hkdcli.models.families import get_vocabulary_size, unwrap
from hkdcli.models.loading import LoadedModel, load_model, quiet
from hkdcli.reporter import Reporter
from hkdcli.runs import RunFolder
from hkdcli.runtime import Runtime

if TYPE_CHECKING:
    from hkdcli.recipe import Level, Recipe

EVALUATION_BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class TrainedLevel:
    """A level that is ready to answer: what `load_level` loads."""

    name: str
    model: str
    adapter: str | None
    quantization: Literal["none", "int8", "nf4"]


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that the levels of one run share."""

    recipe: Recipe
    data: Mapping[str, Dataset]
    run: RunFolder
    runtime: Runtime
    reporter: Reporter


def train_levels(stage: Stage) -> list[TrainedLevel]:
    """Train every level of a pyramid that does not come ready, top-down.

    Args:
        stage: recipe, data and run folder; the split `train` is learned from, `dev` watched.

    Returns:
        The levels, apex first.
    """
    pyramid = stage.recipe.pyramid
    levels = [_locate_level(stage, place) for place in range(len(pyramid))]
    planned = [PlannedLevel(level.name, ready=level.train is None) for level in pyramid]
    for lesson in plan_lessons(planned, stage.recipe.distill.teachers):
        folder = _choose_folder(stage, lesson.student)
        if is_complete(folder):
            stage.reporter.note(f"{pyramid[lesson.student].name} is trained already")
            continue
        teachers = [load_level(levels[place], stage.runtime) for place in lesson.teachers]
        student = _load_student(pyramid[lesson.student], stage)
        _teach(stage, lesson, teachers, student)
        publish_folder(folder, partial(_write_level, student=student, level=pyramid[lesson.student]))
    return levels


def load_level(level: TrainedLevel, runtime: Runtime) -> LoadedModel:
    """Load a level as it will be used: frozen, quantized where its recipe says so."""
    return load_model(
        level.model,
        adapter=level.adapter,
        quantization=level.quantization,
        device=runtime.device,
        dtype=runtime.dtype,
    )


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


def _choose_folder(stage: Stage, place: int) -> Path:
    """Where a trained level ends up: the base is the student, ready to infer."""
    level = stage.recipe.pyramid[place]
    if place == len(stage.recipe.pyramid) - 1:
        return stage.run.student
    return stage.run.level(place, level.name) / ("model" if level.tuning == "full" else "adapter")


def _locate_level(stage: Stage, place: int) -> TrainedLevel:
    level = stage.recipe.pyramid[place]
    if level.train is None:
        return TrainedLevel(level.name, level.model, level.adapter, level.quantization)
    folder = str(_choose_folder(stage, place))
    if level.tuning == "full":
        return TrainedLevel(level.name, folder, None, "none")
    return TrainedLevel(level.name, level.model, folder, level.quantization)


def _load_student(level: Level, stage: Stage) -> LoadedModel:
    """The level with what is to be trained requiring gradients; weights that are trained are float32."""
    lora = None if level.tuning == "full" else level.tuning.lora
    loaded = load_model(
        level.model,
        adapter=level.adapter,
        quantization=level.quantization,
        device=stage.runtime.device,
        dtype=torch.float32 if lora is None else stage.runtime.dtype,
        trainable=True,
    )
    if lora is None or level.adapter is not None:
        return loaded
    torch.manual_seed(stage.recipe.seed)
    wrapped = attach_lora(
        loaded.model, rank=lora.rank, alpha=lora.alpha, dropout=lora.dropout, targets=lora.targets
    )
    return LoadedModel(wrapped, loaded.processor, loaded.source, None, loaded.quantization)


def _teach(stage: Stage, lesson: Lesson, teachers: Sequence[LoadedModel], student: LoadedModel) -> None:
    """Train one level; its checkpoints go to its folder, its figures to the run's log."""
    for teacher in teachers:
        check_same_reading(teacher, student)
    level, run = stage.recipe.pyramid[lesson.student], stage.run
    log = TrainLog(
        run.path / "log.jsonl", stage.reporter, level=level.name, tensorboard=run.path / "tensorboard"
    )
    collator = Collator(student.processor)
    taught_by = " and ".join(stage.recipe.pyramid[place].name for place in lesson.teachers)
    train(
        AnswerModel(student.model),
        LiveTeachers([AnswerModel(teacher.model) for teacher in teachers]),
        _build_objective(stage, lesson, teachers, student),
        DatasetSource(stage.data["train"], collator, lambda example, _: identity_presentation(example)),
        _build_settings(stage, lesson),
        run.level(lesson.student, level.name),
        stage.reporter,
        log=log,
        accelerator=_build_accelerator(stage.runtime),
        resume=run.resumed,
        task=f"{level.name}, taught by {taught_by or 'labels alone'}",
        evaluate=_build_evaluate(student, stage.data.get("dev")),
    )


def _build_objective(
    stage: Stage, lesson: Lesson, teachers: Sequence[LoadedModel], student: LoadedModel
) -> OnlineObjective:
    distill = stage.recipe.distill
    heads = [get_vocabulary_size(loaded.model) for loaded in (student, *teachers)]
    return OnlineObjective(
        # Heads are padded to round sizes; no text ever has the tokens past the tokenizer's.
        vocabulary=min(*heads, len(get_tokenizer(student.processor))),
        divergence=distill.divergence,
        temperature=distill.temperature,
        beta=distill.beta,
        choice_weight=distill.choice_weight,
        teacher_weights=lesson.weights or None,
        top_k=distill.top_k,
        scale_by_temperature=distill.scale_by_temperature,
    )


def _build_settings(stage: Stage, lesson: Lesson) -> TrainSettings:
    """The level's settings; without a teacher lambda is 0, and labels are all there is."""
    chosen, schedule = stage.recipe.pyramid[lesson.student].train, stage.recipe.distill.lambda_
    return TrainSettings(
        **(chosen.model_dump(exclude={"gradient_checkpointing"}) if chosen is not None else {}),
        lambda_schedule=schedule.schedule if lesson.teachers else "constant",
        lambda_start=schedule.start if lesson.teachers else 0.0,
        lambda_end=schedule.end if lesson.teachers else None,
        seed=stage.recipe.seed,
    )


def _build_accelerator(runtime: Runtime) -> Accelerator:
    precision = "bf16" if runtime.dtype == torch.bfloat16 else "no"
    return Accelerator(cpu=runtime.device.type == "cpu", mixed_precision=precision)


def _build_evaluate(student: LoadedModel, dev: Dataset | None) -> Callable[[], Mapping[str, float]] | None:
    """How the student answers the dev split at the moment; figures that are undefined are left out."""
    if dev is None:
        return None
    scorer = Scorer(student)

    def evaluate() -> Mapping[str, float]:
        predictions = []
        for start in range(0, len(dev.examples), EVALUATION_BATCH_SIZE):
            batch = dev.examples[start : start + EVALUATION_BATCH_SIZE]
            for row in answer_examples(dev, batch, scorer, Asking()):
                predictions.append(Prediction(row["id"], frozenset(row["prediction"] or ())))
        scores = evaluate_predictions(predictions, dev.examples).metrics
        return {f"dev_{name}": value for name, value in scores.items() if value is not None}

    return evaluate


def _write_level(folder: Path, student: LoadedModel, level: Level) -> None:
    """A folder that `load_model` takes, and plain transformers too: weights or adapter, and the processor."""
    with quiet():
        if level.tuning == "full":
            unwrap(student.model).save_pretrained(folder)
        else:
            save_adapter(student.model, folder, source=level.model)
        student.processor.save_pretrained(folder)
