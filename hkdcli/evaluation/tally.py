"""What each record adds to the counts that scores are made of, and which image it belongs to.

Every score of counts is a formula over the columns of a tally, summed over records. So the same formula gives
the score of a file and of each of its resamples, and a resample needs to know nothing but these columns.

Dimension letters:
    R  scored records
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hkdcli.evaluation.join import Bools, Ints, Table

MAX_CLASSES = 50  # a file may name a class of its own in every record

Classes = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of some records.

    Attributes:
        columns: named counts, [R] each.
        images: the image of each record, R of them: what is drawn together in a resample.
        classes: the class columns of each task: `task/place of the class`.
    """

    columns: Mapping[str, Ints]
    images: tuple[str, ...]
    classes: Classes

    def select(self, records: Ints, names: Iterable[str]) -> Tally:
        """Some columns of some records.

        Args:
            records: indices of records.
            names: columns to keep.

        Returns:
            A tally without classes.
        """
        kept = {name: self.columns[name][records] for name in names}
        return Tally(kept, tuple(self.images[place] for place in records.tolist()), {})


def tally_records(table: Table) -> Tally:
    """Count the decisions of each record of one task.

    The columns: `records` and `matched`; `answered` (its row says ok) and `answered_matched`; `named` (its
    prediction is a legal answer); decisions `tp`, `fp`, `fn`; the same over the choices other than "No
    hallucination", `found_tp` and so on, with their number `phrases`, and `named_phrases` where there is a
    legal answer; the same of each class, as long as there are at most `MAX_CLASSES`.

    Args:
        table: gold and predictions.

    Returns:
        The tally, in the order of the table.
    """
    matched, answered = table.matched, table.answered
    named = np.array([not fault for fault in table.faults], np.bool_)
    columns = {
        "records": np.ones(len(table.records), np.int64),
        "matched": matched.astype(np.int64),
        "answered": answered.astype(np.int64),
        "answered_matched": (answered & matched).astype(np.int64),
        "named": named.astype(np.int64),
        **_count_decisions(table, "", np.ones(len(table.gold), np.bool_)),
    }
    if table.task == "hallucination":
        columns |= _count_decisions(table, "found_", ~table.is_none)
        columns["phrases"] = _sum_by_record(table, ~table.is_none)
        columns["named_phrases"] = columns["phrases"] * named
    classes = [f"{table.task}/{place}" for place in range(len(table.labels))]
    classes = classes if len(classes) <= MAX_CLASSES else []
    for place, name in enumerate(classes):
        columns |= _count_decisions(table, f"{name}:", table.label == place)
    images = tuple(example.image for example in table.records)
    return Tally(columns, images, {table.task: classes})


def join_tallies(tallies: Sequence[Tally]) -> Tally:
    """The records of several tasks after one another; a column that a task lacks is 0 there."""
    names = dict.fromkeys(name for tally in tallies for name in tally.columns)
    empty = [np.zeros(len(tally.images), np.int64) for tally in tallies]
    columns = {
        name: np.concatenate(
            [tally.columns.get(name, zeros) for tally, zeros in zip(tallies, empty, strict=True)]
        )
        for name in names
    }
    images = tuple(image for tally in tallies for image in tally.images)
    return Tally(columns, images, {task: names for tally in tallies for task, names in tally.classes.items()})


def pair_tallies(first: Tally, second: Tally) -> Tally:
    """Two systems' counts of the same records side by side, under `a:` and `b:`.

    Args:
        first: of the records in some order.
        second: of the same records in the same order.

    Returns:
        One tally with the columns of both.
    """
    columns = {f"a:{name}": column for name, column in first.columns.items()}
    columns |= {f"b:{name}": column for name, column in second.columns.items()}
    return Tally(columns, first.images, first.classes)


def _count_decisions(table: Table, prefix: str, among: Bools) -> dict[str, Ints]:
    gold, said = table.gold & among, table.predicted & among
    return {
        f"{prefix}tp": _sum_by_record(table, gold & said),
        f"{prefix}fp": _sum_by_record(table, ~gold & said),
        f"{prefix}fn": _sum_by_record(table, gold & ~said),
    }


def _sum_by_record(table: Table, decisions: Bools) -> Ints:
    return np.bincount(table.record[decisions], minlength=len(table.records))
