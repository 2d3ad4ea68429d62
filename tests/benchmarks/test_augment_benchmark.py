"""The benchmark of operations on pictures compares the same work; what it costs is not tested here."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import augment
import augment_contenders
from augment_contenders import RIVALS, draw, open_rivals
from augment_pictures import PHOTO_SIZE, draw_scenes, load_photos, make_photos

from hkdcli.augment.operations import get_operations

NAMES = [name for name, each in get_operations().items() if each.kind == "image"]


class Mirror:
    """A rival that mirrors every picture."""

    name, version = "mirror", "1"

    def build(self, operation, parameters, image):
        return lambda: np.asarray(image)[:, ::-1]

    def convert(self, image):
        return lambda: Image.fromarray(np.asarray(image))

    def read(self, result):
        return result


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes()[:2]


def test_figures_say_what_their_definitions_say():
    figures = augment.compare({"hkd": [0.5, 0.25, 0.25], "other": [1.0, 0.25, 1.0]})
    assert figures["pictures_per_second"] == {"hkd": 4, "other": 1}
    assert figures["ratio"] == {"other": 2}
    assert figures["spread"] == {"other": [1, 4]}


def test_every_operation_on_pictures_is_measured_beside_every_rival(scenes, monkeypatch):
    monkeypatch.setattr(augment, "SHORTEST_S", 1e-4)
    report = augment.measure_all(scenes, [Mirror()], rounds=2)
    assert list(report["operations"]) == NAMES
    assert report["size"] == [72, 72]
    assert report["conversion"]["mirror"] > 0
    for name, figures in report["operations"].items():
        assert (figures["difference"]["mirror"] == 0) == (name == "flip")
    table = augment.render_table({"rivals": {"mirror": "1"}, "pictures": {"scenes": report}})
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == len(NAMES) + 3
    assert len({line.count("|") for line in rows}) == 1


def test_without_rivals_the_table_has_our_figures_alone(scenes, monkeypatch):
    monkeypatch.setattr(augment, "SHORTEST_S", 1e-4)
    report = augment.measure_all(scenes[:1], [], rounds=1)
    rows = augment.render_table({"rivals": {}, "pictures": {"scenes": report}}).splitlines()
    assert rows[2] == "| operation | hkd |"
    assert len(rows) == len(NAMES) + 4


def test_a_rival_that_does_not_work_is_left_out_with_the_reason(monkeypatch):
    def fail():
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(augment_contenders, "RIVALS", {"broken": fail, "mirror": Mirror})
    rivals, missing = open_rivals()
    assert [each.name for each in rivals] == ["mirror"]
    assert missing == {"broken": "operator torchvision::nms does not exist"}


@pytest.mark.parametrize("name", NAMES)
def test_a_draw_is_the_same_work_each_time_and_its_parameters_are_told(name):
    drawn = draw(get_operations()[name], make_photos()[0], 0)
    first, second = drawn.run(), drawn.run()
    assert first.image.tobytes() == second.image.tobytes()
    assert first.parameters == drawn.parameters


def test_pictures_made_from_code_are_all_different_and_have_detail():
    photos = make_photos()
    assert {photo.size for photo in photos} == {PHOTO_SIZE}
    assert all(one.tobytes() != other.tobytes() for one, other in itertools.pairwise(photos))
    assert all(np.asarray(photo).std() > 20 for photo in photos)


def test_photos_of_a_folder_are_cut_to_the_same_size(tmp_path):
    make_photos()[0].resize((900, 300)).save(tmp_path / "a.png")
    (tmp_path / "note.txt").write_text("no picture")
    assert [photo.size for photo in load_photos(tmp_path)] == [PHOTO_SIZE]


@pytest.mark.parametrize("rival", RIVALS)
def test_an_installed_rival_gives_nearly_our_pictures(rival):
    opened, missing = open_rivals()
    if rival in missing:
        pytest.skip(missing[rival])
    found = next(each for each in opened if each.name == rival)
    for name in NAMES:
        drawn = draw(get_operations()[name], make_photos()[0], 0)
        apart = augment.measure_difference(found, [drawn], [found.build(name, drawn.parameters, drawn.image)])
        # Two draws of noise are apart by 1.13 deviations in the mean.
        assert apart < (1.2 * drawn.parameters["deviation"] if name == "noise" else 5), name
