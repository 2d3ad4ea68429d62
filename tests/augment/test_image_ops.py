"""Operations on the picture: laws of all, the limits and numbers of each, and what each leaves alone."""

from __future__ import annotations

import json
from io import BytesIO
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter
from tiny_records import make_factuality, make_hallucination

from hkdcli.augment.degrade_ops import JPEG_LARGEST_PX, SMALLEST_SIDE_PX
from hkdcli.augment.operations import Change, Refusal, Sample, apply_operation, get_operations
from hkdcli.data.records import Example

NAMES = tuple(name for name, each in get_operations().items() if each.kind == "image")
GRADUAL = ("brightness", "contrast", "saturation", "hue", "blur", "noise", "rescale", "crop")
"""Those that come to nothing as their strength does."""
PLAIN = make_factuality(claim="A dog sits on a sofa.", context="A man walks his dog.")
"""Speaks of nothing that an operation may falsify."""
COLOURED = make_factuality(claim="A dog sits on a red sofa.", context="A man walks his dog.")


def draw_picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours with a little grain, as a photo has."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (4, 4, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = rng.integers(-10, 11, (height, width, 3))
    return Image.fromarray((np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8))


PICTURE = draw_picture(240, 180)


def apply(
    name: str, image: Image.Image = PICTURE, seed: int = 0, strength: float = 1.0, example: Example = PLAIN
) -> Change | Refusal:
    return apply_operation(get_operations()[name], Sample(example, image), Random(seed), strength)


def change(name: str, image: Image.Image = PICTURE, seed: int = 0, strength: float = 1.0) -> Change:
    made = apply(name, image, seed, strength)
    assert isinstance(made, Change), made
    return made


def collect(name: str, *, strength: float = 1.0, example: Example = PLAIN, count: int = 60) -> list[Change]:
    made = [apply(name, PICTURE, seed, strength, example) for seed in range(count)]
    return [each for each in made if isinstance(each, Change)]


def levels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(np.float64)


def measure_difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(levels(one) - levels(other)).mean())


# Laws


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_record_is_changed(name):
    assert len(collect(name)) == 60


@given(
    st.sampled_from(NAMES),
    st.tuples(st.integers(1, 130), st.integers(1, 130)),
    st.integers(0, 2**32),
    st.sampled_from([1e-3, 0.4, 1.0]),
)
def test_any_size_is_kept_and_so_are_mode_sample_and_record(name, size, seed, strength):
    image = draw_picture(*size, seed % 5)
    before = image.tobytes()
    made = apply(name, image, seed, strength)
    assert (image.size, image.tobytes()) == (size, before)
    if isinstance(made, Refusal):
        return
    assert (made.image.size, made.image.mode) == (size, "RGB")
    assert made.image.tobytes() != before
    assert made.example == PLAIN
    assert json.loads(json.dumps(made.parameters)) == made.parameters
    assert made.parameters
    again = apply(name, image, seed, strength)
    assert isinstance(again, Change)
    assert (again.image.tobytes(), again.parameters) == (made.image.tobytes(), made.parameters)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "flip"])
def test_another_seed_is_another_picture(name):
    assert len({each.image.tobytes() for each in collect(name, count=20)}) > 4


@pytest.mark.parametrize("name", GRADUAL)
def test_the_weaker_the_less_down_to_nothing(name):
    strong, medium, weak = (
        [show(name, seed, strength) for seed in range(8)] for strength in (1.0, 0.6, 1e-3)
    )
    assert sum(measure_difference(PICTURE, each) for each in strong) > sum(
        measure_difference(PICTURE, each) for each in medium
    )
    # Pillow cuts fractions off when it blends, so a level may be lost.
    assert max(np.abs(levels(PICTURE) - levels(each)).max() for each in weak) <= 1


def show(name: str, seed: int, strength: float) -> Image.Image:
    made = apply(name, seed=seed, strength=strength)
    return PICTURE if isinstance(made, Refusal) else made.image


def test_jpeg_comes_to_its_best_quality_and_flip_has_no_degrees():
    assert {each.parameters["quality"] for each in collect("jpeg", strength=1e-3)} == {90}
    assert change("flip", strength=1e-3).image.tobytes() == change("flip").image.tobytes()


@pytest.mark.parametrize("name", [*GRADUAL, "jpeg"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (4000, 7)])
def test_extreme_shapes_are_changed_or_refused(name, size):
    made = apply(name, draw_picture(*size))
    assert isinstance(made, Refusal) or made.image.size == size


def test_a_picture_that_is_too_long_for_jpeg_is_refused():
    assert apply("jpeg", Image.new("RGB", (JPEG_LARGEST_PX + 1, 1))) == Refusal("too large for JPEG")
    assert isinstance(apply("jpeg", draw_picture(JPEG_LARGEST_PX, 1)), Change)


# Limits


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
@pytest.mark.parametrize(("example", "limit"), [(PLAIN, 0.3), (COLOURED, 0.12)])
@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_photometric_factors_stay_within_the_limit_which_a_named_colour_lowers(
    name, example, limit, strength
):
    offsets = [each.parameters["factor"] - 1 for each in collect(name, strength=strength, example=example)]
    assert all(limit * strength / 3 - 1e-4 <= abs(each) <= limit * strength + 1e-4 for each in offsets)
    assert max(offsets) > 0.8 * limit * strength
    assert min(offsets) < -0.8 * limit * strength


@pytest.mark.parametrize(
    ("name", "parameter", "least", "most"),
    [
        ("hue", "degrees", -12, 12),
        ("blur", "radius_px", 0, 0.36 + 0.005 * 180),
        ("noise", "deviation", 0, 12),
        ("jpeg", "quality", 35, 90),
        ("rescale", "scale", 0.5, 1),
    ],
)
def test_parameters_stay_within_their_limits_and_come_near_them(name, parameter, least, most):
    drawn = [each.parameters[parameter] for each in collect(name)]
    assert least <= min(drawn) <= max(drawn) <= most + 1e-3
    assert max(drawn) - min(drawn) > (most - least) / 3


class Farthest(Random):
    """Draws the end of every range."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_hue_stays_within_its_limit_at_the_very_end_of_the_range():
    for seed in range(4):
        made = apply_operation(get_operations()["hue"], Sample(PLAIN, PICTURE), Farthest(seed), 1.0)
        assert isinstance(made, Change)
        assert 11 < abs(made.parameters["degrees"]) <= 12


@given(st.tuples(st.integers(1, 700), st.integers(1, 700)), st.integers(0, 2**32))
def test_crop_leaves_at_least_95_percent_of_each_side(size, seed):
    made = apply("crop", Image.new("RGB", size), seed)
    if isinstance(made, Refusal):  # of one colour, so that nothing shows
        made = apply("crop", draw_picture(*size), seed)
    if isinstance(made, Refusal):
        assert min(size) < 60
        return
    left, top, right, bottom = made.parameters["box"]
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert right - left >= 0.95 * size[0]
    assert bottom - top >= 0.95 * size[1]


def test_a_crop_may_take_from_every_edge():
    boxes = np.array([each.parameters["box"] for each in collect("crop")])
    edges = boxes - np.array([0, 0, *PICTURE.size])
    assert ((edges == 0).any(axis=0) & (edges != 0).any(axis=0)).all()


@pytest.mark.parametrize("seed", range(6))
def test_rescale_never_goes_below_the_smallest_side(seed):
    assert change("rescale", draw_picture(512, 340), seed).parameters["scale"] >= 0.5
    assert apply("rescale", draw_picture(300, SMALLEST_SIDE_PX), seed) == Refusal("too small to be shrunk")


# Numbers


def test_brightness_multiplies_every_level():
    made = change("brightness", seed=3)
    expected = (levels(PICTURE) * made.parameters["factor"]).clip(0, 255)
    assert np.abs(levels(made.image) - expected).max() <= 1


def test_contrast_stretches_levels_around_the_mean():
    made = change("contrast", seed=3)
    mean = round(levels(PICTURE.convert("L")).mean())
    expected = (mean + (levels(PICTURE) - mean) * made.parameters["factor"]).clip(0, 255)
    assert np.abs(levels(made.image) - expected).max() <= 1


@pytest.mark.parametrize(
    ("name", "enhancer"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_photometric_pictures_are_those_of_pillow_to_the_byte(name, enhancer):
    for seed in range(20):
        made = change(name, seed=seed)
        assert made.image.tobytes() == enhancer(PICTURE).enhance(made.parameters["factor"]).tobytes()


def test_saturation_stretches_colours_around_their_grey():
    made = change("saturation", seed=3)
    grey = levels(PICTURE.convert("L"))[:, :, None]
    expected = (grey + (levels(PICTURE) - grey) * made.parameters["factor"]).clip(0, 255)
    assert np.abs(levels(made.image) - expected).max() <= 1


@pytest.mark.parametrize("seed", range(4))
def test_hue_turns_by_the_degrees_it_tells_and_leaves_greys_and_the_brightest_channel(seed):
    image = Image.new("RGB", (2, 1), (0, 200, 0))
    image.putpixel((1, 0), (90, 90, 90))
    made = change("hue", image, seed)
    red, green, blue = made.image.getpixel((0, 0))
    turned = (blue - red) / 200 * 60
    assert turned == pytest.approx(made.parameters["degrees"], abs=1)
    assert green == 200
    assert made.image.getpixel((1, 0)) == (90, 90, 90)


@pytest.mark.parametrize("seed", range(4))
def test_blur_rescale_and_jpeg_do_what_their_parameters_say(seed):
    blurred, scaled, packed = (change(name, seed=seed) for name in ("blur", "rescale", "jpeg"))
    radius = ImageFilter.GaussianBlur(blurred.parameters["radius_px"])
    assert blurred.image.tobytes() == PICTURE.filter(radius).tobytes()
    scale = scaled.parameters["scale"]
    small = PICTURE.resize((round(240 * scale), round(180 * scale)), Image.Resampling.BOX)
    assert scaled.image.tobytes() == small.resize(PICTURE.size, Image.Resampling.BICUBIC).tobytes()
    file = BytesIO()
    PICTURE.save(file, "JPEG", quality=packed.parameters["quality"])
    with Image.open(file) as opened:
        assert packed.image.tobytes() == opened.convert("RGB").tobytes()


def test_blur_spreads_a_point_by_the_deviation_that_it_tells_and_loses_no_light():
    image = Image.new("RGB", (301, 301))
    image.paste((255, 255, 255), (149, 149, 152, 152))
    made = change("blur", image, seed=1)
    light = levels(made.image)[:, :, 0]
    across = light.sum(axis=0) / light.sum()
    places = np.arange(301) - 150
    own = 2 / 3  # variance of the three pixels of the point itself
    assert np.sqrt((across * places**2).sum() - own) == pytest.approx(made.parameters["radius_px"], rel=0.15)
    assert light.sum() == pytest.approx(9 * 255, rel=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_gaussian_with_the_deviation_that_it_tells_and_its_own_for_each_level(seed):
    image = Image.new("RGB", (150, 150), (128, 128, 128))
    made = change("noise", image, seed)
    grain = levels(made.image) - 128
    deviation = made.parameters["deviation"]
    assert grain.std() == pytest.approx(deviation, rel=0.03)
    assert abs(grain.mean()) < 0.2
    assert (np.abs(grain) < deviation).mean() == pytest.approx(0.683, abs=0.06)
    for one, other in (
        (grain[:, :, 0], grain[:, :, 1]),
        (grain[1:], grain[:-1]),
        (grain[:, 1:], grain[:, :-1]),
    ):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.03


def test_noise_of_two_seeds_has_nothing_in_common():
    image = Image.new("RGB", (150, 150), (128, 128, 128))
    one, other = (levels(change("noise", image, seed).image).ravel() for seed in (0, 1))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03


def test_jpeg_costs_more_the_lower_its_quality():
    made = sorted(collect("jpeg"), key=lambda each: each.parameters["quality"])
    worst, best = (measure_difference(PICTURE, made[place].image) for place in (0, -1))
    assert worst > best > 0


def test_rescale_takes_the_finest_detail_and_keeps_flat_areas():
    stripes = np.zeros((120, 120, 3), np.uint8)
    stripes[:, 60::2] = 255
    image = Image.fromarray(stripes)
    made = change("rescale", image, seed=2)
    assert levels(made.image)[:, 70:].std() < 0.6 * levels(image)[:, 70:].std()
    assert levels(made.image)[:, :50].max() == 0


def test_crop_shows_the_inside_of_its_box():
    ramp = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (160, 1, 3))
    made = change("crop", Image.fromarray(ramp), seed=4)
    left, _, right, _ = made.parameters["box"]
    shown = levels(made.image)[80, :, 0]
    assert (np.diff(shown) >= 0).all()
    assert shown[0] == pytest.approx(left, abs=1)
    assert shown[-1] == pytest.approx(right - 1, abs=1)


def test_where_a_colour_is_named_white_stays_white_and_black_black():
    image = Image.new("RGB", (2, 1))
    image.putpixel((0, 0), (255, 255, 255))
    for name in ("brightness", "contrast", "saturation"):
        for seed in range(20):
            made = apply(name, image, seed, example=COLOURED)
            if isinstance(made, Change):
                white, black = (made.image.getpixel((place, 0)) for place in (0, 1))
                assert min(white) >= 220
                assert max(black) <= 20


# What is left alone


@pytest.mark.parametrize(
    ("names", "word", "topic"),
    [
        (("hue",), "red", "colour"),
        (("brightness", "contrast", "hue"), "dark", "light"),
        (("brightness", "contrast", "saturation", "blur", "noise", "jpeg", "rescale"), "blurry", "quality"),
        (("blur", "noise", "jpeg", "rescale", "crop", "flip"), "sign", "text"),
        (("crop",), "three", "count"),
        (("crop",), "corner", "place"),
        (("crop",), "tiny", "size"),
    ],
)
def test_an_operation_leaves_a_record_alone_that_speaks_of_what_it_may_falsify(names, word, topic):
    example = make_hallucination(caption=f"a dog and a {word} cat", phrases=("dog", "cat", "man"))
    refused = {name for name in NAMES if isinstance(apply(name, example=example), Refusal)}
    assert set(names) <= refused
    for name in names:
        assert apply(name, example=example) == Refusal(f"{topic}: {word}")


@pytest.mark.parametrize("name", NAMES)
def test_a_record_that_is_not_english_is_left_alone(name):
    example = make_hallucination(caption="un perro rojo a la izquierda de la mesa", phrases=("perro", "mesa"))
    assert isinstance(apply(name, example=example), Refusal)


@pytest.mark.parametrize("name", ["contrast", "saturation", "hue", "blur", "crop", "rescale", "flip"])
def test_a_grey_picture_without_anything_on_it_has_nothing_to_change(name):
    assert apply(name, Image.new("RGB", (80, 80), (90, 90, 90))) == Refusal("nothing to change")


def test_saturation_has_nothing_to_change_in_a_grey_photo():
    grey = PICTURE.convert("L").convert("RGB")
    assert apply("saturation", grey) == Refusal("nothing to change")
    assert isinstance(apply("brightness", grey), Change)
