"""Rows of predictions as evaluation needs them: read strictly, because a lost row is a wrong score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkdcli.data.json_text import Row
from hkdcli.errors import BadRow, DataError
from hkdcli.evaluation.certainty import Certainty, find_malformed, parse_certainty
from hkdcli.evaluation.columns import HKD_COLUMNS, Columns, explain_unknown, list_fields
from hkdcli.evaluation.prediction_files import iterate_predictions


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model said about one record.

    Attributes:
        id: id of the record.
        choices: the predicted choice ids; None where there is no prediction, or none that can be read.
        failed: the row says `status: error`; a status that is none of ours means nothing.
        path: `file:line`, for messages.
        abstained: the row says `status: abstain`; whatever it may name is not its answer.
        certainty: how sure it is of the answer that it gives or abstains from.
        text: the prediction where it is a text and no list of ids; `choices` is None until it is read.
        unread: why a text gives no choices, as `Reading.how` has it; "" where it does, or was not read.
        record_hash: of what the record asked, as `hash_record` has it; None where the row does not say.
        blind: whether the row says that no image was shown; None where it says nothing.
    """

    id: str
    choices: frozenset[str] | None
    failed: bool = False
    path: str = ""
    abstained: bool = False
    certainty: Certainty = Certainty()
    text: str | None = None
    unread: str = ""
    record_hash: str | None = None
    blind: bool | None = None


def read_predictions(
    path: str | Path, columns: Columns = HKD_COLUMNS, encoding: str = "utf-8"
) -> tuple[Prediction, ...]:
    """Read a file of predictions: JSONL, a JSON array, an object {id: answer}, CSV or TSV.

    Only `id`, `prediction`, `status` and the fields of `Certainty` are looked at; all but `id` may be absent
    or null; of other columns than hkd's own those that are named, and `status`. A `prediction` that is
    neither a list of ids nor a text is kept as unreadable: evaluation counts it as invalid, it never
    vanishes.

    Args:
        path: the file; a table where its name ends in .csv or .tsv, JSON otherwise.
        columns: which fields hold what.
        encoding: of the text.

    Returns:
        One prediction per row, in file order.

    Raises:
        DataError: when the file cannot be read, is empty, has none of the named columns, or any row is no
            JSON object with an id, holds NaN or infinity, repeats a key or an id, has a malformed field of
            `Certainty` or other cells than the header; every such row and field is named.
    """
    predictions: list[Prediction] = []
    bad_rows: list[BadRow] = []
    unreadable = 0
    for row in iterate_predictions(Path(path), columns, encoding):
        parsed = _parse_row(row, columns)
        if isinstance(parsed, Prediction):
            predictions.append(parsed)
        else:
            bad_rows += parsed
            unreadable += 1
    if bad_rows:
        raise DataError(
            f"{path}: {unreadable} unreadable prediction rows",
            bad_rows,
            hint="Correct these rows, or ask again with hkd infer.",
        )
    if not predictions:
        raise DataError(f"{path}: 0 predictions", hint="Give what hkd infer wrote for these records.")
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
        raise DataError(
            f"{len(repeated)} duplicate predictions", repeated, hint="Keep one prediction for each record."
        )


def _parse_row(row: Row | BadRow, columns: Columns) -> Prediction | list[BadRow]:
    """The prediction of a row, or everything that is wrong with it."""
    if isinstance(row, BadRow):
        return [row]
    if not isinstance(row.value, dict):
        return [BadRow("prediction.type", "", row.path, "is no JSON object")]
    identity = row.value.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        other = columns.is_default and row.value and "id" not in row.value
        hint = explain_unknown("id", list_fields(row.value), row.path).hint if other else ""
        return [BadRow("prediction.no_id", "", row.path, f"has no {columns.id}", hint)]
    malformed = [
        BadRow(f"prediction.{name}", str(identity), row.path, detail)
        for name, detail in find_malformed(row.value)
    ]
    return malformed or _build_prediction(str(identity), row.value, row.path)


def _build_prediction(identity: str, value: dict[str, Any], path: str) -> Prediction:
    status = value.get("status")
    choices, text = _parse_answer(value.get("prediction"))
    return Prediction(
        id=identity,
        choices=choices,
        failed=status == "error",
        path=path,
        abstained=status == "abstain",
        certainty=parse_certainty(value),
        text=text,
        record_hash=asked if isinstance(asked := value.get("record_hash"), str) else None,
        blind=blind if isinstance(blind := value.get("blind"), bool) else None,
    )


def _parse_answer(value: object) -> tuple[frozenset[str] | None, str | None]:
    """A list of ids, or a text; whole numbers are ids too."""
    if isinstance(value, list) and all(type(choice) in (str, int) for choice in value):
        return frozenset(str(choice).strip() for choice in value), None
    if isinstance(value, str) or type(value) is int:
        return None, str(value)
    return None, None
