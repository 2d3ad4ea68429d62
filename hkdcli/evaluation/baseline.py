"""The best constant answer: what one reaches without looking at a single image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hkdcli.evaluation.counting import Confusion, count_confusion
from hkdcli.evaluation.join import Bools, Table

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
    constants = [Constant(name, count_confusion(table, predicted=said)) for name, said in _propose(table)]
    return max(constants, key=lambda constant: constant.confusion.f1 or 0.0)


def _propose(table: Table) -> Iterator[tuple[str, Bools]]:
    """Constant answers as predictions [M], each with a name."""
    if table.is_none.any():
        yield "always 'No hallucination'", table.is_none
        yield "always every other choice", ~table.is_none
    else:
        for place, label in enumerate(table.labels):
            yield f"always {label!r}", table.label == place
    counts = np.bincount(table.letter, minlength=len(table.letters))
    for place in np.argsort(-counts, kind="stable")[:MAX_LETTERS]:
        yield f"always choice {table.letters[place]!r}", table.letter == place
