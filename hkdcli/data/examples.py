"""Files of examples: read in every form that the challenge and its users write, written in one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from hkdcli.atomic import write_atomic
from hkdcli.data.answers_text import is_contradicted
from hkdcli.data.containers import iterate_rows
from hkdcli.data.records import NO_HALLUCINATION, Choice, Example, Task
from hkdcli.data.rows import parse_row, render_row
from hkdcli.errors import BadRow, DataError

__all__ = [
    "NO_HALLUCINATION",
    "Choice",
    "Example",
    "ReadResult",
    "Task",
    "read_examples",
    "write_examples",
]


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a file held: the usable examples, the rows that are not, and what to warn about."""

    examples: tuple[Example, ...]
    bad_rows: tuple[BadRow, ...]
    warnings: tuple[str, ...]


def read_examples(path: str | Path, *, encoding: str = "utf-8", strict: bool = False) -> ReadResult:
    """Read a JSON array, JSONL, one JSON object, Parquet, or a `datasets.save_to_disk` folder.

    A form whose package is not installed raises SetupError, an unknown encoding UsageError.

    Args:
        path: The file or folder; its form is told from its content, not its name.
        encoding: Of JSON text.
        strict: Make a bad row of a record whose `correct_answer` and `correct_choice` disagree
            (`record.answer_mismatch`); otherwise they are counted in a warning.

    Returns:
        Examples in file order, bad rows in file order, warnings. Identical rows are kept once; a
        second, different row of the same id is bad (`record.duplicate_id`). A bad row whose id another
        record has is given without it.

    Raises:
        DataError: The whole file is unusable, or holds no records.
    """
    kept: dict[str, Example] = {}
    bad_rows: list[BadRow] = []
    twice, contradicted = 0, []
    for row in iterate_rows(Path(path), encoding):
        example = row if isinstance(row, BadRow) else parse_row(row.value, row.path)
        if isinstance(example, BadRow):
            bad_rows.append(example)
        elif example.id in kept:
            twice += 1
            if example != kept[example.id]:
                bad_rows.append(_refuse_second(example, row.path))
                twice -= 1
        elif strict and is_contradicted(example):
            detail = "correct_answer and correct_choice name different choices"
            bad_rows.append(BadRow("record.answer_mismatch", example.id, row.path, detail))
        else:
            kept[example.id] = example
            if is_contradicted(example):
                contradicted.append(example.id)
    if not kept and not bad_rows:
        raise DataError("0 records", [BadRow("data.no_records", "", str(path), "the file holds no records")])
    return ReadResult(
        tuple(kept.values()), tuple(_disown(bad_rows, set(kept))), _build_warnings(twice, contradicted)
    )


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Write examples as JSONL, or as a JSON array where the name ends in .json.

    The file appears whole or not at all. `read_examples` gives the same examples back. A place that
    cannot be written raises SetupError, a full disk MachineLimitError.

    Args:
        path: Where to; its folder is made if absent.
        examples: What to write.

    Raises:
        DataError: An example holds what JSON cannot (NaN, half a character).
    """
    path = Path(path)
    try:
        rows = [json.dumps(render_row(each), ensure_ascii=False, allow_nan=False) for each in examples]
        text = (
            "[\n" + ",\n".join(rows) + "\n]\n" if path.suffix == ".json" else "".join(f"{r}\n" for r in rows)
        )
        data = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        row = BadRow("record.unsupported_value", "", str(path), ascii(str(error))[:200])
        raise DataError(
            "cannot be written as JSON", [row], hint="Take out what JSON has no form for."
        ) from error
    write_atomic(path, data)


def _disown(bad_rows: Iterable[BadRow], taken: set[str]) -> Iterator[BadRow]:
    """Bad rows without an id that another record has: by an id one finds one record, and one prediction."""
    for row in bad_rows:
        if row.id and row.id in taken and row.code != "record.duplicate_id":
            yield replace(row, id="", detail=f"{row.detail} (and its id {row.id} is that of another record)")
        else:
            yield row
            taken.add(row.id)


def _refuse_second(example: Example, path: str) -> BadRow:
    return BadRow(
        "record.duplicate_id",
        example.id,
        path,
        "another record of this id says something else",
        "give each record an id of its own",
    )


def _build_warnings(twice: int, contradicted: list[str]) -> tuple[str, ...]:
    warnings = []
    if twice:
        warnings.append(f"{twice} records stand twice, identical; each is used once")
    if contradicted:
        warnings.append(
            f"{len(contradicted)} records whose correct_answer and correct_choice disagree; the letters "
            f"are used (first: {', '.join(contradicted[:3])})"
        )
    return tuple(warnings)
