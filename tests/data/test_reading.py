"""Forms that records come in, and forms that are refused: whole files (D01-D06, D20, D27)."""

import dataclasses
import json
import sys

import pytest
from record_makers import make_factuality, make_hallucination, make_rows, write_json, write_jsonl

from hkdcli.data.datasets import hash_examples
from hkdcli.data.examples import read_examples, write_examples
from hkdcli.errors import DataError, SetupError, UsageError


def codes(error):
    return [row.code for row in error.value.rows]


@pytest.mark.parametrize("content", ["", "  \n\n", "[]", " [ ] \n", "\ufeff"])
def test_d01_no_records(tmp_path, content):
    path = tmp_path / "rows.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="0 records") as error:
        read_examples(path)
    assert error.value.exit_code == 3


def write_arrow_folder(folder, rows):
    pyarrow = pytest.importorskip("pyarrow")
    folder.mkdir(parents=True)
    table = pyarrow.Table.from_pylist(rows)
    sink = pyarrow.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb")
    with sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    write_json(folder / "state.json", {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
    write_json(folder / "dataset_info.json", {})
    return folder


def write_every_form(folder, rows):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    # Arrow infers columns from the first row alone: give it every name.
    names = {key: None for row in rows for key in row}
    full = [{**names, **row} for row in rows]
    parquet.write_table(pyarrow.Table.from_pylist(full), folder / "rows.parquet")
    write_arrow_folder(folder / "saved" / "train", full)
    write_json(folder / "saved" / "dataset_dict.json", {"splits": ["train"]})
    wrapped = [{"metadata": row} for row in rows]
    return [
        write_json(folder / "array.json", rows),
        write_jsonl(folder / "lines.jsonl", rows),
        write_json(folder / "wrapped.json", wrapped),
        write_jsonl(folder / "wrapped.jsonl", wrapped),
        folder / "rows.parquet",
        folder / "saved",
        folder / "saved" / "train",
    ]


def test_d02_every_form_gives_the_same_rows(tmp_path):
    results = [read_examples(path) for path in write_every_form(tmp_path, make_rows())]
    assert len({hash_examples(result.examples) for result in results}) == 1
    for result in results:
        assert result.examples == results[0].examples
        assert len(result.examples) == 8 and not result.bad_rows


@pytest.mark.parametrize("indent", [None, 1])
def test_d02_one_object(tmp_path, indent):
    path = tmp_path / "one.json"
    path.write_text(json.dumps({"metadata": make_hallucination()}, indent=indent))
    (example,) = read_examples(path).examples
    assert example.answer == {"C"} and example.none_id == "A" and example.caption.startswith("Leafy")


def test_d02_id_outside_the_wrapper(tmp_path):
    outside = {"id": "h1", "split": "dev", "metadata": make_hallucination(None)}
    differs = {"id": "h2", "metadata": make_hallucination("h1")}
    result = read_examples(write_json(tmp_path / "x.json", [outside, differs]))
    assert result.examples[0].id == "h1" and result.examples[0].extra["split"] == "dev"
    assert [row.code for row in result.bad_rows] == ["record.two_values"]


def test_d02_no_pyarrow(tmp_path, monkeypatch):
    path = write_every_form(tmp_path, make_rows())[4]
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SetupError) as error:
        read_examples(path)
    assert error.value.hint == 'pip install "hkd[parquet]"'


def test_d02_damaged_columns(tmp_path):
    paths = write_every_form(tmp_path, make_rows())
    data = paths[4].read_bytes()
    for number, damaged in enumerate([data[:200], data[:-30], data[:60] + b"\xff" * 400 + data[460:]]):
        path = tmp_path / f"damaged{number}.parquet"
        path.write_bytes(damaged)
        with pytest.raises(DataError) as error:
            read_examples(path)
        assert codes(error) == ["data.parquet"]
    arrow = paths[6] / "data-00000-of-00001.arrow"
    arrow.write_bytes(arrow.read_bytes()[:300])
    with pytest.raises(DataError) as error:
        read_examples(paths[6])
    assert codes(error) == ["data.arrow"]


def test_d02_state_file_cannot_name_files_elsewhere(tmp_path):
    folder = write_arrow_folder(tmp_path / "a", [make_factuality()])
    secret = write_arrow_folder(tmp_path / "b", [make_factuality("secret")])
    outside = str(secret / "data-00000-of-00001.arrow")
    write_json(folder / "state.json", {"_data_files": [{"filename": outside}]})
    assert [each.id for each in read_examples(folder).examples] == ["f1"]


def test_d02_several_splits_and_other_folders(tmp_path):
    write_arrow_folder(tmp_path / "a" / "train", [make_factuality()])
    write_arrow_folder(tmp_path / "a" / "test", [make_factuality()])
    write_json(tmp_path / "a" / "dataset_dict.json", {})
    with pytest.raises(DataError, match="2 splits: test, train"):
        read_examples(tmp_path / "a")
    with pytest.raises(DataError, match="a folder, not a file of records"):
        read_examples(tmp_path)


def test_d02_columns_that_json_cannot_hold(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [make_factuality("f1", picture=b"\x89PNG"), make_factuality("f2", score=float("nan"))]
    parquet.write_table(
        pyarrow.Table.from_pylist([{"score": None, **r} for r in rows]), tmp_path / "x.parquet"
    )
    result = read_examples(tmp_path / "x.parquet")
    assert [row.code for row in result.bad_rows] == ["record.unsupported_value", "record.number"]
    assert result.bad_rows[1].path == "x.parquet:2"


@pytest.mark.parametrize("form", ["jsonl", "json"])
def test_d02_writer_roundtrips(tmp_path, form):
    rows = [
        *make_rows(),
        make_hallucination("u1", ...),
        make_hallucination("u2", ["B", "D"], correct_answer="leafy greens; fresh produce"),
        make_factuality("u3", "yes, it is", choices=make_odd_choices()),
        make_factuality("u4", context=None, question="Gr\u00fc\u00dfe \u2028 \U0001f600?"),
    ]
    first = read_examples(write_json(tmp_path / "in.json", rows))
    assert len(first.examples) == 12 and not first.bad_rows
    write_examples(tmp_path / f"out.{form}", first.examples)
    again = read_examples(tmp_path / f"out.{form}")
    assert again.examples == first.examples
    assert {path.name for path in tmp_path.iterdir()} == {"in.json", f"out.{form}"}


def make_odd_choices():
    return [{"id": "yes, it is", "choice": "True", "weight": 2}, {"id": "no", "choice": "False"}]


def test_d02_writer_refuses_what_json_cannot_hold(tmp_path):
    (example,) = read_examples(write_json(tmp_path / "in.json", [make_factuality()])).examples
    for bad in ({"extra": {"x": float("nan")}}, {"extra": {"x": b"1"}}, {"claim": "\ud83d"}):
        with pytest.raises(DataError, match="cannot be written as JSON"):
            write_examples(tmp_path / "out.jsonl", [dataclasses.replace(example, **bad)])
    assert not (tmp_path / "out.jsonl").exists()


def test_d03_cut_array_names_line_and_column(tmp_path):
    text = json.dumps(make_rows(), indent=1)
    for cut in (len(text) // 3, len(text) - 2):
        path = tmp_path / "cut.json"
        path.write_text(text[:cut])
        with pytest.raises(DataError) as error:
            read_examples(path)
        (row,) = error.value.rows
        name, line, column = row.path.rsplit(":", 2)
        assert row.code == "data.json" and name == str(path)
        assert 1 < int(line) <= text[:cut].count("\n") + 1 and int(column) >= 1


def test_d03_cut_last_line_keeps_the_others(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl", make_rows())
    path.write_bytes(path.read_bytes()[:-40])
    result = read_examples(path)
    assert len(result.examples) == 7
    (row,) = result.bad_rows
    assert row.code == "data.json" and row.path.startswith(f"{path}:8:")


@pytest.mark.parametrize("text", ['{"id": "x"', "[{}} ]", "[1,]", "[1 2]", "[] x", '{"a": 1} 2'])
def test_d03_broken_json(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    try:
        rows = read_examples(path).bad_rows
    except DataError as error:
        rows = error.rows
    assert any(row.code == "data.json" and row.path.startswith(f"{path}:1:") for row in rows)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "cp1252"])
def test_d04_encodings(tmp_path, encoding):
    rows = [make_factuality(claim="\u00dcber \u00c9t\u00e9.")]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding=encoding)
    if encoding == "utf-8-sig":
        assert read_examples(path).examples[0].claim == rows[0]["claim"]
        return
    with pytest.raises(DataError) as error:
        read_examples(path)
    (row,) = error.value.rows
    assert row.code == "data.encoding" and "byte " in row.detail
    assert row.hint.endswith("--encoding " + {"cp1252": "latin-1"}.get(encoding, encoding))
    assert read_examples(path, encoding=encoding).examples[0].claim == rows[0]["claim"]


def test_d04_byte_offset_and_unknown_encoding(tmp_path):
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"id": "key\xe9"}]')
    with pytest.raises(DataError, match="byte 12 .0xE9. is not utf-8"):
        read_examples(path)
    path.write_bytes(b'\xef\xbb\xbf[{"id": "key\xe9"}]')
    with pytest.raises(DataError, match="byte 15 .0xE9. is not utf-8"):
        read_examples(path)
    for name in ("utf-9", "zip", "hex"):
        with pytest.raises(UsageError, match="unknown encoding"):
            read_examples(path, encoding=name)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_d05_numbers_that_json_does_not_know(tmp_path, number):
    text = json.dumps(make_factuality(score=0)).replace('"score": 0', f'"score": {number}')
    for name, content in (("a.json", f"[{text}]"), ("a.jsonl", f"{text}\n{text}\n"), ("b.json", text)):
        path = tmp_path / name
        path.write_text(content)
        result = read_examples(path)
        assert not result.examples and {row.code for row in result.bad_rows} == {"data.number"}


def test_d06_duplicate_key(tmp_path):
    text = json.dumps(make_factuality("f1", "A"))
    twice = text.replace('"correct_choice": "A"', '"correct_choice": "A", "correct_choice": "B"')
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(make_factuality('f0'))}\n{twice}\n")
    result = read_examples(path)
    (row,) = result.bad_rows
    assert (row.code, row.path) == ("data.duplicate_key", f"{path}:2") and "correct_choice" in row.detail
    path.write_text(f"[{json.dumps(make_factuality('f0'))},\n\n{twice}]")
    (row,) = read_examples(path).bad_rows
    assert (row.code, row.path) == ("data.duplicate_key", f"{path}:3")


def test_d20_line_ends(tmp_path):
    rows = [make_factuality("f1", claim="one\u2028two\u2029three\x85four"), make_factuality("f2")]
    plain = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    results = []
    for number, text in enumerate([plain, plain + "\n", plain.replace("\n", "\r\n"), plain + "\n\n\n"]):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(text.encode())
        results.append(read_examples(path))
    assert all(result.examples == results[0].examples and not result.bad_rows for result in results)
    assert results[0].examples[0].claim == rows[0]["claim"]


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"extra":'])
def test_d27_deep_nesting(tmp_path, opening):
    path = tmp_path / "deep.json"
    path.write_text(opening * 100_000)
    try:
        rows = read_examples(path).bad_rows
    except DataError as error:
        rows = error.rows
    assert [row.code for row in rows] == ["data.nesting"]


def test_d27_nesting_below_the_decoder_limit(tmp_path):
    row = json.dumps(make_factuality(note=0)).replace('"note": 0', f'"note": {"[" * 300}{"]" * 300}')
    path = tmp_path / "deep.jsonl"
    path.write_text(row + "\n")
    assert [each.code for each in read_examples(path).bad_rows] == ["record.nesting"]


def test_d27_long_integer(tmp_path):
    row = json.dumps(make_factuality(note=0)).replace('"note": 0', f'"note": {"9" * 5000}')
    path = tmp_path / "long.json"
    path.write_text(f"[{row}, {json.dumps(make_factuality('f2'))}]")
    result = read_examples(path)
    assert [each.code for each in result.bad_rows] == ["data.number"] and len(result.examples) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"id,claim\n1,x\n", "not a JSON array"),
        (b"\x1f\x8b\x08\x00rest", "packed with gzip"),
        (b"PK\x03\x04rest", "packed with zip"),
    ],
)
def test_other_formats_are_named(tmp_path, content, words):
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        read_examples(path)
    assert codes(error) == ["data.format"]


def test_missing_file_and_devices(tmp_path):
    write_json(tmp_path / "Rows.json", [])
    with pytest.raises(DataError, match="did you mean Rows.json") as error:
        read_examples(tmp_path / "rows.json")
    assert codes(error) == ["data.missing"]
    with pytest.raises(DataError, match="data.not_regular"):
        read_examples("/dev/zero")
    with pytest.raises(DataError, match="data.unreadable"):
        read_examples("a\0b")


def test_a_bad_row_never_has_the_id_of_another_record(tmp_path):
    good, twice = {**make_factuality(), "id": "x"}, {**make_factuality(), "id": "z", "choices": []}
    path = write_jsonl(tmp_path / "rows.jsonl", [{**good, "choices": []}, good, twice, twice])
    result = read_examples(path)
    assert [example.id for example in result.examples] == ["x"]
    assert [row.id for row in result.bad_rows] == ["", "z", ""]
    assert "x" in result.bad_rows[0].detail and "z" in result.bad_rows[2].detail
