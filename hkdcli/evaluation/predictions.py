"""Rows of predictions.jsonl as evaluation needs them: read strictly, because a lost row is a wrong score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkdcli.data.json_text import Row, decode_text, iterate_json
from hkdcli.errors import BadRow, DataError
from hkdcli.evaluation.certainty import Certainty, find_malformed, parse_certainty


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model said about one record.

    Attributes:
        id: id of the record.
        choices: the predicted choice ids; None where there is no prediction, or none that can be read.
        failed: the row has a status, and that is neither ok nor abstain.
        path: `file:line`, for messages.
        abstained: the row says `status: abstain`; whatever it may name is not its answer.
        certainty: how sure it is of the answer that it gives or abstains from.
    """

    id: str
    choices: frozenset[str] | None
    failed: bool = False
    path: str = ""
    abstained: bool = False
    certainty: Certainty = Certainty()


def read_predictions(path: str | Path) -> tuple[Prediction, ...]:
    """Read a file of predictions, one JSON object a line.

    Only `id`, `prediction`, `status` and the fields of `Certainty` are looked at; all but `id` may be absent
    or null. A `prediction` that is no list of ids is kept as unreadable: evaluation counts it as invalid, it
    never vanishes.

    Args:
        path: a JSONL file.

    Returns:
        One prediction per line, in file order.

    Raises:
        DataError: when the file cannot be read, is empty, or any row is no JSON object with an id, holds
            NaN or infinity, repeats a key or an id, or has a malformed field of `Certainty`; every such row
            and field is named.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is no regular file, so it cannot hold predictions")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot read predictions: {error.strerror}") from error
    predictions: list[Prediction] = []
    bad_rows: list[BadRow] = []
    unreadable = 0
    for row in iterate_json(decode_text(data, str(path)), str(path)):
        parsed = _parse_row(row)
        if isinstance(parsed, Prediction):
            predictions.append(parsed)
        else:
            bad_rows += parsed
            unreadable += 1
    if bad_rows:
        raise DataError(f"{path}: {unreadable} unreadable prediction rows", bad_rows)
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


def _parse_row(row: Row | BadRow) -> Prediction | list[BadRow]:
    """The prediction of a row, or everything that is wrong with it."""
    if isinstance(row, BadRow):
        return [row]
    if not isinstance(row.value, dict):
        return [BadRow("prediction.type", "", row.path, "is no JSON object")]
    identity = row.value.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        return [BadRow("prediction.no_id", "", row.path, "has no id")]
    malformed = [
        BadRow(f"prediction.{name}", str(identity), row.path, detail)
        for name, detail in find_malformed(row.value)
    ]
    return malformed or _build_prediction(str(identity), row.value, row.path)


def _build_prediction(identity: str, value: dict[str, Any], path: str) -> Prediction:
    status = value.get("status", "ok")
    return Prediction(
        id=identity,
        choices=_parse_choices(value.get("prediction")),
        failed=status not in ("ok", "abstain"),
        path=path,
        abstained=status == "abstain",
        certainty=parse_certainty(value),
    )


def _parse_choices(value: object) -> frozenset[str] | None:
    if isinstance(value, list) and all(isinstance(choice, str) for choice in value):
        return frozenset(value)
    return None
