"""Whether stated probabilities come true: pure numbers, the same for every order of their arguments.

Dimensions: N records, B bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from hkdcli.evaluation.certainty import Distribution

BINS = 15

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


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
    edges = np.linspace(0.0, 1.0, BINS + 1)[1:-1]
    places = np.digitize(confidence, edges, right=True)
    gaps = [
        abs(int(np.count_nonzero(right[places == b])) - fsum(confidence[places == b])) for b in range(BINS)
    ]
    return fsum(gaps) / len(confidence)


def compute_brier(posteriors: Sequence[Distribution], golds: Sequence[frozenset[str]]) -> float | None:
    """Multi-class Brier score: mean over records of sum over answers y of (p(y) - [y is gold])^2.

    Args:
        posteriors: answers and their probabilities, one distribution per record; an answer that is not among
            them has probability 0.
        golds: the gold answers, as many.

    Returns:
        The score in [0, 2], of a uniform posterior over n answers 1 - 1/n; None without records.
    """
    if not posteriors:
        return None
    return fmean(_score_brier(*pair) for pair in zip(posteriors, golds, strict=True))


def _score_brier(posterior: Distribution, gold: frozenset[str]) -> float:
    terms = [(p - (answer == gold)) ** 2 for answer, p in posterior]
    unseen = all(answer != gold for answer, _ in posterior)
    return fsum(terms) + unseen
