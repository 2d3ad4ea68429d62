"""Gold and predictions joined by id into one flat table of binary decisions.

Dimension letters:
    R  scored records of one task
    M  their choices, all records after one another: one binary decision each
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hkdcli.data.records import NO_HALLUCINATION, Example
from hkdcli.evaluation.predictions import Prediction

HALLUCINATED = "hallucinated choice"

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Table:
    """Every choice of every scored record of one task.

    Attributes:
        records: the records, R of them.
        record: index of each choice's record, [M].
        gold: whether the choice belongs to the gold answer, [M].
        predicted: whether it was predicted, [M]; all False where there is no usable prediction.
        is_none: whether it is the "No hallucination" choice, [M].
        labels: the class of each choice, M of them.
        ids: the id of each choice, M of them.
        rows: what was predicted of each record, R of them; None where that is missing or failed.
        faults: why each record's prediction is scored as the empty set, R of them; "" where it is not.
        counts: records, and how many of them are missing, failed, abstained from or invalid, by name.
    """

    records: tuple[Example, ...]
    record: NDArray[np.int64]
    gold: Bools
    predicted: Bools
    is_none: Bools
    labels: NDArray[np.str_]
    ids: NDArray[np.str_]
    rows: tuple[Prediction | None, ...]
    faults: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def matched(self) -> Bools:
        """Whether all decisions of a record are right, [R].

        A gold answer is never empty, so the empty set of a record without usable prediction never matches.
        """
        matched = np.ones(len(self.records), np.bool_)
        matched[self.record[self.gold != self.predicted]] = False
        return matched


def build_table(examples: Sequence[Example], predictions: Mapping[str, Prediction]) -> Table:
    """Join the records of one task with their predictions.

    A record without prediction, with `status: error`, abstained from or with an invalid prediction is scored
    as if the empty set had been predicted, and counted under its own name; nothing is dropped.

    Args:
        examples: records of one task, each with a gold answer.
        predictions: by record id.

    Returns:
        The table, in the order of `examples`.
    """
    record, gold, predicted, is_none, labels, ids = [], [], [], [], [], []
    faults: list[str] = []
    for index, example in enumerate(examples):
        none_id = example.none_id
        fault = find_fault(example, none_id, predictions.get(example.id))
        faults.append(fault)
        chosen = predictions[example.id].choices or frozenset() if fault == "" else frozenset()
        answer = example.answer or frozenset()
        for choice in example.choices:
            record.append(index)
            gold.append(choice.id in answer)
            predicted.append(choice.id in chosen)
            is_none.append(choice.id == none_id)
            labels.append(name_class(example, choice.id == none_id, choice.text))
            ids.append(choice.id)
    return Table(
        records=tuple(examples),
        record=np.array(record, np.int64),
        gold=np.array(gold, np.bool_),
        predicted=np.array(predicted, np.bool_),
        is_none=np.array(is_none, np.bool_),
        labels=np.array(labels, np.str_),
        ids=np.array(ids, np.str_),
        rows=tuple(_find_row(predictions.get(example.id)) for example in examples),
        faults=tuple(faults),
        counts=_name_counts(len(examples), Counter(faults)),
    )


def find_fault(example: Example, none_id: str | None, prediction: Prediction | None) -> str:
    """Why a prediction cannot be scored as it stands; "" when it can.

    Args:
        example: the record.
        none_id: its "No hallucination" choice, if any.
        prediction: what was predicted, if anything.

    Returns:
        missing, error, abstained, invalid.unreadable, invalid.empty, invalid.unknown_choice,
        invalid.contradiction, invalid.several, or "".
    """
    if prediction is None:
        return "missing"
    if prediction.failed:
        return "error"
    if prediction.abstained:
        return "abstained"
    chosen = prediction.choices
    if chosen is None:
        return "invalid.unreadable"
    if not chosen:
        return "invalid.empty"
    if not chosen <= {choice.id for choice in example.choices}:
        return "invalid.unknown_choice"
    if len(chosen) > 1 and none_id in chosen:
        return "invalid.contradiction"
    if len(chosen) > 1 and example.task == "factuality":
        return "invalid.several"
    return ""


def name_class(example: Example, is_none: bool, text: str) -> str:
    """The class that a choice stands for: its text, or for phrases of a caption that it is one."""
    if example.task == "factuality":
        return text.strip()
    return NO_HALLUCINATION if is_none else HALLUCINATED


def _find_row(prediction: Prediction | None) -> Prediction | None:
    return None if prediction is None or prediction.failed else prediction


def _name_counts(records: int, faults: Counter[str]) -> dict[str, int]:
    """Counts that every task has, and those invalid ones that occurred."""
    invalid = {name: n for name, n in sorted(faults.items()) if name.startswith("invalid.")}
    return {
        "records": records,
        "missing": faults["missing"],
        "error": faults["error"],
        "abstained": faults["abstained"],
        "invalid": sum(invalid.values()),
        **invalid,
    }
