"""Files of predictions, whatever their form, as rows of one shape: JSON, JSONL, a mapping, CSV, TSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from hkdcli.data.json_text import Row, decode_text, iterate_json
from hkdcli.errors import BadRow, DataError
from hkdcli.evaluation.columns import STATUSES, Columns, explain_unknown, list_fields, take_fields

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_DELIMITED = (";", ",", "\t", "|")
OWN = "run_hash"

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def iterate_predictions(path: Path, columns: Columns, encoding: str) -> Iterator[Row | BadRow]:
    """Give the rows of a file under our own names: id, prediction, confidence and status.

    A file whose name ends in .csv or .tsv is read as such, any other one as JSON. Rows of hkd's own columns
    keep all their fields. An object {id: answer} gives a row for each id.

    Args:
        path: The file.
        columns: What its columns are called.
        encoding: Of its text; a byte order mark is read past.

    Returns:
        A Row per prediction, or a BadRow for one that cannot be read on its own.

    Raises:
        DataError: The file cannot be read at all.
    """
    if path.exists() and not path.is_file():
        raise DataError(
            f"{path}: is no regular file, so it cannot hold predictions",
            hint="Give the file that hkd infer wrote.",
        )
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot read predictions: {error.strerror}", hint="Give the file that hkd infer wrote."
        ) from error
    text = decode_text(data, str(path), encoding, hint="save the file as UTF-8")
    delimiter = _DELIMITERS.get(path.suffix.lower())
    if delimiter is not None:
        return _iterate_table(text, str(path), delimiter, columns)
    rows = iterate_json(text, str(path))
    return _expand_mapping(rows) if columns.is_default else _rename(rows, str(path), columns)


def _expand_mapping(rows: Iterator[Row | BadRow]) -> Iterator[Row | BadRow]:
    """The rows themselves, or those that the only one maps: an object without id, of nothing but answers."""
    first = next(rows, None)
    if first is None:
        return iter(())
    second = next(rows, None)
    if second is not None:
        return chain((first, second), rows)
    if isinstance(first, BadRow) or not _is_mapping(first.value):
        return iter((first,))
    return (Row(first.path, {"id": key, "prediction": answer}) for key, answer in first.value.items())


def _is_mapping(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and "id" not in value
        and all(
            isinstance(answer, str)
            or (isinstance(answer, list) and all(isinstance(choice, str) for choice in answer))
            for answer in value.values()
        )
    )


def _rename(rows: Iterator[Row | BadRow], path: str, columns: Columns) -> Iterator[Row | BadRow]:
    """Rows under our own names; raises DataError where no row has one of the named fields."""
    unseen = set(columns.named)
    there: dict[str, None] = {}
    for row in rows:
        if isinstance(row, Row) and isinstance(row.value, dict):
            if OWN in row.value:  # hkd's own rows need no names, also where another file does
                yield row
                continue
            taken = take_fields(row.value, columns)
            if unseen:
                unseen -= taken.keys()
                there |= dict.fromkeys(list_fields(row.value)) if len(there) < 100 else {}
            yield Row(row.path, taken)
        else:
            yield row
    if unseen and there:
        missing = [name for ours, name in columns.named.items() if ours in unseen]
        bad_rows = [explain_unknown(name, there, path) for name in missing]
        raise DataError("the file has other columns", bad_rows)


def _iterate_table(text: str, path: str, delimiter: str, columns: Columns) -> Iterator[Row | BadRow]:
    """Rows of a table with a header; behind a broken quote nothing is read."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    places: dict[str, int] = {}
    width = 0
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield BadRow("data.table", "", where, f"{error}; the rows from here on cannot be told apart")
            return
        if cells is None:
            return
        if not cells:
            continue
        if not places:
            places, width = _find_places([cell.strip() for cell in cells], where, columns), len(cells)
        elif len(cells) != width:
            yield BadRow("data.table", "", where, f"{len(cells)} cells where the header has {width}")
        else:
            yield _build_row({ours: cells[place].strip() for ours, place in places.items()}, where)


def _find_places(header: list[str], path: str, columns: Columns) -> dict[str, int]:
    """Where each of our columns stands; confidence and status may be absent where nobody named them."""
    wanted = {**columns.named, **({"status": "status"} if columns.has_status else {})}
    if columns.is_default:
        wanted["confidence"] = "confidence"
    twice = sorted({name for name in header if name and header.count(name) > 1})
    problems = [
        BadRow("data.table", "", path, f"the column {ascii(name[:50])} stands twice") for name in twice
    ]
    if len(header) == 1 and (other := next((each for each in _DELIMITED if each in header[0]), None)):
        hint = "part .csv by commas and .tsv by tabs"
        detail = f"one column; its header is parted by {other!r}"
        raise DataError("the header cannot be used", [BadRow("data.table", "", path, detail, hint)])
    problems += [explain_unknown(name, header, path) for name in columns.named.values() if name not in header]
    if problems:
        raise DataError("the header cannot be used", problems)
    return {ours: header.index(theirs) for ours, theirs in wanted.items() if theirs in header}


def _build_row(cells: dict[str, str], path: str) -> Row:
    """A row as JSON would have it: an empty cell is null, but an empty prediction is an empty answer."""
    value: dict[str, Any] = {ours: cell or None for ours, cell in cells.items()}
    value["prediction"] = cells["prediction"]
    if value.get("status") not in STATUSES:
        value.pop("status", None)
    if value.get("confidence") and _NUMBER.fullmatch(value["confidence"]):
        value["confidence"] = float(value["confidence"])
    return Row(path, value)
