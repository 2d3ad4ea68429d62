"""Counts of binary decisions and the ratios made of them; an undefined ratio is None, never 0 or NaN."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hkdcli.evaluation.join import Bools, Ints, Table

Scores = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Confusion:
    """True positives, false positives and false negatives, and the three scores that they give."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP); None when nothing was predicted."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN); None when nothing is gold."""
        return ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN); None when nothing is gold and nothing was predicted."""
        doubled = 2 * self.true_positives
        return ratio(doubled, doubled + self.false_positives + self.false_negatives)

    @staticmethod
    def add(confusions: Iterable[Confusion]) -> Confusion:
        """The counts of several sets of decisions together."""
        parts = list(confusions)
        return Confusion(
            sum(part.true_positives for part in parts),
            sum(part.false_positives for part in parts),
            sum(part.false_negatives for part in parts),
        )


def count_confusion(table: Table, predicted: Bools | None = None) -> Confusion:
    """Count the decisions of a table.

    Args:
        table: gold and predictions.
        predicted: decisions to count instead of the table's own, [M].

    Returns:
        The counts.
    """
    return count_decisions(table.gold, table.predicted if predicted is None else predicted)


def count_groups(gold: Bools, said: Bools, groups: Ints, size: int) -> list[Confusion]:
    """Count the decisions of each group in one pass: a file may have as many groups as decisions.

    Args:
        gold: whether gold, [M].
        said: whether predicted, [M].
        groups: the group of each decision, 0 to size - 1, [M].
        size: how many groups there are.

    Returns:
        The counts of each group.
    """
    parts = (gold & said, ~gold & said, gold & ~said)
    counts = [np.bincount(groups[part], minlength=size).tolist() for part in parts]
    return [Confusion(*each) for each in zip(*counts, strict=True)]


def count_decisions(gold: Bools, said: Bools) -> Confusion:
    """Count decisions, whether gold and whether predicted, [M] each."""
    return Confusion(
        int(np.count_nonzero(gold & said)),
        int(np.count_nonzero(~gold & said)),
        int(np.count_nonzero(gold & ~said)),
    )


def ratio(part: int, whole: int) -> float | None:
    """Part of whole; None when there is no whole."""
    return part / whole if whole else None


def mean_defined(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are defined; None when none is."""
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
