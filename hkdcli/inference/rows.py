"""predictions.jsonl: one row per record, appended as they come and safe to go on with after any kill."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkdcli.data.examples import Example
from hkdcli.errors import BadRow, DataError, UsageError
from hkdcli.inference.decode import Answer, Posterior
from hkdcli.inference.shift import Combined

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunHashes:
    """What rows of one file must share: the prompt, and all that decides the numbers.

    `run` covers the weights, the prompt and how records are asked.
    """

    prompt: str
    run: str


@dataclass(frozen=True, slots=True)
class DoneRows:
    """Rows that an interrupted run left: status by id, and the byte after the last whole row."""

    status: Mapping[str, str]
    end: int


def render_prediction(
    example: Example, combined: Combined, answer: Answer, *, shifts: int, truncated: bool, hashes: RunHashes
) -> Row:
    """The row of a record that was answered.

    Args:
        example: the record.
        combined: what its presentations say together.
        answer: the decoded answer.
        shifts: how many presentations were averaged.
        truncated: whether its context was shortened to fit.
        hashes: of the run.

    Returns:
        A JSON object; `confidence` is the posterior probability of the whole predicted set.
    """
    posterior = combined.posterior
    marginals = posterior.marginals()
    return {
        "id": example.id,
        "task": example.task,
        "prediction": _order(answer, example),
        "posterior": _render_posterior(posterior, example),
        "marginals": {choice.id: _round(marginals[choice.id]) for choice in example.choices},
        "confidence": _round(posterior.get_probability(answer)),
        "shifts": shifts,
        "flip_rate": _round(combined.flip_rate),
        "all_agree": combined.all_agree,
        "status": "ok",
        "error": None,
        "prompt_hash": hashes.prompt,
        "run_hash": hashes.run,
        "truncated": truncated,
        "extra": dict(example.extra),
    }


def render_failure(row: BadRow, example: Example | None, hashes: RunHashes) -> Row:
    """The row of a record that could not be answered: it is kept, and predicts nothing.

    Args:
        row: what is wrong with it.
        example: the record, None where it could not even be read.
        hashes: of the run.

    Returns:
        A JSON object with the keys of `render_prediction`.
    """
    return {
        "id": example.id if example else row.id,
        "task": example.task if example else None,
        "prediction": None,
        "posterior": None,
        "marginals": None,
        "confidence": None,
        "shifts": None,
        "flip_rate": None,
        "all_agree": None,
        "status": "error",
        "error": {"code": row.code, "detail": row.detail, "hint": row.hint},
        "prompt_hash": hashes.prompt,
        "run_hash": hashes.run,
        "truncated": example.truncated if example else False,
        "extra": dict(example.extra) if example else {},
    }


def render_line(row: Row) -> bytes:
    """A row as one line of JSON; refuses NaN, keeps any text (lone surrogates too) as ASCII escapes."""
    return json.dumps(row, allow_nan=False, default=str).encode("ascii") + b"\n"


def read_done_rows(path: Path, hashes: RunHashes) -> DoneRows:
    """Read what an interrupted run wrote; a last line cut off by the kill does not count.

    Args:
        path: the predictions so far.
        hashes: of the run that goes on.

    Returns:
        The ids that are done. `DataError` where the file holds no predictions, or is damaged before its
        last line; `UsageError` where its rows were made with another prompt, model or way of asking.
    """
    status: dict[str, str] = {}
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    for number, line in enumerate(data[:end].split(b"\n")[:-1], start=1):
        row = _parse_row(line, f"{path}:{number}")
        _check_hashes(row, hashes, f"{path}:{number}")
        status[row["id"]] = row["status"]
    return DoneRows(status, end)


def _parse_row(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line)
        missing = {"id", "status", "prompt_hash", "run_hash"} - set(row)
    except (ValueError, TypeError) as error:
        raise _refuse(where, f"cannot be read as a prediction: {error}") from error
    if missing or not isinstance(row, dict):
        raise _refuse(where, f"is no prediction: {', '.join(sorted(missing))} missing")
    return row


def _check_hashes(row: Row, hashes: RunHashes, where: str) -> None:
    if row["prompt_hash"] != hashes.prompt:
        what = "another prompt, tokenizer or image processing"
    elif row["run_hash"] != hashes.run:
        what = "another model, or other shifts or decoding"
    else:
        return
    raise UsageError(
        f"{where}: was written with {what}",
        hint="write to a new file, or go on with what the file began with",
    )


def _refuse(where: str, detail: str) -> DataError:
    return DataError(f"{where}: {detail}", hint="write to a new file; this one is left as it is")


def _order(answer: Answer, example: Example) -> list[str]:
    """Choice ids in sorted order, as every reader of predictions expects them."""
    return sorted(choice.id for choice in example.choices if choice.id in answer)


def _render_posterior(posterior: Posterior, example: Example) -> Sequence[Row]:
    pairs = zip(posterior.answers, posterior.probs, strict=True)
    return [{"answer": _order(answer, example), "p": _round(p)} for answer, p in pairs]


def _round(value: float) -> float:
    """Nine significant digits: all that float32 arithmetic can mean."""
    return float(f"{value:.9g}")
