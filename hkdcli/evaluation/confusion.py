"""Which label was taken for which: the confusion matrix of a task whose answer is one label."""

from __future__ import annotations

import numpy as np

from hkdcli.evaluation.join import Table
from hkdcli.evaluation.tally import MAX_CLASSES

NO_ANSWER = "no answer"


def build_confusion(table: Table) -> dict[str, dict[str, int]]:
    """Count records by gold and predicted label.

    Args:
        table: factuality records.

    Returns:
        {gold label: {predicted label or "no answer": records}}, every label in both places; records whose
        gold is several labels are left out. Empty where there are more than `MAX_CLASSES` labels.
    """
    if len(table.labels) > MAX_CLASSES:
        return {}
    names = (*table.labels, NO_ANSWER)
    predicted = np.full(len(table.records), len(table.labels))
    predicted[table.record[table.predicted]] = table.label[table.predicted]
    owners, golds = table.record[table.gold], table.label[table.gold]
    single = np.bincount(owners, minlength=len(table.records))[owners] == 1
    counts = np.zeros((len(table.labels), len(names)), np.int64)
    np.add.at(counts, (golds[single], predicted[owners[single]]), 1)
    return {
        label: dict(zip(names, row.tolist(), strict=True))
        for label, row in zip(table.labels, counts, strict=True)
    }
