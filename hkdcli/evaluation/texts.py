"""Predictions that are text, read with the record that they are about, and what that reading is worth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from hkdcli.answers.text import Parser, Reading, parse_text
from hkdcli.data.records import Example
from hkdcli.evaluation.counting import Confusion, count_confusion
from hkdcli.evaluation.metrics import join_predictions
from hkdcli.evaluation.predictions import Prediction
from hkdcli.evaluation.results import Parsing

PARSERS: tuple[Parser, ...] = ("strict", "lenient")


def read_texts(
    predictions: Sequence[Prediction], examples: Sequence[Example], parser: Parser
) -> tuple[Sequence[Prediction], Parsing | None]:
    """Read every prediction that is a text about a scored record.

    Args:
        predictions: as `read_predictions` gives them.
        examples: the records; those without gold are read too.
        parser: whose reading the predictions get.

    Returns:
        The predictions, with `choices`, or with `unread` where there is no clear answer; and what both
        parsers make of the texts of records with gold, None where there are none.
    """
    if all(row.text is None for row in predictions):
        return predictions, None
    known = {example.id: example for example in examples}
    readings = {name: dict(_iterate_readings(predictions, known, name)) for name in PARSERS}
    read = {name: _apply(predictions, found) for name, found in readings.items()}
    gold = {example.id for example in examples if example.answer is not None}
    scored = {name: [each for key, each in found.items() if key in gold] for name, found in readings.items()}
    if not scored[parser]:
        return read[parser], None
    return read[parser], Parsing(
        parser=parser,
        texts=len(scored[parser]),
        by_kind=dict(Counter(reading.how for reading in scored[parser])),
        strict_unparsed=sum(reading.choices is None for reading in scored["strict"]),
        lenient_unparsed=sum(reading.choices is None for reading in scored["lenient"]),
        strict_micro_f1=_score(read["strict"], examples),
        lenient_micro_f1=_score(read["lenient"], examples),
    )


def _iterate_readings(
    predictions: Sequence[Prediction], known: Mapping[str, Example], parser: Parser
) -> Iterator[tuple[str, Reading]]:
    """The reading of each text about a known record, by the record's id."""
    for row in predictions:
        example = known.get(row.id)
        if row.text is not None and example is not None and not row.failed and not row.abstained:
            yield row.id, parse_text(row.text, example, parser)


def _apply(predictions: Sequence[Prediction], readings: Mapping[str, Reading]) -> list[Prediction]:
    return [
        row
        if row.id not in readings
        else replace(row, choices=readings[row.id].choices, unread=_name_unread(readings[row.id]))
        for row in predictions
    ]


def _name_unread(reading: Reading) -> str:
    return reading.how if reading.choices is None else ""


def _score(predictions: Sequence[Prediction], examples: Sequence[Example]) -> float | None:
    """Micro-F1 over all records with gold."""
    return Confusion.add(map(count_confusion, join_predictions(predictions, examples).values())).f1
