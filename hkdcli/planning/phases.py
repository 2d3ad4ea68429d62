"""The phases of a run, each rehearsed: who is in memory, and what they take together at the worst moment."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from hkdcli.distill.asking import tell_reading
from hkdcli.distill.assembly import build_source
from hkdcli.distill.levels import Stage
from hkdcli.distill.live_signals import LiveSignals, LiveUpper
from hkdcli.distill.online import Teaching, build_teaching
from hkdcli.distill.order import Draw
from hkdcli.distill.pyramid import Lesson, plan_recipe_lessons
from hkdcli.distill.reading import Reader
from hkdcli.distill.refine import build_objective, build_refine_settings
from hkdcli.distill.refine_objective import RefineObjective
from hkdcli.distill.sources import BatchSource
from hkdcli.distill.teacher_signal import TeacherSignal
from hkdcli.distill.upper import Coupling, UpperModel, plan_coupling
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import LoadedModel
from hkdcli.models.memory import enable_gradient_checkpointing
from hkdcli.planning.hollow import list_tensors
from hkdcli.planning.lesson import ComputedLow, HollowSource, TrainingMemory, rehearse_training
from hkdcli.planning.records import take_longest
from hkdcli.planning.rehearsal import Ledger, rehearse
from hkdcli.planning.staging import Planned, build_learner, build_teacher, build_upper
from hkdcli.recipe import Recipe
from hkdcli.recipe_refine import SNAPSHOT, RefineRecipe

if TYPE_CHECKING:
    from hkdcli.recipe import Level

Doing = Literal["train", "ask"]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run with its own models in memory.

    Attributes:
        doing: `train` a level, `ask` an upper model for signals to store.
        level: its name.
        beside: names of the upper models that are in memory with it.
        batch_size: examples on the device at once, as the recipe has it.
        measure: rehearses it with so many examples.
        most: as many as a step has: more at once do nothing.
    """

    doing: Doing
    level: str
    beside: tuple[str, ...]
    batch_size: int
    measure: Callable[[int], TrainingMemory]
    most: int


def list_phases(planned: Planned[Any]) -> list[Phase]:
    """The phases of a run of either stage, in order; each builds its models when it is first measured."""
    recipe = planned.stage.recipe
    if isinstance(recipe, RefineRecipe):
        return _list_refine_phases(planned)
    return [_plan_lesson(planned, lesson) for lesson in plan_recipe_lessons(planned.stage.recipe)]


def _plan_lesson(planned: Planned[Recipe], lesson: Lesson) -> Phase:
    recipe = planned.stage.recipe
    level = recipe.pyramid[lesson.student]
    sources: list[HollowSource] = []

    def build_hollow_source(stage: Stage[Recipe], reader: Reader) -> BatchSource:
        sources.append(_build_hollow_source(stage, reader, 1))
        return sources[-1]

    @cache
    def build() -> Teaching:
        teachers, student = _build_lesson(planned, lesson)
        stage = _lengthen(planned.stage, _count_step(level))
        teaching = build_teaching(stage, lesson, teachers, student, build_source=build_hollow_source)
        if recipe.distill.mutual and teachers and planned.machine.bf16:
            teaching.teachers.teachers[0] = ComputedLow(teaching.teachers.teachers[0])
        return teaching

    def measure(width: int) -> TrainingMemory:
        teaching = build()
        for source in sources:
            source.size = width
        return rehearse_training(
            teaching.student,
            teaching.teachers,
            teaching.objective,
            teaching.source,
            teaching.settings,
            bf16=planned.machine.bf16,
        )

    beside = tuple(recipe.pyramid[place].name for place in lesson.teachers)
    return _build_training_phase(level, beside, measure)


def _build_lesson(planned: Planned[Recipe], lesson: Lesson) -> tuple[list[LoadedModel], LoadedModel]:
    learns = planned.stage.recipe.distill.mutual
    teachers = [
        build_learner(planned, place) if learns and not number else build_teacher(planned, place)
        for number, place in enumerate(lesson.teachers)
    ]
    return teachers, build_learner(planned, lesson.student)


def _list_refine_phases(planned: Planned[RefineRecipe]) -> list[Phase]:
    refine = planned.stage.recipe.refine
    coupling = plan_coupling(_lengthen(planned.stage, 1))
    asking = [_plan_asking(planned, upper) for upper in coupling.uppers] if refine.signals == "stored" else []
    return [*asking, _plan_refining(planned, coupling)]


def _plan_refining(planned: Planned[RefineRecipe], coupling: Coupling) -> Phase:
    live = planned.stage.recipe.refine.signals == "live"
    level = planned.stage.recipe.pyramid[planned.stage.base]
    stage = _lengthen(planned.stage, _count_step(level))

    @cache
    def build() -> tuple[LoadedModel, RefineObjective, list[LiveUpper]]:
        student = build_learner(planned, stage.base)
        if level.train is not None and level.train.gradient_checkpointing:
            enable_gradient_checkpointing(student.model)
        with torch.device("meta"):
            objective = build_objective(stage, coupling)
        return student, objective, [_build_live(planned, upper) for upper in coupling.uppers]

    def measure(width: int) -> TrainingMemory:
        student, objective, uppers = build()
        alike = [tell_reading(upper) == tell_reading(student) for upper in coupling.uppers]
        sources = [
            None if shared else _build_hollow_source(stage, upper, width)
            for upper, shared in zip(coupling.uppers, alike, strict=True)
        ]
        signals = LiveSignals(uppers, sources)
        return rehearse_training(
            AnswerModel(student.model, coupling.states),
            signals if live else _Stored(signals),
            objective,
            _build_hollow_source(stage, student, width),
            build_refine_settings(stage),
            bf16=planned.machine.bf16,
        )

    beside = tuple(upper.level.name for upper in coupling.uppers) if live else ()
    return _build_training_phase(level, beside, measure)


class _Stored:
    """What upper models said, computed by them when it is first asked for, and not counted as theirs."""

    def __init__(self, signals: LiveSignals) -> None:
        self.signals: LiveSignals | None = signals

    def __call__(self, batch: Any, draws: Any) -> Any:
        if self.signals is not None:
            with _disable_current_modes(), rehearse(Ledger()), torch.no_grad():
                said, self.signals = self.signals(batch, draws), None
            self.said = deepcopy(said)  # the copy is made here, and counted
        return self.said


def _build_live(planned: Planned[RefineRecipe], upper: UpperModel) -> LiveUpper:
    if upper.level.name == SNAPSHOT:
        model = build_upper(planned, upper.level).model
    else:
        names = [level.name for level in planned.stage.recipe.pyramid]
        model = build_teacher(planned, names.index(upper.level.name)).model
    return LiveUpper(AnswerModel(model, upper.plan.states), upper.plan)


def _plan_asking(planned: Planned[RefineRecipe], upper: UpperModel) -> Phase:
    def measure(width: int) -> TrainingMemory:
        live = _build_live(planned, upper)
        source = _build_hollow_source(_lengthen(planned.stage, width), upper, width)

        def ask() -> None:
            said = live(source.load(_draw(width)).to(torch.device("cpu")))  # moved, so it counts
            planned.signal_bytes[upper.level.name] = _weigh(said) // width

        return _rehearse_forward(live, ask)

    return Phase("ask", upper.level.name, (), upper.level.batch_size, cache(measure), upper.level.batch_size)


def _rehearse_forward(model: nn.Module, call: Callable[[], Any]) -> TrainingMemory:
    ledger = Ledger()
    with rehearse(ledger), torch.no_grad():
        weights = list_tensors(model)
        for tensor in weights:
            ledger.enter(tensor)
        call()
    held = sum(tensor.nbytes for tensor in weights)
    return TrainingMemory(0, held, 0, 0, 0, activations=ledger.peak - held, peak=ledger.peak)


def _build_training_phase(
    level: Level, beside: tuple[str, ...], measure: Callable[[int], TrainingMemory]
) -> Phase:
    assert level.train is not None
    size = level.train.micro_batch_size
    return Phase("train", level.name, beside, size, cache(measure), _count_step(level))


def _count_step(level: Level) -> int:
    """Examples in a step."""
    assert level.train is not None
    return level.train.micro_batch_size * level.train.gradient_accumulation_steps


def _build_hollow_source(stage: Stage[Any], reader: Reader, size: int) -> HollowSource:
    return HollowSource(build_source(stage, reader), size)


def _lengthen(stage: Stage[Any], width: int) -> Stage[Any]:
    """The stage with the longest records alone, as many as may be on the device at once."""
    return replace(stage, data={**stage.data, "train": take_longest(stage.data["train"], width)})


def _weigh(said: TeacherSignal) -> int:
    """Bytes of a signal, as they are stored."""
    parts = [said.log_truth, said.choices, said.logits, said.tokens, said.log_sum_exp]
    states = [said.states.answer, said.states.image] if said.states else []
    return sum(part.nbytes for part in (*parts, *states) if part is not None)


def _draw(width: int) -> list[Draw]:
    return [Draw(0, place) for place in range(width)]
