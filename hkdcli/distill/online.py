"""Stage one as a whole: the levels of a recipe's pyramid, trained top-down, each taught live by those above.

A finished level is a sealed folder, so a resume passes over it; a level in the middle of its training
goes on from its latest checkpoint. A level that teaches is loaded from its folder, as it will be when used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hkdcli.checkpoints import is_complete
from hkdcli.data.chat import get_tokenizer
from hkdcli.data.prompts import compute_prompt_hash
from hkdcli.distill.assembly import (
    build_accelerator,
    build_evaluate,
    build_log,
    build_settings,
    build_source,
    tell_quantization,
)
from hkdcli.distill.levels import (
    Stage,
    TrainedLevel,
    get_start,
    load_learner,
    load_level,
    locate_levels,
    publish_level,
)
from hkdcli.distill.objective import MutualObjective, OnlineObjective
from hkdcli.distill.pyramid import Lesson, plan_recipe_lessons
from hkdcli.distill.reading import Reader, check_reading, check_runs
from hkdcli.distill.settings import TrainSettings
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.sources import BatchSource
from hkdcli.distill.teacher_check import check_teacher
from hkdcli.distill.trainer import train
from hkdcli.models.answers import AnswerModel
from hkdcli.models.families import get_vocabulary_size
from hkdcli.models.loading import LoadedModel
from hkdcli.models.memory import enable_gradient_checkpointing

if TYPE_CHECKING:
    from hkdcli.recipe import Recipe


SourceBuilder = Callable[[Stage["Recipe"], Reader], BatchSource]


@dataclass(frozen=True, slots=True)
class Teaching:
    """All that one lesson is made of; `train` takes it, and the memory plan rehearses a step of it."""

    student: AnswerModel
    teachers: LiveTeachers
    objective: OnlineObjective | MutualObjective
    source: BatchSource
    settings: TrainSettings


def train_levels(stage: Stage[Recipe]) -> list[TrainedLevel]:
    """Train every level of a pyramid that does not come ready, top-down.

    Args:
        stage: recipe, data and run folder; the split `train` is learned from, `dev` watched.

    Returns:
        The levels, apex first.
    """
    pyramid = stage.recipe.pyramid
    for lesson in plan_recipe_lessons(stage.recipe):
        if is_complete(stage.get_folder(lesson.student)):
            stage.reporter.note(f"{pyramid[lesson.student].name} is trained already")
        else:
            _train_level(stage, lesson)
    return locate_levels(stage)


def _train_level(stage: Stage[Recipe], lesson: Lesson) -> None:
    """Train and write one level; of its models nothing is held afterwards."""
    pyramid = stage.recipe.pyramid
    teachers = _load_teachers(stage, lesson)
    student = load_learner(stage, lesson.student, get_start(stage, lesson.student))
    check_runs(student, stage.data["train"])
    names = [pyramid[place].name for place in (lesson.student, *lesson.teachers)]
    tell_quantization(stage, names, (student, *teachers))
    _teach(stage, lesson, teachers, student)
    if teachers and stage.recipe.distill.mutual:
        parent = lesson.teachers[0]
        publish_level(stage.get_mutual_folder(parent), teachers[0], pyramid[parent])
    publish_level(stage.get_folder(lesson.student), student, pyramid[lesson.student])


def _load_teachers(stage: Stage[Recipe], lesson: Lesson) -> list[LoadedModel]:
    """The teachers of a lesson, nearest first, each of which has shown that it can teach."""
    levels, teachers = locate_levels(stage), []
    for place in lesson.teachers:
        learns = stage.recipe.distill.mutual and place == lesson.teachers[0]
        teachers.append(
            load_learner(stage, place, levels[place]) if learns else load_level(levels[place], stage.runtime)
        )
        folder = stage.run.level(place, levels[place].name)
        check_teacher(stage, levels[place], lambda: teachers[-1], folder)
    return teachers


def _teach(
    stage: Stage[Recipe], lesson: Lesson, teachers: Sequence[LoadedModel], student: LoadedModel
) -> None:
    """Train one level; its checkpoints go to its folder, its figures to the run's log."""
    level, run = stage.recipe.pyramid[lesson.student], stage.run
    teaching = build_teaching(stage, lesson, teachers, student)
    taught_by = " and ".join(stage.recipe.pyramid[place].name for place in lesson.teachers)
    train(
        teaching.student,
        teaching.teachers,
        teaching.objective,
        teaching.source,
        teaching.settings,
        run.level(lesson.student, level.name),
        stage.reporter,
        log=build_log(stage, level.name),
        accelerator=build_accelerator(stage.runtime),
        resume=run.resumed,
        task=f"{level.name}, taught by {taught_by or 'labels alone'}",
        evaluate=build_evaluate(stage, student, teaching.settings.micro_batch_size),
    )


def build_teaching(
    stage: Stage[Recipe],
    lesson: Lesson,
    teachers: Sequence[LoadedModel],
    student: LoadedModel,
    build_source: SourceBuilder = build_source,
) -> Teaching:
    """Put together what one lesson is made of.

    Args:
        stage: the run.
        lesson: who learns from whom.
        teachers: loaded, nearest first; the first one is a learner too where the recipe is mutual.
        student: loaded, what is trained of it requiring gradients.
        build_source: of the records, as a model reads them.

    Returns:
        What is trained, by whom, on what and how; models that learn keep activations as their recipe says.
    """
    level, mutual = stage.recipe.pyramid[lesson.student], stage.recipe.distill.mutual and bool(teachers)
    if level.train is not None and level.train.gradient_checkpointing:
        for learner in (student, *teachers[: int(mutual)]):
            enable_gradient_checkpointing(learner.model)
    signals = LiveTeachers(
        [AnswerModel(teacher.model) for teacher in teachers],
        _build_own_sources(stage, teachers, student, build_source),
        mutual=mutual,
    )
    return Teaching(
        AnswerModel(student.model),
        signals,
        _build_objective(stage, lesson, teachers, student),
        build_source(stage, student),
        _build_settings(stage, lesson),
    )


def _build_own_sources(
    stage: Stage[Recipe],
    teachers: Sequence[LoadedModel],
    student: LoadedModel,
    build_source: SourceBuilder,
) -> list[BatchSource | None]:
    """A source for each teacher that reads differently from the student; one for all that read alike."""
    distill = stage.recipe.distill
    sources: list[BatchSource | None] = []
    known: dict[str, BatchSource] = {}
    for place, teacher in enumerate(teachers):
        learns = distill.mutual and place == 0
        if check_reading(teacher, student, choice_only=distill.choice_weight == 1.0, learns=learns):
            sources.append(None)
            continue
        stage.reporter.note(f"{teacher.source} reads records in its own way: they are prepared for it apart")
        reading = compute_prompt_hash(teacher.processor)
        sources.append(known.setdefault(reading, build_source(stage, teacher)))
    return sources


def _build_objective(
    stage: Stage[Recipe], lesson: Lesson, teachers: Sequence[LoadedModel], student: LoadedModel
) -> OnlineObjective | MutualObjective:
    distill = stage.recipe.distill
    heads = [get_vocabulary_size(loaded.model) for loaded in (student, *teachers)]
    objective = OnlineObjective(
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
    return MutualObjective(objective) if distill.mutual and teachers else objective


def _build_settings(stage: Stage[Recipe], lesson: Lesson) -> TrainSettings:
    """The level's settings; without a teacher lambda is 0, and labels are all there is."""
    schedule = stage.recipe.distill.lambda_
    return build_settings(
        stage,
        lesson.student,
        lambda_schedule=schedule.schedule if lesson.teachers else "constant",
        lambda_start=schedule.start if lesson.teachers else 0.0,
        lambda_end=schedule.end if lesson.teachers else None,
    )
