"""Rows of predictions.jsonl as evaluation needs them: read strictly, because a lost row is a wrong score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hkdcli.data.json_text import Row, decode_text, iterate_json
from hkdcli.errors import BadRow, DataError


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model said about one record.

    Attributes:
        id: id of the record.
        choices: the predicted choice ids; None where there is no prediction, or none that can be read.
        failed: the row says `status: error`.
        path: `file:line`, for messages.
    """

    id: str
    choices: frozenset[str] | None
    failed: bool = False
    path: str = ""


def read_predictions(path: str | Path) -> tuple[Prediction, ...]:
    """Read a file of predictions, one JSON object a line.

    Only `id`, `prediction` and `status` are looked at. A `prediction` that is no list of ids is kept as
    unreadable: evaluation counts it as invalid, it never vanishes.

    Args:
        path: a JSONL file.

    Returns:
        One prediction per line, in file order.

    Raises:
        DataError: when the file cannot be read, is empty, or any row is no JSON object with an id, holds
            NaN or infinity, or repeats a key or an id; every such row is named.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read predictions: {error.strerror}") from error
    rows = [_parse_row(row) for row in iterate_json(decode_text(data, str(path)), str(path))]
    predictions = [row for row in rows if isinstance(row, Prediction)]
    bad_rows = [row for row in rows if isinstance(row, BadRow)]
    if bad_rows:
        raise DataError(f"{path}: {len(bad_rows)} unreadable prediction rows", bad_rows)
    if not predictions:
        raise DataError(f"{path}: 0 predictions")
    check_unique(predictions)
    return tuple(predictions)


def check_unique(predictions: Iterable[Prediction]) -> None:
    """Refuse two predictions for one record: whichever were kept, the score would be arbitrary.

    Args:
        predictions: rows in file order.

    Raises:
        DataError: naming every repeated id and where it stood first.
    """
    first: dict[str, str] = {}
    repeated = []
    for row in predictions:
        if row.id in first:
            detail = f"a second prediction for this id; the first is at {first[row.id] or 'an earlier row'}"
            repeated.append(BadRow("prediction.duplicate", row.id, row.path, detail))
        first.setdefault(row.id, row.path)
    if repeated:
        raise DataError(f"{len(repeated)} duplicate predictions", repeated)


def _parse_row(row: Row | BadRow) -> Prediction | BadRow:
    if isinstance(row, BadRow):
        return row
    if not isinstance(row.value, dict):
        return BadRow("prediction.type", "", row.path, "is no JSON object")
    identity = row.value.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        return BadRow("prediction.no_id", "", row.path, "has no id")
    return Prediction(
        id=str(identity),
        choices=_parse_choices(row.value.get("prediction")),
        failed=row.value.get("status", "ok") != "ok",
        path=row.path,
    )


def _parse_choices(value: object) -> frozenset[str] | None:
    if isinstance(value, list) and all(isinstance(choice, str) for choice in value):
        return frozenset(value)
    return None
