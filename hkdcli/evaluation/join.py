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

from hkdcli.data.records import NO_HALLUCINATION, Example, Task
from hkdcli.evaluation.predictions import Prediction

HALLUCINATED = "hallucinated choice"

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Table:
    """Every choice of every scored record of one task.

    Attributes:
        task: the task of all of them.
        records: the records, R of them.
        record: index of each choice's record, [M].
        gold: whether the choice belongs to the gold answer, [M].
        predicted: whether it was predicted, [M]; all False where there is no usable prediction.
        is_none: whether it is the "No hallucination" choice, [M].
        labels: the classes that occur among the choices, sorted.
        label: index of each choice's class, [M].
        letters: the ids that occur among the choices, sorted.
        letter: index of each choice's id, [M].
        rows: what was predicted of each record, R of them; None where that is missing or failed.
        faults: why each record's prediction is scored as the empty set, R of them; "" where it is not.
        counts: records, and how many of them are missing, failed, abstained from or invalid, by name.
    """

    task: Task
    records: tuple[Example, ...]
    record: Ints
    gold: Bools
    predicted: Bools
    is_none: Bools
    labels: tuple[str, ...]
    label: Ints
    letters: tuple[str, ...]
    letter: Ints
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

    @property
    def answered(self) -> Bools:
        """Whether a record's row says ok, be the prediction legal or invalid, [R]."""
        return np.array([row is not None and not row.abstained for row in self.rows], np.bool_)


def build_table(examples: Sequence[Example], predictions: Mapping[str, Prediction]) -> Table:
    """Join the records of one task with their predictions.

    A record without prediction, with `status: error`, abstained from or with an invalid prediction is scored
    as if the empty set had been predicted, and counted under its own name; nothing is dropped.

    Args:
        examples: records of one task, at least one, each with a gold answer.
        predictions: by record id.

    Returns:
        The table, in the order of `examples`.
    """
    gold, predicted, is_none, names, ids, faults, sizes = [], [], [], [], [], [], []
    for example in examples:
        none_id, prediction = example.none_id, predictions.get(example.id)
        fault = find_fault(example, none_id, prediction)
        chosen = prediction.choices if prediction is not None and not fault else None
        said, answer = chosen or frozenset(), example.answer or frozenset()
        faults.append(fault)
        sizes.append(len(example.choices))
        for choice in example.choices:
            letter = choice.id
            gold.append(letter in answer)
            predicted.append(letter in said)
            is_none.append(letter == none_id)
            names.append(name_class(example, letter == none_id, choice.text))
            ids.append(letter)
    labels, label = _encode(names)
    letters, letter_of = _encode(ids)
    return Table(
        task=examples[0].task,
        records=tuple(examples),
        record=np.repeat(np.arange(len(examples)), sizes),
        gold=np.array(gold, np.bool_),
        predicted=np.array(predicted, np.bool_),
        is_none=np.array(is_none, np.bool_),
        labels=labels,
        label=label,
        letters=letters,
        letter=letter_of,
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
        missing, error, abstained, invalid.unreadable, invalid.unparsed, invalid.refusal, invalid.conflict,
        invalid.empty, invalid.unknown_choice, invalid.contradiction, invalid.several, or "".
    """
    if prediction is None:
        return "missing"
    if prediction.failed:
        return "error"
    if prediction.abstained:
        return "abstained"
    chosen = prediction.choices
    if chosen is None:
        return f"invalid.{prediction.unread or 'unreadable'}"
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


def _encode(texts: Sequence[str]) -> tuple[tuple[str, ...], Ints]:
    """The different texts, sorted, and the place of each text among them, [M]."""
    distinct = tuple(sorted(set(texts)))
    places = {text: place for place, text in enumerate(distinct)}
    return distinct, np.array([places[text] for text in texts], np.int64)


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
