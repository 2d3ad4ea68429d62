"""Whatever the bytes, reading ends in examples, bad rows or a DataError, and never in anything else."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_makers import encode, make_photo
from record_makers import make_factuality, make_hallucination, make_rows

from hkdcli.data.answers_text import parse_answer
from hkdcli.data.datasets import hash_examples
from hkdcli.data.examples import read_examples, write_examples
from hkdcli.data.images import ImageError, ImageFolder
from hkdcli.data.pixels import decode_image
from hkdcli.data.records import Choice, Example
from hkdcli.data.refusals import RefusedRowError
from hkdcli.data.rows import parse_row, render_row
from hkdcli.errors import BadRow, DataError

FUZZ = settings(
    max_examples=150,
    deadline=2000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(sorted({*make_hallucination(), *make_factuality(), "metadata", "correct_answer"}))


def read(path):
    """Read, and check the promises that hold for every input."""
    try:
        result = read_examples(path)
    except DataError as error:
        assert error.rows and all(row.code.startswith("data.") for row in error.rows)
        return
    assert all(row.code.startswith(("data.", "record.")) for row in result.bad_rows)
    assert len({example.id for example in result.examples}) == len(result.examples)
    write_examples(path.with_name("again.jsonl"), result.examples)
    if result.examples:
        again = read_examples(path.with_name("again.jsonl"))
        assert hash_examples(again.examples) == hash_examples(result.examples)
        assert again.examples == result.examples


@FUZZ
@given(data=st.binary(max_size=200))
def test_d27_any_bytes(tmp_path, data):
    (tmp_path / "rows").write_bytes(data)
    read(tmp_path / "rows")


@FUZZ
@given(value=VALUES, form=st.sampled_from(["{}", "[{}]", "{}\n{}\n", "[{},{}"]))
def test_d27_any_json(tmp_path, value, form):
    (tmp_path / "rows").write_text(form.replace("{}", json.dumps(value)))
    read(tmp_path / "rows")


@FUZZ
@given(data=st.data())
def test_d27_damaged_files(tmp_path, data):
    whole = data.draw(st.sampled_from(WHOLE))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    (tmp_path / "rows").write_bytes(whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:])
    read(tmp_path / "rows")


WHOLE = [
    json.dumps(make_rows(), indent=1).encode(),
    "".join(json.dumps(row) + "\n" for row in make_rows()).encode(),
]


@FUZZ
@given(
    base=st.sampled_from([make_hallucination(), make_factuality()]),
    changes=st.dictionaries(FIELDS | TEXT, VALUES, max_size=3),
)
def test_d08_any_field_of_any_value(base, changes):
    result = parse_row({**base, **changes}, "rows.json:1")
    if isinstance(result, BadRow):
        assert result.code.startswith("record.") and result.detail.isascii()
    else:
        assert parse_row(render_row(result), "") == result


@FUZZ
@given(
    ids=st.lists(TEXT.filter(bool), min_size=2, max_size=6, unique=True),
    gold=st.text("ABCDEFab ,;&and\uff21\u0410", max_size=8) | st.lists(TEXT, max_size=3) | VALUES,
)
def test_d12_any_gold(ids, gold):
    choices = [Choice(each, "text") for each in ids]
    try:
        answer = parse_answer(gold, choices)
    except RefusedRowError as error:
        assert str(error).isascii()
    else:
        assert answer is None or (answer and answer <= set(ids))


@FUZZ
@given(data=st.data())
def test_i04_damaged_images(data):
    whole = data.draw(st.sampled_from(IMAGES))
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=6)):
        if place < len(damaged):
            damaged[place] = data.draw(st.integers(0, 255))
    try:
        image, _ = decode_image(bytes(damaged), max_pixels=4_000_000, max_aspect=200.0)
    except RefusedRowError as error:
        assert error.code.startswith("image.") and str(error).isascii()
    else:
        assert image.mode == "RGB" and image.width * image.height <= 4_000_000


IMAGES = [
    *(encode(make_photo(), form) for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")),
    encode(make_photo(), "JPEG", progressive=True),
    encode(make_photo().convert("P"), "TIFF", compression="tiff_lzw"),
    encode(make_photo().convert("RGBA"), "PNG"),
]


@FUZZ
@given(name=TEXT | st.text("./\\ab:\0~", max_size=10))
def test_i21_any_name_stays_inside(tmp_path, name):
    (tmp_path / "root").mkdir(exist_ok=True)
    with pytest.raises(ImageError) as error:
        ImageFolder(tmp_path / "root").load(name)
    assert error.value.row.detail.isascii()


def test_d03_every_prefix_of_a_file(tmp_path):
    for whole in WHOLE:
        for cut in range(0, len(whole), 41):
            (tmp_path / "rows").write_bytes(whole[:cut])
            read(tmp_path / "rows")


def test_d22_any_example_roundtrips():
    example = Example("x", "factuality", "a.png", "q", (Choice("1", "a"), Choice("2", "b")), claim="c")
    assert parse_row(render_row(example), "") == example
