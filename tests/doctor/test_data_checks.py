"""I24: contradictions and leaks by pixels; bad images counted by code, classes, and the best constant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from looking import examine, list_wrong, look
from PIL import Image
from tiny_records import DrawnImages, make_choices, make_factuality, make_hallucination

from hkdcli.data.datasets import Dataset, load_dataset
from hkdcli.data.records import Example
from hkdcli.doctor import data
from hkdcli.errors import BadRow
from hkdcli.scenes.source import load_scenes, write_scenes


def build(*examples: Example, **fields: object) -> Dataset:
    return Dataset("d", examples, DrawnImages(), **fields)  # type: ignore[arg-type]


def verdict(name: str, letter: str = "A", **fields: object) -> Example:
    return make_factuality(name, answer=frozenset(letter), **fields)


def test_drawn_scenes_have_nothing_wrong_and_each_image_is_loaded_once() -> None:
    dataset, images = load_scenes("test", size=40), DrawnImages()
    checks = examine(data.examine_records, dataset, needs_gold=True)
    assert not list_wrong(checks)
    assert "40 images load" in checks["data.images"].found
    examine(data.examine_records, replace(dataset, images=images))
    assert len(images.loaded) == 40


def test_bad_images_are_counted_by_code_and_none_ends_the_look(tmp_path: Path) -> None:
    dataset = load_scenes("test", size=12)
    write_scenes(tmp_path, dataset)
    names = [example.image for example in dataset.examples]
    (tmp_path / "images" / names[0]).write_bytes(b"")
    (tmp_path / "images" / names[1]).unlink()
    (tmp_path / "images" / names[2]).write_text("<html>404</html>")
    Image.new("RGB", (300, 60), "red").save(tmp_path / "images" / names[3])
    checks = examine(data.examine_records, load_dataset(tmp_path / "records.json", on_bad="keep"))
    assert list_wrong(checks) == {"data.images": "failed"}
    found = checks["data.images"].found
    assert found.startswith("3 of 12 images cannot be used")
    assert all(f"{code}: 1" in found for code in ("image.empty", "image.missing", "image.not_an_image"))
    assert (
        "largest 300 x 60 px" in checks["data.sizes"].found and "at most 5.00" in checks["data.sizes"].found
    )


def test_rows_that_are_no_records_fail_and_warnings_are_handed_on() -> None:
    rows = (BadRow("record.no_choices", "x", "f:3", "no choices"),)
    check = look(data.check_rows, build(verdict("a"), bad_rows=rows))
    assert check.status == "failed" and "1 of 2 rows" in check.found and "record.no_choices: 1" in check.found
    check = look(data.check_rows, build(verdict("a"), warnings=("2 records stand twice",)))
    assert check.status == "warning" and "stand twice" in check.found


def test_i24_contradictions_and_duplicates_are_told_by_pixels(tmp_path: Path) -> None:
    """The same picture under another name and in another file format."""
    picture = Image.new("RGB", (64, 64), (200, 30, 30))
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.bmp")
    one, two = verdict("one", "A", image="a.png"), verdict("two", "B", image="b.bmp")
    from hkdcli.data.images import ImageFolder

    dataset = Dataset("d", (one, two, verdict("three", "A", image="b.bmp")), ImageFolder(tmp_path))
    checks = examine(data.examine_records, dataset)
    assert list_wrong(checks) == {"data.conflict": "warning", "data.duplicates": "warning"}
    assert checks["data.conflict"].found.startswith("1 records contradict another: two (")
    assert checks["data.duplicates"].found == "1 records repeat another: three (the same record as one)"
    assert "1 of them copies of another" in checks["data.images"].found


def test_letters_that_moved_are_no_contradiction() -> None:
    moved = make_choices("False", "True", "Partially True", "Not Verifiable")
    again = verdict("b", "B", image="a.png", choices=moved)
    rows = build(verdict("a", "A", image="a.png"), again)
    assert not list_wrong({"x": look(data.check_conflicts, rows, data.scan_images(rows))})


def test_i24_a_leak_is_told_by_id_and_by_pixels() -> None:
    train = build(verdict("a"), verdict("b", image="shared.png"))
    test = build(verdict("a", image="other.png"), verdict("c", image="shared.png"), verdict("d"))
    check = look(data.check_leak, train, None, test, None)
    assert check.status == "warning"
    assert check.found.startswith("66.7% of the records are known from d: 1 by id, 1 by image")
    assert look(data.check_leak, train, None, build(verdict("d")), None).status == "ok"


def test_gold_that_is_missing_matters_where_it_is_needed() -> None:
    unlabelled = replace(verdict("b"), answer=None)
    some, none = [verdict("a"), unlabelled], [unlabelled]
    statuses = [look(data.check_gold, rows, needs_gold=False).status for rows in (some, none)]
    assert statuses == ["warning", "ok"]
    assert look(data.check_gold, some, needs_gold=True).status == "failed"
    checks = examine(data.examine_records, build(*none))
    assert checks["data.classes"].status == checks["data.constant"].status == "skipped"


def test_classes_and_the_best_constant_are_those_of_each_task() -> None:
    verdicts = [verdict(str(number), letter) for number, letter in enumerate("AAAB")]
    captions = [make_hallucination("h1"), make_hallucination("h2", answer=frozenset("A"))]
    check = look(data.check_classes, [*verdicts, *captions])
    assert check.status == "ok"
    assert "factuality: True 75%, False 25%" in check.found
    assert "hallucination: hallucinated choice 67%, No hallucination 33%" in check.found
    constant = look(data.describe_constant, verdicts)
    assert constant.found == "factuality: always 'True' has micro-F1 0.750"


def test_one_class_alone_is_a_warning() -> None:
    assert look(data.check_classes, [verdict("a"), verdict("b")]).status == "warning"


@pytest.mark.parametrize("broken", [("a.png",), ("a.png", "b.png")])
def test_images_that_do_not_load_are_in_no_pair(broken: tuple[str, ...]) -> None:
    names = [f"broken-{name}" for name in broken]
    rows = build(*(verdict(str(number), image=name) for number, name in enumerate(names)))
    assert list_wrong(examine(data.examine_records, rows)).keys() <= {"data.images", "data.classes"}
