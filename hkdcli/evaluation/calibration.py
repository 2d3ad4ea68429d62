"""Whether stated probabilities come true: pure numbers, the same for every order of their arguments.

Dimensions: N records, B bins.
"""

from __future__ import annotations

from math import fsum

import numpy as np
from numpy.typing import NDArray

from hkdcli.evaluation.certainty import Distribution
from hkdcli.evaluation.join import Bools
from hkdcli.evaluation.results import ReliabilityBin

BINS = 15

Floats = NDArray[np.float64]


def compute_calibration_error(confidence: Floats, right: Bools) -> float | None:
    """Expected calibration error over B equal bins of (0, 1], 0 itself being in the first.

    sum over b of n_b / N * |share right in b - mean confidence in b|   (arXiv 1706.04599, equation 3)

    Args:
        confidence: in [0, 1], [N].
        right: whether what the confidence belongs to is right, [N].

    Returns:
        The error in [0, 1]; None when N is 0.
    """
    if not len(confidence):
        return None
    places = _find_bins(confidence)
    gaps = [
        abs(int(np.count_nonzero(right[places == b])) - fsum(confidence[places == b])) for b in range(BINS)
    ]
    return fsum(gaps) / len(confidence)


def compute_reliability(confidence: Floats, right: Bools) -> list[ReliabilityBin]:
    """The bins of `compute_calibration_error` that hold a record: the reliability diagram.

    Args:
        confidence: in [0, 1], [N].
        right: whether what the confidence belongs to is right, [N].

    Returns:
        For each such bin its edges, its records, their mean confidence and the share that is right.
    """
    places, bins = _find_bins(confidence), list[ReliabilityBin]()
    for place in range(BINS):
        among = places == place
        if records := int(np.count_nonzero(among)):
            share = int(np.count_nonzero(right[among])) / records
            mean = fsum(confidence[among]) / records
            low, high = place / BINS, (place + 1) / BINS
            bins.append(
                {"low": low, "high": high, "records": records, "confidence": mean, "exact_match": share}
            )
    return bins


def _find_bins(confidence: Floats) -> NDArray[np.int64]:
    """The bin of each record, 0 to B - 1, [N]."""
    return np.digitize(confidence, np.linspace(0.0, 1.0, BINS + 1)[1:-1], right=True)


def compute_brier(posterior: Distribution, gold: frozenset[str]) -> float:
    """Multi-class Brier score of one record: sum over answers y of (p(y) - [y is gold])^2.

    Args:
        posterior: answers and their probabilities; an answer that is not among them has probability 0.
        gold: the gold answer.

    Returns:
        The score in [0, 2], of a uniform posterior over n answers 1 - 1/n.
    """
    terms, unseen = [], 1.0
    for answer, p in posterior:
        if answer == gold:
            unseen, p = 0.0, p - 1.0
        terms.append(p * p)
    return fsum(terms) + unseen
