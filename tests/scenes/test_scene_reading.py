"""Reading a picture undoes drawing it, and sees what a person sees in a mildly worse one."""

from __future__ import annotations

import io
import random
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from hkdcli.scenes.oracle import mirror_scene
from hkdcli.scenes.reading import UnreadableSceneError, read_scene
from hkdcli.scenes.world import COLOURS, IMAGE_PX, SHAPES, SIZES, Scene, Thing, draw_scene, render_scene

Shown = tuple[list[tuple[tuple[int, int], str, str, str]], tuple[int, int] | None]


def draw(rng: random.Random) -> Scene:
    """A scene of one to four things, one in three with a cover."""
    scene = draw_scene(rng, least=1)
    return replace(scene, covered=rng.choice(scene.things).cell) if rng.random() < 1 / 3 else scene


def tell(scene: Scene) -> Shown:
    """What is to be seen: jitter aside."""
    return sorted((t.cell, t.shape, t.colour, t.size) for t in scene.visible), scene.covered


@given(st.integers(0, 2**32))
@settings(max_examples=200)
def test_reading_is_the_inverse_of_drawing(seed):
    scene = draw(random.Random(seed))
    assert tell(read_scene(render_scene(scene))) == tell(scene)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_each_thing_is_read_in_each_colour_and_at_each_jitter(shape, size):
    for index, colour in enumerate(COLOURS):
        jitter = (index % 3 - 1, index // 3 % 3 - 1)
        scene = Scene((Thing(shape, colour, size, (index % 3, 2 - index // 3), jitter),))
        assert tell(read_scene(render_scene(scene))) == tell(scene)


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_a_mirrored_picture_shows_the_mirrored_scene(seed):
    scene = draw(random.Random(seed))
    assert tell(read_scene(ImageOps.mirror(render_scene(scene)))) == tell(mirror_scene(scene))


def test_an_empty_picture_of_any_colour_shows_nothing():
    for colour in ((240, 240, 236), (255, 255, 255), (90, 120, 60)):
        assert read_scene(Image.new("RGB", (IMAGE_PX, IMAGE_PX), colour)) == Scene(())


def compress(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=2)
    return Image.open(buffer).convert("RGB")


def add_noise(image: Image.Image, rng: random.Random, deviation: float) -> Image.Image:
    levels = np.asarray(image, dtype=float)
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, deviation, levels.shape)
    return Image.fromarray(np.clip(levels + noise, 0, 255).astype(np.uint8))


def crop(image: Image.Image, rng: random.Random, share: float) -> Image.Image:
    left, top, right, bottom = (rng.choice((0, share)) * IMAGE_PX for _ in range(4))
    box = (left, top, IMAGE_PX - right, IMAGE_PX - bottom)
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def rescale(image: Image.Image, share: float) -> Image.Image:
    small = image.resize([round(share * side) for side in image.size], Image.Resampling.BILINEAR)
    return small.resize(image.size, Image.Resampling.BICUBIC)


HARMLESS = {
    "brightness": lambda image, rng: ImageEnhance.Brightness(image).enhance(rng.uniform(0.7, 1.3)),
    "contrast": lambda image, rng: ImageEnhance.Contrast(image).enhance(rng.uniform(0.7, 1.3)),
    "saturation": lambda image, rng: ImageEnhance.Color(image).enhance(rng.uniform(0.6, 1.4)),
    "blur": lambda image, rng: image.filter(ImageFilter.GaussianBlur(1.2)),
    "noise": lambda image, rng: add_noise(image, rng, 15),
    "jpeg": lambda image, rng: compress(image, 40),
    "rescale": lambda image, rng: rescale(image, 0.5),
    "crop": lambda image, rng: crop(image, rng, 0.05),
    "larger": lambda image, rng: image.resize((200, 150), Image.Resampling.BICUBIC),
    "all": lambda image, rng: add_noise(crop(image, rng, 0.05).filter(ImageFilter.GaussianBlur(0.8)), rng, 8),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_a_person_sees_through_is_seen_through(name):
    rng = random.Random(name)
    for _ in range(40):
        scene = draw(rng)
        assert tell(read_scene(HARMLESS[name](render_scene(scene), rng))) == tell(scene)


def test_a_colour_is_named_as_it_looks_not_as_it_was_painted():
    def turn(colour: str, degrees: int) -> str:
        image = render_scene(Scene((Thing("square", colour, "large", (1, 1)),)))
        hue, saturation, value = image.convert("HSV").split()
        hue = hue.point([(level + degrees * 256 // 360) % 256 for level in range(256)])
        turned = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
        return read_scene(turned).things[0].colour

    assert turn("orange", 12) == "yellow"
    assert turn("yellow", -14) == "orange"
    assert turn("red", 120) == "green"
    assert turn("blue", 3) == "blue"
    assert turn("black", 120) == "black"


def test_what_cannot_be_told_is_unreadable():
    with pytest.raises(UnreadableSceneError, match="looks like this"):
        read_scene(add_noise(Image.new("RGB", (IMAGE_PX, IMAGE_PX), "white"), random.Random(0), 120))
    grey = render_scene(Scene((Thing("circle", "red", "large", (0, 1)),))).convert("L")
    with pytest.raises(UnreadableSceneError, match="grey"):
        read_scene(ImageEnhance.Brightness(grey.convert("RGB")).enhance(1.5))
    two = render_scene(Scene((), (0, 0)))
    two.paste(two.crop((0, 0, 24, 24)), (48, 48))
    with pytest.raises(UnreadableSceneError, match="more than one"):
        read_scene(two)


def test_a_picture_is_read_in_a_few_milliseconds():
    pictures = [render_scene(draw(random.Random(seed))) for seed in range(40)]
    read_scene(pictures[0])
    started = time.process_time()
    for picture in pictures:
        read_scene(picture)
    assert (time.process_time() - started) / len(pictures) < 0.05
