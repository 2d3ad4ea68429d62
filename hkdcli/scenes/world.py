"""The embedded world: scenes of a few coloured shapes on a 3 x 3 grid, drawn with Pillow.

A scene is small enough that everything true of it can be computed, which makes it the one place where a
label is never in doubt. Which split a scene belongs to is a hash of its content, so that train, dev and test
can never share one.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from PIL import Image, ImageDraw

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")

GRID = 3
CELL_PX = 24
IMAGE_PX = GRID * CELL_PX
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "green": (30, 150, 50),
    "blue": (40, 70, 220),
    "yellow": (245, 215, 40),
    "purple": (140, 50, 170),
    "orange": (245, 135, 25),
    "cyan": (50, 200, 215),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "diamond")
SIZES = ("large", "small")
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "centre", "right")
CELLS = tuple((row, column) for row in range(GRID) for column in range(GRID))
Cell = tuple[int, int]

_BACKGROUND = (240, 240, 236)
_COVER = (150, 150, 150)
_RADIUS_PX = {"large": 10.0, "small": 6.0}
_OVERSAMPLING = 4


@dataclass(frozen=True, slots=True)
class Thing:
    """One shape in one cell; `jitter` shifts it by -1, 0 or 1 pixel in x and y."""

    shape: str
    colour: str
    size: str
    cell: Cell
    jitter: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Scene:
    """Things in distinct cells; no two visible ones share a colour. `covered` hides one cell, if any."""

    things: tuple[Thing, ...]
    covered: Cell | None = None

    @property
    def visible(self) -> tuple[Thing, ...]:
        """The things that a person looking at the picture sees."""
        return tuple(thing for thing in self.things if thing.cell != self.covered)

    def at(self, cell: Cell) -> Thing | None:
        """The thing in `cell`, covered or not."""
        return next((thing for thing in self.things if thing.cell == cell), None)

    def of_colour(self, colour: str) -> Thing | None:
        """The visible thing of that colour."""
        return next((thing for thing in self.visible if thing.colour == colour), None)


def compute_split(scene: Scene) -> Split:
    """The split that a scene belongs to: by a hash of what is drawn, 80 % train, 10 % dev, 10 % test."""
    shown = sorted((t.cell, t.shape, t.colour, t.size) for t in scene.visible)
    bucket = hashlib.sha256(repr((shown, scene.covered)).encode()).digest()[0] % 10
    return "test" if bucket == 0 else "dev" if bucket == 1 else "train"


def build_scene(rng: random.Random, split: Split, *, least: int = 2, most: int = 4) -> Scene:
    """Draw scenes of `least` to `most` things from `rng` until one belongs to `split`."""
    while True:
        scene = draw_scene(rng, least=least, most=most)
        if compute_split(scene) == split:
            return scene


def draw_scene(rng: random.Random, *, least: int = 2, most: int = 4) -> Scene:
    """A scene of `least` to `most` things, of whatever split."""
    count = rng.randint(least, most)
    cells = rng.sample(CELLS, count)
    colours = rng.sample(list(COLOURS), count)
    things = (
        Thing(rng.choice(SHAPES), colour, rng.choice(SIZES), cell, (rng.randint(-1, 1), rng.randint(-1, 1)))
        for cell, colour in zip(cells, colours, strict=True)
    )
    return Scene(tuple(things))


def render_scene(scene: Scene) -> Image.Image:
    """The scene as a 72 x 72 RGB picture."""
    image = Image.new("RGB", (IMAGE_PX, IMAGE_PX), _BACKGROUND)
    for thing in scene.visible:
        row, column = thing.cell
        tile = _draw_tile(thing.shape, thing.colour, thing.size, thing.jitter)
        image.paste(tile, (column * CELL_PX, row * CELL_PX))
    if scene.covered is not None:
        row, column = scene.covered
        image.paste(_draw_cover(), (column * CELL_PX, row * CELL_PX))
    return image


@cache
def _draw_tile(shape: str, colour: str, size: str, jitter: tuple[int, int]) -> Image.Image:
    scale = _OVERSAMPLING
    tile = Image.new("RGB", (CELL_PX * scale, CELL_PX * scale), _BACKGROUND)
    centre_x = (CELL_PX / 2 + jitter[0]) * scale
    centre_y = (CELL_PX / 2 + jitter[1]) * scale
    radius = _RADIUS_PX[size] * scale
    draw = ImageDraw.Draw(tile)
    if shape == "circle":
        box = (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius)
        draw.ellipse(box, fill=COLOURS[colour])
    else:
        corners = [(centre_x + radius * x, centre_y + radius * y) for x, y in _OUTLINES[shape]]
        draw.polygon(corners, fill=COLOURS[colour])
    return tile.resize((CELL_PX, CELL_PX), Image.Resampling.BOX)


@lru_cache(maxsize=1)
def _draw_cover() -> Image.Image:
    """A grey cloth with a dark hatch: like no thing, whatever its colour."""
    tile = Image.new("RGB", (CELL_PX, CELL_PX), _COVER)
    draw = ImageDraw.Draw(tile)
    for offset in range(-CELL_PX, CELL_PX, 6):
        draw.line((offset, CELL_PX, offset + CELL_PX, 0), fill=(90, 90, 90))
    return tile


# Corners on a unit disc around the centre, y downwards.
_OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "square": ((-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)),
    "triangle": ((0.0, -1.0), (1.0, 0.8), (-1.0, 0.8)),
    "diamond": ((0.0, -1.0), (0.65, 0.0), (0.0, 1.0), (-0.65, 0.0)),
    "cross": (
        (-0.3, -1.0), (0.3, -1.0), (0.3, -0.3), (1.0, -0.3), (1.0, 0.3), (0.3, 0.3),
        (0.3, 1.0), (-0.3, 1.0), (-0.3, 0.3), (-1.0, 0.3), (-1.0, -0.3), (-0.3, -0.3),
    ),
    "star": (
        (0.0, -1.0), (0.225, -0.309), (0.951, -0.309), (0.363, 0.118), (0.588, 0.809),
        (0.0, 0.382), (-0.588, 0.809), (-0.363, 0.118), (-0.951, -0.309), (-0.225, -0.309),
    ),
}  # fmt: skip
