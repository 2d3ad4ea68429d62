"""What abstaining buys: the risk among the most confident records, at every share of them.

Records of equal confidence have no order among themselves: wherever a share ends among them, the risk is its
mean over all their orders, so no number depends on the order of a file.

Dimensions: N records.
"""

from __future__ import annotations

from statistics import fmean

import numpy as np

from hkdcli.evaluation.calibration import Floats
from hkdcli.evaluation.join import Bools
from hkdcli.evaluation.results import Point

STEPS = 20  # the curve is given at coverage 1/20, 2/20, ... 1

Curve = list[Point]


def compute_risks(confidence: Floats, right: Bools) -> Floats:
    """Share of wrong records among the k most confident ones, for k = 1 ... N.

    With W(k) wrong ones among the first k by falling confidence, the risk is W(k) / k; inside a group of
    equal confidence W grows linearly, which is its mean over all orders of the group.

    Args:
        confidence: [N].
        right: whether what the confidence belongs to is right, [N].

    Returns:
        Risks in [0, 1], [N].
    """
    _, groups, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    wrong = np.bincount(groups, weights=~right, minlength=len(sizes))
    ends = np.concatenate([[0], np.cumsum(sizes)])
    counts = np.arange(1, len(confidence) + 1)
    risks: Floats = np.interp(counts, ends, np.concatenate([[0.0], np.cumsum(wrong)])) / counts
    return risks


def compute_risk_coverage(confidence: Floats, right: Bools) -> Curve:
    """The risk-coverage curve at `STEPS` equal steps of coverage.

    Args:
        confidence: [N].
        right: whether what the confidence belongs to is right, [N].

    Returns:
        For each coverage c the risk among the k = ceil(c N) most confident records and the confidence of the
        k-th, which is the threshold that lets at least so many through; no points when N is 0.
    """
    total = len(confidence)
    if not total:
        return []
    risks, falling = compute_risks(confidence, right), np.sort(confidence)[::-1]
    lasts = [-(-step * total // STEPS) - 1 for step in range(1, STEPS + 1)]
    return [
        {"coverage": step / STEPS, "risk": float(risks[last]), "confidence": float(falling[last])}
        for step, last in enumerate(lasts, start=1)
    ]


def compute_aurc(confidence: Floats, right: Bools) -> float | None:
    """Area under the risk-coverage curve: the mean of `compute_risks` over all N (arXiv 1805.08206).

    Args:
        confidence: [N].
        right: whether what the confidence belongs to is right, [N].

    Returns:
        The area in [0, 1]; None when N is 0.
    """
    return fmean(compute_risks(confidence, right).tolist()) if len(confidence) else None
