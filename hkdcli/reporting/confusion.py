"""A confusion matrix as rows and columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hkdcli.evaluation.metrics import NO_ANSWER


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """A gold label, how often each column was predicted of it, and the records that have it."""

    label: str
    counts: tuple[int, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows are gold labels, columns predicted ones; "no answer" comes last, where there is any."""

    columns: tuple[str, ...]
    rows: tuple[MatrixRow, ...]


def build_matrix(confusion: Mapping[str, Mapping[str, int]]) -> Matrix | None:
    """Order a confusion by label.

    Args:
        confusion: {gold label: {predicted label or "no answer": count}}.

    Returns:
        The matrix, its first columns in the order of its rows; None for an empty confusion.
    """
    labels = list(dict.fromkeys([*confusion, *(label for row in confusion.values() for label in row)]))
    if not confusion:
        return None
    columns = [label for label in labels if label != NO_ANSWER]
    if any(row.get(NO_ANSWER, 0) for row in confusion.values()):
        columns.append(NO_ANSWER)
    rows = tuple(
        MatrixRow(label, tuple(row.get(column, 0) for column in columns), sum(row.values()))
        for label, row in confusion.items()
    )
    return Matrix(tuple(columns), rows)
