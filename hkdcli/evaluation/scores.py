"""The formulas of all scores that are made of counts; each takes one sum or many resampled ones at once.

Dimension letters:
    ...  nothing for one file, [B] for B resamples of it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hkdcli.evaluation.calibration import Floats
from hkdcli.evaluation.tally import Classes

Sums = Mapping[str, Floats]

FOUND = ("hallucinated_f1", "hallucinated_precision", "hallucinated_recall", "yes_rate", "gold_yes_rate")


def score_sums(sums: Sums, classes: Classes) -> dict[str, Floats]:
    """Score summed counts.

    Args:
        sums: the columns of a tally, each summed over records, [...].
        classes: as the tally has them.

    Returns:
        The scores that the definitions of the results name, [...] each; NaN where one is undefined.
    """
    found = {} if "phrases" in sums else dict.fromkeys(FOUND, np.full_like(sums["records"], np.nan))
    return {
        **_score_decisions(sums, "", "micro_"),
        "macro_f1": _mean_over_tasks(sums, classes),
        "exact_match": divide(sums["matched"], sums["records"]),
        "set_f1": divide(2 * sums["matched"], sums["named"] + sums["records"]),
        "set_precision": divide(sums["matched"], sums["named"]),
        "set_recall": divide(sums["matched"], sums["records"]),
        **(found or _score_found(sums)),
        "coverage": divide(sums["answered"], sums["records"]),
        "selective_exact_match": divide(sums["answered_matched"], sums["answered"]),
    }


def score_f1(sums: Sums, prefix: str = "") -> Floats:
    """2 TP / (2 TP + FP + FN), [...]; NaN where there is neither gold nor prediction."""
    doubled = 2 * sums[f"{prefix}tp"]
    return divide(doubled, doubled + sums[f"{prefix}fp"] + sums[f"{prefix}fn"])


def divide(part: Floats, whole: Floats) -> Floats:
    """Part of whole, [...]; NaN where there is no whole."""
    quotient = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=quotient, where=np.asarray(whole) > 0)
    return quotient


def read_score(value: Any) -> float | None:
    """One score as the results hold it: None where it is undefined."""
    return None if np.isnan(value) else float(value)


def _score_decisions(sums: Sums, columns: str, names: str) -> dict[str, Floats]:
    hits = sums[f"{columns}tp"]
    return {
        f"{names}f1": score_f1(sums, columns),
        f"{names}precision": divide(hits, hits + sums[f"{columns}fp"]),
        f"{names}recall": divide(hits, hits + sums[f"{columns}fn"]),
    }


def _score_found(sums: Sums) -> dict[str, Floats]:
    return {
        **_score_decisions(sums, "found_", "hallucinated_"),
        "yes_rate": divide(sums["found_tp"] + sums["found_fp"], sums["named_phrases"]),
        "gold_yes_rate": divide(sums["found_tp"] + sums["found_fn"], sums["phrases"]),
    }


def _mean_over_tasks(sums: Sums, classes: Classes) -> Floats:
    """The mean of the tasks' macro-F1, [...]; NaN where a task has too many classes to have columns."""
    if not classes or not all(classes.values()):
        return np.full_like(sums["records"], np.nan)
    return _mean_defined(
        [_mean_defined([score_f1(sums, f"{name}:") for name in names]) for names in classes.values()]
    )


def _mean_defined(values: Sequence[Floats]) -> Floats:
    """Mean of the values that are not NaN, [...]; NaN where all are."""
    stacked = np.stack(values)
    defined = ~np.isnan(stacked)
    return divide(np.where(defined, stacked, 0.0).sum(axis=0), defined.sum(axis=0))
