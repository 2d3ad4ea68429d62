"""A file of facts: read in the forms that people have it in, every fault of it named at once."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkdcli.data.fact_file import read_facts
from hkdcli.errors import DataError

LINES = [
    {"image_id": "1.jpg", "objects": ["dog", "wine glass"], "captions": ["A dog sleeps."], "width": 3},
    {"file_name": "2.jpg", "objects": []},
    {"image_id": "3.jpg", "captions": ["Nobody."]},
    {"image_id": "1.jpg", "objects": ["cat", "dog"], "captions": ["A dog sleeps.", "A cat watches."]},
]


def write(folder: Path, lines: list, form: str = "jsonl") -> Path:
    path = folder / "facts.jsonl"
    text = json.dumps(lines) if form == "array" else "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("form", ["jsonl", "array"])
def test_lines_of_one_image_are_put_together(form, tmp_path):
    facts = read_facts(write(tmp_path, LINES, form))
    first = facts.get_facts("1.jpg")
    assert first.objects == ("dog", "wine glass", "cat")
    assert first.captions == ("A dog sleeps.", "A cat watches.")
    assert first.vocabulary == {"dog", "wine glass", "cat"} == facts.get_facts("2.jpg").vocabulary


def test_nothing_listed_is_not_the_same_as_no_listing(tmp_path):
    facts = read_facts(write(tmp_path, LINES))
    assert facts.get_facts("2.jpg").objects == ()
    assert facts.get_facts("3.jpg").objects is None
    unknown = facts.get_facts("4.jpg")
    assert unknown.objects is None and unknown.captions == ()


def test_every_fault_is_named_at_once_with_its_line(tmp_path):
    bad = [
        {"objects": ["dog"]},
        {"image_id": "1.jpg", "objects": "dog"},
        {"image_id": "2.jpg", "objects": ["dog", ""], "captions": [3]},
        ["1.jpg"],
        {"image_id": "3.jpg"},
    ]
    with pytest.raises(DataError) as caught:
        read_facts(write(tmp_path, bad, "array"))
    codes = [row.code for row in caught.value.rows]
    assert sorted(codes) == [
        "facts.captions",
        "facts.no_image",
        "facts.not_an_object",
        "facts.objects",
        "facts.objects",
    ]
    assert all("facts.jsonl" in row.path for row in caught.value.rows)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"image_id": "1.jpg", "width": 3}', "no json", '{"image_id": "a", "image_id": "b"}'],
)
def test_a_file_that_holds_no_facts_is_refused(content, tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text(content)
    with pytest.raises(DataError):
        read_facts(path)
    with pytest.raises(DataError, match=r"fact\.jsonl"):
        read_facts(tmp_path / "fact.jsonl")


@given(st.binary(max_size=200))
def test_whatever_bytes_there_are_the_answer_is_facts_or_a_refusal(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("f") / "facts.jsonl"
    path.write_bytes(data)
    with contextlib.suppress(DataError):
        read_facts(path)
