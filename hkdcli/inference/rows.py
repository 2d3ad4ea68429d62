"""Rows of predictions.jsonl: one per record, whatever became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hkdcli.data.datasets import hash_record
from hkdcli.data.examples import Example
from hkdcli.data.prompts import Presentation
from hkdcli.errors import BadRow
from hkdcli.inference.decode import Answer, Posterior

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunHashes:
    """What rows of one file must share: the prompt, and all that decides the numbers of a task.

    `runs` has for each task a hash of the weights, the prompt, how records are asked and how they are
    answered; under "" that of rows whose task is not known. `blind`: no image was shown.
    """

    prompt: str
    runs: Mapping[str, str]
    blind: bool = False

    def find_run(self, task: str | None) -> str:
        """The hash that a row of this task carries."""
        return self.runs.get(task or "", self.runs.get("", ""))


def render_prediction(
    example: Example,
    posterior: Posterior,
    *,
    answer: Answer | None,
    confidence: float,
    shifts: int,
    flip_rate: float,
    all_agree: bool,
    truncated: bool,
    approximate: bool,
    hashes: RunHashes,
    orders: Sequence[Row] | None = None,
) -> Row:
    """The row of a record that was asked.

    Args:
        example: the record.
        posterior: what its presentations say together, calibrated.
        answer: the decoded answer; None abstains.
        confidence: posterior probability of the whole decoded set, given or not.
        shifts: how many presentations were averaged.
        flip_rate: how many of them have another most probable answer than all together.
        all_agree: whether all have the same.
        truncated: whether its context was shortened to fit.
        approximate: whether a beam chose the answers of the posterior.
        hashes: of the run.
        orders: what each presentation says, where that is wanted.

    Returns:
        A JSON object.
    """
    marginals = posterior.marginals()
    row: Row = {
        "id": example.id,
        "task": example.task,
        "prediction": None if answer is None else _order(answer, example),
        "posterior": _render_posterior(posterior, example),
        "marginals": {choice.id: _round(marginals[choice.id]) for choice in example.choices},
        "confidence": confidence,
        "shifts": shifts,
        "flip_rate": _round(flip_rate),
        "all_agree": all_agree,
        "approximate": approximate,
        "status": "ok" if answer is not None else "abstain",
        "error": None,
        "record_hash": hash_record(example),
        "prompt_hash": hashes.prompt,
        "run_hash": hashes.find_run(example.task),
        "blind": hashes.blind,
        "truncated": truncated,
        "extra": dict(example.extra),
    }
    return row if orders is None else {**row, "orders": list(orders)}


def render_orders(
    example: Example, shown: Sequence[Presentation], posteriors: Sequence[Posterior]
) -> list[Row]:
    """What each presentation says by itself: the letters it shows, in order, and its posterior."""
    return [
        {"letters": dict(order), "posterior": _render_posterior(posterior, example)}
        for order, posterior in zip(shown, posteriors, strict=True)
    ]


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
        "approximate": None,
        "status": "error",
        "error": {"code": row.code, "detail": row.detail, "hint": row.hint},
        "record_hash": hash_record(example),
        "prompt_hash": hashes.prompt,
        "run_hash": hashes.find_run(example.task if example else None),
        "blind": hashes.blind,
        "truncated": example.truncated if example else False,
        "extra": dict(example.extra) if example else {},
    }


def render_line(row: Row) -> bytes:
    """A row as one line of JSON; refuses NaN, keeps any text (lone surrogates too) as ASCII escapes."""
    return json.dumps(row, allow_nan=False, default=str).encode("ascii") + b"\n"


def _order(answer: Answer, example: Example) -> list[str]:
    """Choice ids in sorted order, as every reader of predictions expects them."""
    return sorted(choice.id for choice in example.choices if choice.id in answer)


def _render_posterior(posterior: Posterior, example: Example) -> Sequence[Row]:
    pairs = zip(posterior.answers, posterior.probs, strict=True)
    return [{"answer": _order(answer, example), "p": _round(p)} for answer, p in pairs]


def _round(value: float) -> float:
    """Nine significant digits: all that float32 arithmetic can mean."""
    return float(f"{value:.9g}")
