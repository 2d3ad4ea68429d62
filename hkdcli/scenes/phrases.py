"""What can be said of a scene: phrases, whether they are true, and how each is falsified.

Every phenomenon has one form, and a false phrase differs from a true one in just the property that gives the
phenomenon its name:

    object     "red circle"                       the shape is swapped
    colour     "circle in red"                    the colour is swapped, for another thing's or an absent one
    size       "large red shape"                  large <-> small
    position   "red shape at top left"            another cell
    relation   "red shape above blue shape"       the opposite relation, which holds the other way round
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from hkdcli.scenes.world import CELLS, COLOURS, COLUMNS, ROWS, SHAPES, SIZES, Cell, Scene, Thing

T = TypeVar("T")
Phenomenon = Literal["object", "colour", "size", "position", "relation"]
PHENOMENA: tuple[Phenomenon, ...] = ("object", "colour", "size", "position", "relation")
OPPOSITES = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}


@dataclass(frozen=True, slots=True)
class Phrase:
    """One phrase, the phenomenon that it is about, and whether the scene bears it out."""

    text: str
    phenomenon: Phenomenon
    is_true: bool


def render_cell(cell: Cell) -> str:
    """The words for a cell: "top left", "middle centre"."""
    return f"{ROWS[cell[0]]} {COLUMNS[cell[1]]}"


def holds(relation: str, a: Cell, b: Cell) -> bool:
    """Whether `a` stands in `relation` to `b`; being in the same row or column is neither."""
    return {
        "above": a[0] < b[0],
        "below": a[0] > b[0],
        "left of": a[1] < b[1],
        "right of": a[1] > b[1],
    }[relation]


def build_phrase(
    rng: random.Random, scene: Scene, thing: Thing, phenomenon: Phenomenon, truth: bool
) -> Phrase:
    """A phrase about `thing` that is true or false of `scene`; the scene has no covered cell.

    A relation takes the second thing from the scene, which must have at least two.
    """
    return Phrase(_BUILDERS[phenomenon](rng, scene, thing, truth), phenomenon, truth)


def _object(rng: random.Random, scene: Scene, thing: Thing, truth: bool) -> str:
    shape = thing.shape if truth else other(rng, SHAPES, thing.shape)
    return f"{thing.colour} {shape}"


def _colour(rng: random.Random, scene: Scene, thing: Thing, truth: bool) -> str:
    return f"{thing.shape} in {thing.colour if truth else _wrong_colour(rng, scene, thing)}"


def _wrong_colour(rng: random.Random, scene: Scene, thing: Thing) -> str:
    """Half of the time the colour of a thing of another shape, else one that is not in the scene."""
    present = [t.colour for t in scene.visible if t.shape != thing.shape]
    absent = [colour for colour in COLOURS if scene.of_colour(colour) is None]
    return rng.choice(present if present and rng.random() < 0.5 else absent)


def _size(rng: random.Random, scene: Scene, thing: Thing, truth: bool) -> str:
    return f"{thing.size if truth else other(rng, SIZES, thing.size)} {thing.colour} shape"


def _position(rng: random.Random, scene: Scene, thing: Thing, truth: bool) -> str:
    cell = thing.cell if truth else other(rng, CELLS, thing.cell)
    return f"{thing.colour} shape at {render_cell(cell)}"


def _relation(rng: random.Random, scene: Scene, thing: Thing, truth: bool) -> str:
    second = rng.choice([candidate for candidate in scene.visible if candidate != thing])
    relation = rng.choice([word for word in OPPOSITES if holds(word, thing.cell, second.cell)])
    return f"{thing.colour} shape {relation if truth else OPPOSITES[relation]} {second.colour} shape"


def other(rng: random.Random, values: Sequence[T], value: T) -> T:
    """One of `values` that is not `value`."""
    return rng.choice([candidate for candidate in values if candidate != value])


_BUILDERS = {
    "object": _object,
    "colour": _colour,
    "size": _size,
    "position": _position,
    "relation": _relation,
}


def is_true(text: str, scene: Scene) -> bool:
    """The oracle: whether a phrase of this module's grammar is true of a scene.

    Args:
        text: the phrase.
        scene: what is drawn; a covered thing is not there.

    Returns:
        The truth.

    Raises:
        ValueError: the text is no phrase of the grammar.
    """
    match text.split():
        case [colour, "shape", "at", row, column]:
            thing = scene.of_colour(colour)
            return thing is not None and thing.cell == (ROWS.index(row), COLUMNS.index(column))
        case [shape, "in", colour]:
            return any(t.shape == shape and t.colour == colour for t in scene.visible)
        case [size, colour, "shape"]:
            return any(t.size == size and t.colour == colour for t in scene.visible)
        case [colour, "shape", *relation, second_colour, "shape"]:
            first, second = scene.of_colour(colour), scene.of_colour(second_colour)
            return (
                first is not None
                and second is not None
                and holds(" ".join(relation), first.cell, second.cell)
            )
        case [colour, shape]:
            return any(t.shape == shape and t.colour == colour for t in scene.visible)
        case _:
            raise ValueError(f"not a phrase about a scene: {text!r}")
