"""One row a record, for spreadsheets: what was asked, gold, what was predicted, and what became of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from hkdcli.atomic import write_atomic
from hkdcli.data.records import Example
from hkdcli.evaluation.join import Table

HEADER = (
    *("id", "task", "image", "text", "question", "choices", "gold", "prediction"),
    *("outcome", "false_alarms", "missed", "confidence"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_record_table(path: Path, tables: Mapping[str, Table]) -> None:
    """Write a CSV file with one row a scored record, whole or not at all.

    `outcome` is right, wrong, or why there is no legal answer. A cell that a spreadsheet would take for a
    formula is preceded by an apostrophe.

    Args:
        path: Where to.
        tables: gold and predictions by task.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    for table in tables.values():
        writer.writerows([_defuse(cell) for cell in row] for row in _iterate_rows(table))
    write_atomic(path, buffer.getvalue().encode("utf-8", "backslashreplace"))


def _iterate_rows(table: Table) -> Iterator[list[str]]:
    matched, start = table.matched.tolist(), 0
    for place, example in enumerate(table.records):
        stop = start + len(example.choices)
        gold, said = table.gold[start:stop].tolist(), table.predicted[start:stop].tolist()
        row, outcome = table.rows[place], "right" if matched[place] else table.faults[place] or "wrong"
        confidence = None if row is None else row.certainty.confidence
        yield [
            *(example.id, example.task, example.image, example.caption or example.claim, example.question),
            " | ".join(f"{choice.id}: {choice.text}" for choice in example.choices),
            _name(example, gold),
            _name(example, said),
            outcome,
            _name(example, [s and not g for g, s in zip(gold, said, strict=True)]),
            _name(example, [g and not s for g, s in zip(gold, said, strict=True)]),
            "" if confidence is None else repr(confidence),
        ]
        start = stop


def _name(example: Example, chosen: list[bool]) -> str:
    return ", ".join(choice.id for choice, is_it in zip(example.choices, chosen, strict=True) if is_it)


def _defuse(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
