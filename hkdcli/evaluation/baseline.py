"""The best constant answer: what one reaches without looking at a single image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hkdcli.evaluation.counting import Confusion, count_confusion, count_groups
from hkdcli.evaluation.join import Ints, Table

MAX_LETTERS = 26  # ids are kept verbatim, so a file could have a different one in every record


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant answer and what it gets right and wrong."""

    name: str
    confusion: Confusion


def find_best_constant(table: Table) -> Constant:
    """The constant answer of the highest micro-F1 on this very table; the first of equals.

    It is chosen on the data that it is scored on, so it is the highest bar that a constant can set.

    Args:
        table: records of one task, at least one.

    Returns:
        The answer's name and counts.
    """
    return max(_propose(table), key=lambda constant: constant.confusion.f1 or 0.0)


def _propose(table: Table) -> Iterator[Constant]:
    """Constant answers with what they get right and wrong."""
    if table.is_none.any():
        yield Constant("always 'No hallucination'", count_confusion(table, table.is_none))
        yield Constant("always every other choice", count_confusion(table, ~table.is_none))
    else:
        found = _count_constants(table, table.label, len(table.labels))
        for label, confusion in zip(table.labels, found, strict=True):
            yield Constant(f"always {label!r}", confusion)
    counts = np.bincount(table.letter, minlength=len(table.letters))
    found = _count_constants(table, table.letter, len(table.letters))
    for place in np.argsort(-counts, kind="stable")[:MAX_LETTERS]:
        yield Constant(f"always choice {table.letters[place]!r}", found[place])


def _count_constants(table: Table, groups: Ints, size: int) -> list[Confusion]:
    """What it gets right and wrong to predict one group of choices always, for each group."""
    gold = int(np.count_nonzero(table.gold))
    found = count_groups(table.gold, np.ones(len(table.gold), np.bool_), groups, size)
    return [replace(each, false_negatives=gold - each.true_positives) for each in found]
