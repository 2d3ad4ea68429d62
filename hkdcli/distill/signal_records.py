"""TeacherSignal <-> one record of plain arrays per example, without loss.

Dimension letters, beyond those of `teacher_signal`:
    a  answer positions of one example
    c  choices of one example

A record holds `log_truth` [1] and `choices` [1, c], and where its signal has them `logits` [a, V] or [a, k],
`tokens` [a, k] (int32), `log_sum_exp` [a], `states.answer` [M, a, H] and `states.image` [M, 1, C, H].
They are numpy's arrays: a step reads hundreds of them, and makes tensors of what it has joined alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hkdcli.data.batches import Batch
from hkdcli.distill.teacher_signal import TeacherSignal
from hkdcli.errors import DataError, ModelError
from hkdcli.models.states import States

SignalRecord = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How an array of a record lies: its dimensions, which of them counts, and what it counts."""

    dimensions: int
    axis: int = 0
    per_answer: bool = True  # answer positions; False: examples


_LAYOUTS = {
    "log_truth": _Layout(1, per_answer=False),
    "choices": _Layout(2, per_answer=False),
    "logits": _Layout(2),
    "tokens": _Layout(2),
    "log_sum_exp": _Layout(1),
    "states.answer": _Layout(3, axis=1),
    "states.image": _Layout(4, axis=1, per_answer=False),
}


def list_learned_rows(batch: Batch) -> list[int]:
    """The rows of a batch that are learned from, in the order of `Batch.first`."""
    if not batch.lost:  # the usual case, in which a GPU is not waited for
        return list(range(len(batch.ids)))
    rows: list[int] = batch.answer_rows[batch.first].tolist()
    return rows


def split_signal(signal: TeacherSignal, batch: Batch) -> list[dict[str, NDArray[Any]]]:
    """Cut a signal into records.

    Args:
        signal: on any device.
        batch: what the upper model was asked, on any device.

    Returns:
        One record for each example that is learned from, contiguous. A signal with NaN, which must never be
        stored, is a ModelError.
    """
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in _list_tensors(signal).items()}
    _check_numbers(arrays, batch)
    borders = [*batch.first.tolist(), len(batch.answer_targets)]
    choices = (batch.letter_ids >= 0).sum(-1).tolist()
    records = []
    for place, (start, stop) in enumerate(pairwise(borders)):
        spans = {True: slice(start, stop), False: slice(place, place + 1)}
        record = {name: _cut(name, array, spans[_LAYOUTS[name].per_answer]) for name, array in arrays.items()}
        record["choices"] = record["choices"][:, : choices[place]]
        records.append({name: np.ascontiguousarray(array) for name, array in record.items()})
    return records


def join_signals(records: Sequence[SignalRecord], batch: Batch) -> TeacherSignal:
    """Put records together again: the inverse of `split_signal`.

    Args:
        records: one for each example that is learned from, in the order of `Batch.first`; where none is, the
            empty record that `cut_to_nothing` makes.
        batch: the student's, on the device that the signal is wanted on; nothing of it is waited for.

    Returns:
        The signal, on that device. Records that are not alike, or belong to other answers than those of the
        batch, are a DataError.
    """
    _check_alike(records, batch)
    device, most = batch.first.device, batch.letter_ids.shape[1]
    joined = {}
    for name in records[0]:
        parts = [record[name] for record in records]
        array = _stack(parts, most) if name == "choices" else np.concatenate(parts, _LAYOUTS[name].axis)
        whole = torch.from_numpy(array).to(device)
        joined[name] = whole.long() if name == "tokens" else whole
    states = None
    if "states.answer" in joined:
        states = States(joined.pop("states.answer"), joined.pop("states.image"))
    return TeacherSignal(**joined, states=states)


def cut_to_nothing(record: SignalRecord) -> dict[str, NDArray[Any]]:
    """A record of no example, which says what a signal of none looks like."""
    empty = {name: _cut(name, array, slice(0)) for name, array in record.items()}
    return empty | {"choices": empty["choices"][:, :0]}


def _cut(name: str, array: NDArray[Any], span: slice) -> NDArray[Any]:
    """A span of what the array counts."""
    return array[:, span] if _LAYOUTS[name].axis else array[span]


def _stack(choices: Sequence[NDArray[Any]], most: int) -> NDArray[Any]:
    """Rows [., c] of different lengths below each other, filled up with 0."""
    rows = np.zeros((sum(map(len, choices)), most), choices[0].dtype)
    for place, row in enumerate(row for part in choices for row in part):
        rows[place, : len(row)] = row
    return rows


def _list_tensors(signal: TeacherSignal) -> dict[str, Tensor]:
    tensors = {
        "log_truth": signal.log_truth,
        "choices": signal.choices,
        "logits": signal.logits,
        "tokens": None if signal.tokens is None else signal.tokens.to(torch.int32),  # half the bytes of int64
        "log_sum_exp": signal.log_sum_exp,
        "states.answer": None if signal.states is None else signal.states.answer,
        "states.image": None if signal.states is None else signal.states.image,
    }
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _check_numbers(arrays: SignalRecord, batch: Batch) -> None:
    wrong = [name for name, array in arrays.items() if np.isnan(array).any()]
    if wrong:
        raise ModelError(
            f"the upper model gives NaN ({', '.join(wrong)}) among records {', '.join(batch.ids[:3])} ...",
            hint="Check its weights; on a GPU, float16 overflows where bfloat16 does not.",
        )


def _check_alike(records: Sequence[SignalRecord], batch: Batch) -> None:
    """Refuse what would fail, or be silently wrong, further on."""
    most = batch.letter_ids.shape[1]
    # Few of hundreds differ in shape: one of each is looked at.
    shapes = {tuple((name, a.dtype, a.shape) for name, a in record.items()): record for record in records}
    kinds = {_describe(record) for record in shapes.values()}
    if len(kinds) > 1 or None in kinds or any(r["choices"].shape[1] > most for r in shapes.values()):
        detail = "are not signals of one upper model"
    elif (found := sum(len(record["log_truth"]) for record in records)) != len(batch.first):
        detail = f"are {found}, and there are {len(batch.first)} examples"
    elif (answers := _count_answers(records)) not in (None, len(batch.answer_targets)):
        detail = f"have {answers} answer tokens, and their examples {len(batch.answer_targets)}"
    else:
        return
    raise DataError(
        f"the stored signals of records {', '.join(batch.ids[:3])} ... {detail}",
        hint="Delete the folder that they are stored in: its signals are then computed again.",
    )


def _describe(record: SignalRecord) -> tuple[object, ...] | None:
    """What all records of a store have in common; None: this is none."""
    if not {"log_truth", "choices"} <= record.keys() <= _LAYOUTS.keys():
        return None
    if any(array.ndim != _LAYOUTS[name].dimensions for name, array in record.items()):
        return None
    if ("states.answer" in record) != ("states.image" in record):
        return None
    counts = {_LAYOUTS[name].per_answer: array.shape[_LAYOUTS[name].axis] for name, array in record.items()}
    described = []
    for name in sorted(record):
        layout, shape = _LAYOUTS[name], list(record[name].shape)
        if shape.pop(layout.axis) != counts[layout.per_answer]:
            return None
        described.append((name, record[name].dtype, () if name == "choices" else tuple(shape)))
    return tuple(described)


def _count_answers(records: Sequence[SignalRecord]) -> int | None:
    """Answer positions of all records together; None where they say nothing about single tokens."""
    for name, layout in _LAYOUTS.items():
        if layout.per_answer and name in records[0]:
            return sum(record[name].shape[layout.axis] for record in records)
    return None
