"""Datasets: what bad rows lead to, what checks find, leaks, conflicts and locks."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_makers import encode, make_photo
from PIL import Image
from record_makers import make_choices, make_factuality, make_hallucination, write_json, write_jsonl

from hkdcli.data.datasets import (
    check_dataset,
    hash_examples,
    hash_record,
    load_dataset,
    scan_images,
    skip_bad_images,
)
from hkdcli.data.leaks import compute_leak, find_conflicts
from hkdcli.data.lock import verify_data_lock, write_data_lock
from hkdcli.data.rows import parse_row
from hkdcli.errors import DataError

REAL_DATA = (
    Path(os.environ.get("HKD_REAL_DATA", Path(__file__).parents[3] / "shared" / "data")) / "coco-bench"
)


def make_dataset(folder, rows, **images):
    """Rows and images on disk; an image is a picture or the bytes of its file."""
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        data = image if isinstance(image, bytes) else encode(image)
        (folder / f"{name}.png").write_bytes(data)
    return load_dataset(write_json(folder / "rows.json", rows))


def make_rows(count, *, bad=0):
    rows = [make_factuality(f"f{number}") for number in range(count)]
    return rows + [make_factuality(f"b{number}", gold="Z") for number in range(bad)]


def test_d08_error_scans_everything_then_counts_per_code(tmp_path):
    rows = make_rows(5, bad=30) + [make_factuality("n1", claim=None), make_factuality("n2", claim=3)]
    with pytest.raises(DataError) as error:
        load_dataset(write_json(tmp_path / "rows.json", rows))
    text = str(error.value)
    assert len(error.value.rows) == 32 and error.value.exit_code == 3
    assert text.startswith("rows.json: 32 of 37 rows cannot be used")
    assert "record.unknown_answer: 30 (first: b0, b1, b2)" in text
    assert "record.missing_field: 1 (first: n1)" in text and "... and 12 more" in text


@pytest.mark.parametrize(
    ("good", "bad", "works"), [(99, 1, True), (98, 2, False), (400, 3, True), (10, 0, True)]
)
def test_d08_skip_up_to_max_bad(tmp_path, good, bad, works):
    path = write_json(tmp_path / "rows.json", make_rows(good, bad=bad))
    if not works:
        with pytest.raises(DataError, match="at most 0.01 of them"):
            load_dataset(path, on_bad="skip")
        return
    dataset = load_dataset(path, on_bad="skip")
    assert (len(dataset.examples), len(dataset.bad_rows)) == (good, bad)
    assert len(dataset.warnings) == (1 if bad else 0)


def test_d08_keep_hands_bad_rows_on(tmp_path):
    dataset = load_dataset(write_json(tmp_path / "rows.json", make_rows(2, bad=3)), on_bad="keep")
    assert [row.id for row in dataset.bad_rows] == ["b0", "b1", "b2"] and len(dataset.examples) == 2
    with pytest.raises(DataError, match="3 of 3 rows"):
        load_dataset(write_json(tmp_path / "rows.json", make_rows(0, bad=3)), on_bad="keep")


@pytest.mark.parametrize("on_bad", ["error", "skip", "keep"])
def test_d07_ambiguous_ids_are_never_permitted(tmp_path, on_bad):
    rows = [*make_rows(200), make_factuality("f7", claim="Another.")]
    with pytest.raises(DataError, match="record.duplicate_id"):
        load_dataset(write_json(tmp_path / "rows.json", rows), on_bad=on_bad)


def test_d11_strict(tmp_path):
    path = write_json(tmp_path / "rows.json", [make_factuality(correct_answer="False")])
    assert len(load_dataset(path).warnings) == 1
    with pytest.raises(DataError, match="record.answer_mismatch"):
        load_dataset(path, strict=True)


def test_d23_no_gold(tmp_path):
    path = write_json(tmp_path / "rows.json", [make_factuality(f"f{number}", ...) for number in range(3)])
    dataset = load_dataset(path)
    check_dataset(dataset, need_answers=False, check_images=False)
    with pytest.raises(DataError, match="no gold in 3 rows"):
        check_dataset(dataset, need_answers=True, check_images=False)
    dataset = load_dataset(write_json(path, [make_factuality("f1"), make_factuality("f2", None)]))
    with pytest.raises(DataError) as error:
        check_dataset(dataset, need_answers=True, check_images=False)
    assert [(row.code, row.id) for row in error.value.rows] == [("record.no_answer", "f2")]


def test_image_folder_is_found(tmp_path):
    rows = [make_factuality(image_id="a.png")]
    (tmp_path / "images").mkdir()
    path = write_json(tmp_path / "rows.json", rows)
    assert load_dataset(path).images.root == tmp_path / "images"
    (tmp_path / "a.png").write_bytes(b"")
    assert load_dataset(path).images.root == tmp_path
    (tmp_path / "images" / "a.png").write_bytes(b"")
    assert load_dataset(path).images.root == tmp_path / "images"
    assert load_dataset(path, images=tmp_path).images.root == tmp_path
    with pytest.raises(DataError, match="image.folder"):
        load_dataset(path, images=tmp_path / "none")


def test_i19_all_missing_images_are_named_once(tmp_path):
    rows = [make_factuality(f"f{n}", image_id=f"{n % 3}.png", claim=f"{n}") for n in range(9)]
    dataset = make_dataset(tmp_path, rows, **{"0": make_photo(), "2": b""})
    with pytest.raises(DataError) as error:
        check_dataset(dataset, need_answers=True, check_images=True)
    assert [(row.code, row.id) for row in error.value.rows] == [
        ("image.missing", "f1"),
        ("image.empty", "f2"),
    ]
    assert "2 of 9" in str(error.value)


def test_i19_examples_of_bad_images_can_be_left_out(tmp_path):
    rows = [make_factuality(f"f{n}", image_id=f"{n % 3}.png", claim=f"{n}") for n in range(9)]
    dataset = make_dataset(tmp_path, rows, **{"0": make_photo(), "2": make_photo()})
    with pytest.raises(DataError, match="3 of 9 rows cannot be used .at most 0.01"):
        skip_bad_images(dataset)
    kept = skip_bad_images(dataset, max_bad=0.5)
    assert len(kept.examples) == 6 and [row.id for row in kept.bad_rows] == ["f1", "f4", "f7"]
    assert "image.missing: 3 (first: f1, f4, f7)" in kept.warnings[0]
    assert skip_bad_images(kept, max_bad=0.5) == kept


def test_i15_notes_are_counted(tmp_path):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("blue", "red")]
    gif = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    rows = [make_factuality(f"f{n}", image_id=f"{n}.png") for n in "abc"]
    dataset = make_dataset(tmp_path, rows, a=gif, b=gif, c=make_photo())
    assert scan_images(dataset).notes == {"image.animated": 2}


def test_i05_rot_that_still_decodes_shows_in_the_lock_alone(tmp_path):
    data = bytearray(encode(make_photo(256, 256), "JPEG", quality=95))
    dataset = make_dataset(tmp_path, [make_factuality(image_id="a.png")], a=bytes(data))
    write_data_lock(dataset, tmp_path / "data.lock")
    verify_data_lock(dataset, tmp_path / "data.lock")
    middle = len(data) // 2
    noise = np.random.default_rng(0).integers(1, 250, 40).astype(np.uint8)
    data[middle : middle + 40] = noise.tobytes()
    (tmp_path / "a.png").write_bytes(data)
    check_dataset(dataset, need_answers=True, check_images=True)
    with pytest.raises(DataError) as error:
        verify_data_lock(dataset, tmp_path / "data.lock")
    assert [(row.code, row.path) for row in error.value.rows] == [("data.lock_mismatch", "a.png")]


def test_i05_the_lock_covers_records_and_names(tmp_path):
    rows = [make_factuality("f1", image_id="a.png"), make_factuality("f2", image_id="b.png")]
    dataset = make_dataset(tmp_path, rows[:1], a=make_photo())
    write_data_lock(dataset, tmp_path / "data.lock")
    with pytest.raises(DataError) as error:
        verify_data_lock(make_dataset(tmp_path, rows, b=make_photo()), tmp_path / "data.lock")
    assert [row.code for row in error.value.rows] == ["data.lock_mismatch", "data.not_locked"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="image.missing"):
        verify_data_lock(dataset, tmp_path / "data.lock")
    with pytest.raises(DataError, match="cannot be locked"):
        write_data_lock(dataset, tmp_path / "data.lock")


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"version": 2}', b"[" * 100_000, b"\xff"])
def test_i05_a_lock_that_is_none(tmp_path, content):
    dataset = make_dataset(tmp_path, [make_factuality(image_id="a.png")], a=make_photo())
    if content is not None:
        (tmp_path / "data.lock").write_bytes(content)
    with pytest.raises(DataError) as error:
        verify_data_lock(dataset, tmp_path / "data.lock")
    assert [row.code for row in error.value.rows] == ["data.lock"]


def test_i24_same_pixels_other_file_other_gold(tmp_path):
    choices = make_choices("Not Verifiable", "True", "False")
    rows = [
        make_factuality("f1", "A", image_id="a.png"),
        make_factuality("f2", "B", image_id="copy.png"),
        make_factuality("f3", "A", image_id="copy.png", claim="Another claim."),
        make_factuality("f4", "B", image_id="other.png"),
        make_factuality("f5", None, image_id="copy.png", choices=choices),
        make_factuality("f6", "B", image_id="copy.png", choices=choices),
        make_factuality("f7", "B", image_id="a.png", choices=make_choices("False", "True", "Not Verifiable")),
    ]
    rewritten = encode(make_photo(), "BMP")
    other = make_photo().rotate(180)
    dataset = make_dataset(tmp_path, rows, a=make_photo(), copy=rewritten, other=other)
    assert [(row.code, row.id) for row in find_conflicts(dataset)] == [("data.conflict", "f2")]


def test_d26_i24_leak_by_id_or_pixels(tmp_path):
    train = make_dataset(tmp_path / "train", [make_factuality("f1", image_id="a.png")], a=make_photo())
    rows = [
        make_factuality("f1", image_id="b.png"),
        make_hallucination("h1", image_id="c.png"),
        make_factuality("f2", image_id="b.png", claim="Another."),
        make_factuality("f3", image_id="missing.png"),
    ]
    other = make_photo().rotate(180)
    test = make_dataset(tmp_path / "test", rows, b=other, c=encode(make_photo(), "BMP"))
    leak = compute_leak(train, test)
    assert (leak.shared_ids, leak.shared_images, leak.leak_rate) == (("f1",), ("h1",), 0.5)
    assert [(row.code, row.id) for row in leak.rows] == [("data.leak", "f1"), ("data.leak", "h1")]
    assert compute_leak(test, test).leak_rate == 1.0


def test_hash_knows_content_and_order(tmp_path):
    examples = load_dataset(write_jsonl(tmp_path / "rows.jsonl", make_rows(3))).examples
    hashes = {hash_examples(rows) for rows in (examples, examples[:2], examples[::-1], ())}
    assert len(hashes) == 4 and all(len(each) == 64 for each in hashes)


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real photos are not here (HKD_REAL_DATA)")
@pytest.mark.parametrize(
    ("name", "count", "task"), [("task1", 752, "hallucination"), ("task2", 915, "factuality")]
)
def test_real_photos_have_no_bad_row(name, count, task):
    dataset = load_dataset(REAL_DATA / f"{name}.json")
    assert len(dataset.examples) == count and not dataset.bad_rows and not dataset.warnings
    assert {example.task for example in dataset.examples} == {task}
    check_dataset(dataset, need_answers=True, check_images=True)
    golds = [row["correct_choice"] for row in json.loads((REAL_DATA / f"{name}.json").read_bytes())]
    assert [example.answer for example in dataset.examples] == [frozenset(each.split(",")) for each in golds]


def test_the_hash_of_a_record_is_that_of_its_question_alone():
    rows = [make_hallucination(prompt_instruction="Look."), make_factuality(), make_factuality(7)]
    for example in (parse_row(row, "f:1") for row in rows):
        asked = replace(example, answer=None, extra={})
        assert hash_record(example) == hash_examples([asked])[:16]
        other = replace(example, answer=frozenset({example.choices[0].id}), extra={"meta": 1})
        assert hash_record(other) == hash_record(example)
        assert hash_record(replace(example, question="Another?")) != hash_record(example)
    assert hash_record(None) is None
