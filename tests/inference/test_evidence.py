"""Evidence: laws with scorers whose reasons are known, then the picture that shows it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hkdcli.errors import SetupError, UsageError
from hkdcli.inference.evidence import Evidence, compute_evidence, render_evidence

sides = st.integers(1, 40)


def make_noise(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def look_at(box: tuple[int, int, int, int], whole: Image.Image, *, probability: float = 0.8):
    """A scorer that believes as long as the pixels of a box are as they were."""
    expected = whole.crop(box).tobytes()
    return lambda images: [probability if i.crop(box).tobytes() == expected else 0.3 for i in images]


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.integers(1, 6))
def test_a_constant_scorer_gives_no_evidence_anywhere(width, height, grid):
    evidence = compute_evidence(make_noise(width, height), lambda images: [0.6] * len(images), grid=grid)
    assert evidence.shape == (min(grid, height), min(grid, width))
    assert not evidence.any()


@settings(max_examples=40, deadline=None)
@given(st.integers(12, 40), st.integers(12, 40), st.integers(0, 3), st.integers(0, 3))
def test_a_scorer_that_looks_at_one_cell_gives_evidence_there_alone(width, height, row, column):
    image = make_noise(width, height)
    box = (
        *(width * column // 4, height * row // 4),
        *(width * (column + 1) // 4, height * (row + 1) // 4),
    )
    expected = np.zeros((4, 4))
    expected[row, column] = 0.5
    np.testing.assert_allclose(compute_evidence(image, look_at(box, image), grid=4), expected, atol=1e-12)
    against = compute_evidence(image, look_at(box, image, probability=0.1), grid=4)
    np.testing.assert_allclose(against, -0.4 * expected, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(sides, sides, st.integers(1, 6))
def test_cells_cover_each_pixel_once_with_the_mean_colour(width, height, grid):
    image = make_noise(width, height)
    seen: list[np.ndarray] = []

    def score(images):
        seen.extend(np.asarray(i) for i in images)
        return [0.5] * len(images)

    compute_evidence(image, score, grid=grid)
    whole, covered = seen[0], seen[1:]
    mean = np.rint(whole.mean(axis=(0, 1)))
    np.testing.assert_array_equal(whole, np.asarray(image))
    changed = np.zeros(whole.shape[:2], int)
    for picture in covered:
        touched = (picture == mean).all(axis=-1)
        np.testing.assert_array_equal(picture[~touched], whole[~touched])
        changed += touched & ~(whole == mean).all(axis=-1)
    assert (changed == ~(whole == mean).all(axis=-1)).all()


@pytest.mark.parametrize("batch_size", [1, 3, 17, 100])
def test_batches_change_nothing(batch_size):
    image = make_noise(20, 20)
    sizes: list[int] = []

    def score(images):
        sizes.append(len(images))
        return np.array([np.asarray(i)[:, :, 0].mean() / 255 for i in images])

    expected = compute_evidence(image, score, grid=4, batch_size=17)
    sizes.clear()
    np.testing.assert_array_equal(compute_evidence(image, score, grid=4, batch_size=batch_size), expected)
    assert sum(sizes) == 17
    assert max(sizes) <= batch_size


def test_a_scorer_that_forgets_a_picture_is_refused():
    with pytest.raises(ValueError, match="for 8 pictures"):
        compute_evidence(make_noise(9, 9), lambda images: [0.5] * (len(images) - 1))


@pytest.mark.parametrize("grid", [0, -1, 2.5, 2.0, float("nan"), True, "3", None])
def test_a_grid_that_is_no_number_of_cells_is_refused_before_anything_is_asked(grid):
    with pytest.raises(UsageError, match=f"{grid} x {grid}") as refused:
        compute_evidence(make_noise(9, 9), lambda images: pytest.fail("asked"), grid=grid)
    assert refused.value.hint
    assert compute_evidence(make_noise(9, 9), lambda i: [0.5] * len(i), grid=np.int64(3)).shape == (3, 3)


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.integers(1, 7))
def test_the_rendered_map_has_the_size_of_the_picture(width, height, grid):
    image = make_noise(width, height)
    evidence = np.random.default_rng(1).normal(size=(min(grid, height), min(grid, width)))
    shown = render_evidence(image, evidence)
    assert (shown.size, shown.mode) == (image.size, "RGB")
    assert render_evidence(image, 3 * evidence).tobytes() == shown.tobytes()


def test_red_supports_blue_opposes_and_nothing_is_left_as_it_is():
    gray = Image.new("RGB", (30, 20), (128, 128, 128))
    shown = np.asarray(render_evidence(gray, [[0.2, 0.0, -0.1]])).astype(int)
    support, nothing, oppose = (shown[:, 10 * i : 10 * (i + 1)].reshape(-1, 3) for i in range(3))
    assert (support[:, 0] > 128).all() and (support[:, 2] < 128).all()
    assert (nothing == 128).all()
    assert (oppose[:, 2] > 128).all() and (oppose[:, 0] < 128).all()
    assert np.abs(support - 128).sum() > np.abs(oppose - 128).sum()
    assert render_evidence(gray, np.zeros((2, 2))).tobytes() == gray.tobytes()


def test_the_map_is_written_whole_or_not_at_all(tmp_path):
    evidence = Evidence("hallucinated: dog", 0.8, np.array([[0.1, -0.2]]), make_noise(12, 8))
    evidence.write(tmp_path / "new" / "map.png")
    with Image.open(tmp_path / "new" / "map.png") as image:
        assert image.format == "PNG"
        assert image.convert("RGB").tobytes() == evidence.render().tobytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["map.png"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SetupError):
        evidence.write(tmp_path / "file" / "map.png")


@pytest.mark.parametrize("name", ["folder", "folder.png", ".", "a" * 300 + ".png"])
def test_a_map_that_cannot_be_written_there_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for folder in ("folder", "folder.png"):
        (tmp_path / folder).mkdir()
    evidence = Evidence("hallucinated: dog", 0.8, np.array([[0.1, -0.2]]), make_noise(12, 8))
    with pytest.raises(SetupError):
        evidence.write(name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "folder.png"]


def test_a_map_is_written_as_what_its_name_says(tmp_path):
    evidence = Evidence("hallucinated: dog", 0.8, np.array([[0.1, -0.2]]), make_noise(12, 8))
    for name in ("map.jpg", "map", "png", "map.png.gif"):
        with pytest.raises(UsageError, match="PNG") as refused:
            evidence.write(tmp_path / "new" / name)
        assert refused.value.hint
    assert list(tmp_path.iterdir()) == []
    evidence.write(str(tmp_path / "MAP.PNG"))
    with Image.open(tmp_path / "MAP.PNG") as image:
        assert image.format == "PNG"
