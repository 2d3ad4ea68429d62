"""The pyramid of stage one: which level is trained when, and by whom it is taught.

Levels are ordered apex (largest) first, base (what the user deploys) last. They are trained top-down:
level l is the student of levels above it, then becomes a teacher of those below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hkdcli.distill.objective import normalise_weights

if TYPE_CHECKING:
    from hkdcli.recipe import Recipe

Teachers = Literal["parent", "all"]


@dataclass(frozen=True, slots=True)
class Level:
    """One level as the plan needs it.

    Attributes:
        name: unique within the pyramid.
        ready: it is taken as it comes and not trained (an apex that is already tuned).
        weight: how much it counts as one of several teachers, before normalisation.
    """

    name: str
    ready: bool = False
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training: the level at `student` (0 is the apex) learns from those at `teachers`.

    Attributes:
        student: position of the learning level.
        teachers: positions of its teachers, nearest first; empty when it learns from labels alone.
        weights: one per teacher, summing to 1.
    """

    student: int
    teachers: tuple[int, ...]
    weights: tuple[float, ...]


def plan_recipe_lessons(recipe: Recipe) -> tuple[Lesson, ...]:
    """Say who learns from whom in a run of this recipe, in the order in which it happens."""
    planned = [Level(level.name, level.train is None, level.weight) for level in recipe.pyramid]
    return plan_lessons(planned, recipe.distill.teachers)


def plan_lessons(levels: Sequence[Level], teachers: Teachers = "parent") -> tuple[Lesson, ...]:
    """Say who learns from whom, in the order in which it must happen.

    Args:
        levels: apex first.
        teachers: `parent`: the level above; `all`: every level above.

    Returns:
        One lesson per level that is not ready. The apex, having nobody above, learns from labels alone.

    Raises:
        ValueError: when there is no level, a name occurs twice, or the teachers' weights are all 0.
    """
    names = [level.name for level in levels]
    if not names:
        raise ValueError("a pyramid needs at least one level")
    if len(set(names)) != len(names):
        raise ValueError(f"level names must be unique, not {names}")
    return tuple(
        _plan_lesson(levels, index, teachers) for index, level in enumerate(levels) if not level.ready
    )


def _plan_lesson(levels: Sequence[Level], student: int, teachers: Teachers) -> Lesson:
    nearest_first = range(student - 1, -1, -1)
    above = tuple(nearest_first[:1] if teachers == "parent" else nearest_first)
    weights = normalise_weights([levels[index].weight for index in above]) if above else ()
    return Lesson(student, above, weights)
