"""The tables of answers in the page on evaluation show what the parser does."""

import re
from pathlib import Path

from hkdcli.answers.text import parse_text
from hkdcli.data.records import Choice, Example

PAGE = Path(__file__).parents[2] / "docs" / "evaluate.md"
PHRASES = ("No hallucination", "leafy greens", "blue wire shelf", "fresh produce")
LABELS = ("True", "False", "Partially True", "Not Verifiable")
STRICT = re.compile(r"^\| `([^`]+)` \| ([^|]*) \|$", re.MULTILINE)
LENIENT = re.compile(r"^\| `([^`]+)` \| ([^|]*)\| (\w+) \|$", re.MULTILINE)


def read(text, parser):
    is_claim = "claim" in text or "True" in text
    task, texts = ("factuality", LABELS) if is_claim else ("hallucination", PHRASES)
    choices = tuple(Choice(id_, each) for id_, each in zip("ABCD", texts, strict=True))
    return parse_text(text, Example("x", task, "i.png", "?", choices), parser)


def test_every_row_of_the_table_of_strict_is_true():
    rows = STRICT.findall(PAGE.read_text())
    assert len(rows) == 9
    for text, expected in rows:
        reading = read(text, "strict")
        assert (", ".join(sorted(reading.choices)) if reading.choices else reading.how) == expected, text


def test_every_row_of_the_table_of_lenient_is_true():
    rows = LENIENT.findall(PAGE.read_text())
    assert len(rows) == 22
    for text, expected, how in rows:
        reading = read(text, "lenient")
        assert (", ".join(sorted(reading.choices or ())), reading.how) == (expected.strip(), how), text
