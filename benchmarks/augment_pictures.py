"""Pictures of the benchmark of augmentation: like photos, made from code, or real ones; and drawn scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from hkdcli.data.images import ImageFolder
from hkdcli.scenes.records import build_record
from hkdcli.scenes.world import render_scene

PHOTO_SIZE = (512, 340)
COUNT = 8
"""Of each kind."""


def make_photos() -> list[Image.Image]:
    """Fractal noise in three colours with shapes on it: soft areas, edges and detail of every size."""
    return [_make_photo(np.random.default_rng(seed)) for seed in range(COUNT)]


def _make_photo(rng: np.random.Generator) -> Image.Image:
    width, height = PHOTO_SIZE
    levels = np.zeros((height, width, 3))
    for octave in range(2, 9):
        cells = rng.standard_normal((2**octave * height // width + 1, 2**octave, 3)).clip(-2, 2)
        tile = Image.fromarray((cells * 60 + 128).astype(np.uint8)).resize(
            PHOTO_SIZE, Image.Resampling.BICUBIC
        )
        levels += (np.asarray(tile) - 128.0) * 1.6 / octave
    picture = Image.fromarray((levels + rng.uniform(80, 170, 3)).clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(12):
        left, top = int(rng.integers(0, width - 40)), int(rng.integers(0, height - 40))
        box = (left, top, left + int(rng.integers(8, 120)), top + int(rng.integers(8, 120)))
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        (pen.ellipse if rng.random() < 0.5 else pen.rectangle)(box, fill=colour)
    return picture


def load_photos(folder: Path) -> list[Image.Image]:
    """The first pictures of a folder by name, cut to one size, so that figures can be compared."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    images = ImageFolder(folder)
    return [ImageOps.fit(images.load(name).image, PHOTO_SIZE) for name in names[:COUNT]]


def draw_scenes() -> list[Image.Image]:
    return [render_scene(build_record("train", index).scene) for index in range(COUNT)]
