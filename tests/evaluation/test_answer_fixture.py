"""Texts as models write them, judged by hand: none is read wrongly, and few are not read."""

import json
from pathlib import Path

import pytest

from hkdcli.answers.text import parse_text
from hkdcli.data.records import Choice, Example

LABELS = ("True", "False", "Partially True", "Not Verifiable")
CAPTION = (
    "A produce shelf displays fresh, vibrant vegetables, including leafy greens, "
    "arranged on a blue wire shelf next to fresh produce."
)
MOST_MISSES = 0.22
"""Of the texts that give an answer, the share that may go unread: measured, and rounded up to a hundredth."""


def make_record(task, ids, texts, said):
    choices = tuple(Choice(id_, text) for id_, text in zip(ids, texts, strict=True))
    about = {"caption": said} if task == "hallucination" else {"claim": said}
    return Example("x", task, "i.png", "?", choices, **about)


RECORDS = {
    "phrases": make_record(
        "hallucination",
        "ABCD",
        ("No hallucination", "leafy greens", "blue wire shelf", "fresh produce"),
        CAPTION,
    ),
    "numbers": make_record(
        "hallucination",
        "1234",
        ("man", "red bike", "two dogs", "No hallucination"),
        "A man is riding a red bike near two dogs.",
    ),
    "claim": make_record("factuality", "ABCD", LABELS, "The bicycle is far away from the bus."),
}
ROWS = [
    json.loads(row) for row in Path(__file__).with_name("answer_texts.jsonl").read_text("utf-8").splitlines()
]


def read(row):
    reading = parse_text(row["text"], RECORDS[row["record"]], "lenient")
    return None if reading.choices is None else sorted(reading.choices)


@pytest.mark.parametrize("row", ROWS, ids=range(1, len(ROWS) + 1))
def test_a_text_is_read_as_a_person_reads_it_or_not_at_all(row):
    assert read(row) in (None, row["expected"])


def test_few_texts_that_give_an_answer_are_not_read():
    answered = [row for row in ROWS if row["expected"] is not None]
    missed = [row["text"] for row in answered if read(row) is None]
    assert len(missed) <= MOST_MISSES * len(answered), missed
