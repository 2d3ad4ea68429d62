"""Phases against a machine's room: does each fit, how many examples at once, and what would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from hkdcli.planning.lesson import TrainingMemory
from hkdcli.planning.phases import Phase
from hkdcli.planning.room import Room
from hkdcli.recipe import Recipe

if TYPE_CHECKING:
    from hkdcli.recipe import Level, RunRecipe


_AMPLE = 0.9  # share of the room below which a line need not be borne out
_PROBE = 4  # examples: more take long to rehearse


@dataclass(frozen=True, slots=True)
class FittedPhase:
    """A phase, what it takes, and whether there is room.

    Attributes:
        phase: what is done.
        memory: with the recipe's batch size.
        need: bytes, overhead and waste included.
        fits: whether there is room.
        largest: the most examples at once that fit, no more than a step has; 0: not even one.
    """

    phase: Phase
    memory: TrainingMemory
    need: int
    fits: bool
    largest: int


def fit_phase(phase: Phase, room: Room) -> FittedPhase:
    """Measure a phase, and find how many examples at once fit.

    Args:
        phase: to be rehearsed; a few times, with different numbers of examples.
        room: of the machine.

    Returns:
        What was found.
    """
    memory = phase.measure(phase.batch_size)
    largest = find_largest(phase, room, most=phase.most)
    return FittedPhase(phase, memory, room.compute_need(memory), room.fits(memory), largest)


def find_largest(phase: Phase, room: Room, *, most: int) -> int:
    """Find the largest number of examples that fit at once.

    Memory grows evenly with the number of equally long examples: one and two of them give a line, and a third
    rehearsal, where the line ends or at four, corrects it.

    Args:
        phase: to be rehearsed.
        room: of the machine.
        most: examples of a step.

    Returns:
        From 0 (not even one fits) to `most`.
    """
    one = room.compute_need(phase.measure(1))
    if one > room.usable or most == 1:
        return int(one <= room.usable)

    def count_fitting(each: float) -> int:
        return most if each <= 0 else min(most, 1 + int((room.usable - one) / each))

    each: float = room.compute_need(phase.measure(2)) - one
    probe = min(_PROBE, count_fitting(each))
    if probe > 2 and one + each * (count_fitting(each) - 1) > _AMPLE * room.usable:
        each = (room.compute_need(phase.measure(probe)) - one) / (probe - 1)
    return count_fitting(each)


def find_change(
    recipe: RunRecipe,
    phase: Phase,
    room: Room,
    replan: Callable[[Sequence[str]], Phase],
) -> tuple[str, ...] | None:
    """Find the smallest change of a recipe that makes a phase fit.

    A smaller micro-batch with as many examples in a step is the smallest: it learns the same. Then come
    single changes, the most harmless first, then more and more of them together; each with as large a
    micro-batch as fits, and none that the others make needless.

    Args:
        recipe: as it is.
        phase: that does not fit.
        room: of the machine.
        replan: the same phase of the recipe after changes.

    Returns:
        The changes as `key=value`; None: nothing makes it fit.
    """
    for changes in _list_changes(recipe, phase):
        shrunk = _try(recipe, phase, room, replan, changes)
        if shrunk is not None:
            return _leave_out_needless(recipe, phase, room, replan, changes, shrunk)
    return None


_Replan = Callable[[Sequence[str]], Phase]


def _try(
    recipe: RunRecipe, phase: Phase, room: Room, replan: _Replan, changes: tuple[str, ...]
) -> tuple[str, ...] | None:
    """The changes, with as large a micro-batch as fits; None: not even one example fits."""
    changed = replan(changes) if changes else phase
    for width in range(find_largest(changed, room, most=phase.batch_size), 0, -1):
        # What the line promises is borne out, as the plan of the changed recipe will be.
        if _count_shared_step(recipe, phase) % width == 0 and room.fits(changed.measure(width)):
            return (*changes, *_shrink(recipe, phase, width))
    return None


def _leave_out_needless(
    recipe: RunRecipe,
    phase: Phase,
    room: Room,
    replan: _Replan,
    changes: tuple[str, ...],
    found: tuple[str, ...],
) -> tuple[str, ...]:
    """The first few changes together may hold one that the later ones make needless."""
    for change in changes if len(changes) > 1 else ():
        fewer = tuple(each for each in changes if each != change)
        without = _try(recipe, phase, room, replan, fewer)
        if without is not None:
            changes, found = fewer, without
    return found


def _count_shared_step(recipe: RunRecipe, phase: Phase) -> int:
    """Examples of the step that a smaller micro-batch has to divide."""
    if phase.doing == "train":
        return phase.most
    return recipe.train.micro_batch_size * recipe.train.gradient_accumulation_steps


def _shrink(recipe: RunRecipe, phase: Phase, width: int) -> tuple[str, ...]:
    """Fewer examples at once, and as many in a step; an upper model is asked as many as `train` says."""
    if width >= phase.batch_size:
        return ()
    where = f"pyramid.{phase.level}.train" if phase.doing == "train" else "train"
    smaller = f"{where}.micro_batch_size={width}"
    base = recipe.pyramid[-1].train
    if phase.doing == "ask" and base is not None and base.micro_batch_size != phase.batch_size:
        return (smaller,)  # the student has a size of its own, and keeps its step
    return smaller, f"{where}.gradient_accumulation_steps={_count_shared_step(recipe, phase) // width}"


def _list_changes(recipe: RunRecipe, phase: Phase) -> Iterator[tuple[str, ...]]:
    """Nothing, each change alone, then the first two, three, and so on together."""
    changes = list(_list_single_changes(recipe, phase))
    yield ()
    yield from ((change,) for change in changes)
    yield from list(accumulate(((change,) for change in changes), lambda a, b: a + b))[1:]


def _list_single_changes(recipe: RunRecipe, phase: Phase) -> Iterator[str]:
    levels = {level.name: level for level in recipe.pyramid}
    level = levels.get(phase.level, recipe.pyramid[-1])  # the snapshot is the base as it was
    if phase.doing == "train" and level.train is not None and not level.train.gradient_checkpointing:
        yield f"pyramid.{level.name}.train.gradient_checkpointing=true"
    above = [levels[name] for name in phase.beside if name in levels]
    yield from _list_quantizations(above)
    if phase.doing == "train" and level.tuning == "full" and level.adapter is None:
        yield f"pyramid.{level.name}.tuning={{lora: {{}}}}"
    yield from _list_quantizations([level])
    if isinstance(recipe, Recipe) and len(phase.beside) > 1:
        yield "distill.teachers=parent"
    if recipe.mutual:
        yield "distill.mutual=false"
    if phase.doing == "train" and not isinstance(recipe, Recipe) and phase.beside and recipe.augment is None:
        yield "refine.signals=stored"


def _list_quantizations(levels: Sequence[Level]) -> Iterator[str]:
    for level in levels:
        if (
            level.quantization == "none"
            and (level.tuning != "full" or level.train is None)
            or level.quantization == "int8"
        ):
            yield f"pyramid.{level.name}.quantization=nf4"
        elif level.quantization == "nf4" and level.quantized_parts == "language" and _can_quantize_all(level):
            yield f"pyramid.{level.name}.quantized_parts=all"


def _can_quantize_all(level: Level) -> bool:
    return level.tuning == "full" or not level.tuning.lora.train_projector
