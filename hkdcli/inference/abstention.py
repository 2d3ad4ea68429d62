"""Which confidence is enough to answer, so that answers are right as often as is asked for: a promise.

Precision is the exact match among answered records. With probability `confidence_level` over the labelled
records, the precision of the chosen threshold on new records of the same kind is at least the target: fixed
sequence testing (Learn then Test, arXiv 2110.01052). The fit half alone decides which thresholds are tested,
and in which order; on the test half each is tested exactly, at the full level, until the first that fails.
Going wrong takes a wrong result for the first threshold of the sequence that is too low, as rare as in one
test.

The promise is for each task by itself, and for records that are drawn like the labelled ones, independently.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hkdcli.errors import GateError, UsageError
from hkdcli.inference.decode import Array, Indices
from hkdcli.inference.task_fit import Half, TaskFit, round_confidence

COVERAGE_STEPS = 20


@dataclass(frozen=True, slots=True)
class Abstention:
    """A threshold on confidence and what is promised of it.

    Of the test half, `answered` records (the share `coverage`) have at least this confidence, and `correct`
    of them are right: at `confidence_level` the precision is at least `lower_bound` (Clopper-Pearson,
    one-sided), which is no less than `target_precision`.
    """

    threshold: float
    target_precision: float
    confidence_level: float
    coverage: float
    lower_bound: float
    answered: int
    correct: int


def choose_abstention(fit: TaskFit, target_precision: float, confidence_level: float = 0.95) -> Abstention:
    """The threshold with the largest coverage for which the target can be promised.

    Args:
        fit: of the task; its halves say how often each confidence is right.
        target_precision: the least exact match among answered records, between 0 and 1.
        confidence_level: how sure the promise is to hold, between 0 and 1.

    Returns:
        The threshold, for `is_answered`.

    Raises:
        UsageError: target or level do not lie between 0 and 1.
        GateError: too few labelled records to promise the target at all, or a model that is not so good.
    """
    for name, value in (("precision", target_precision), ("confidence level", confidence_level)):
        if not 0 < value < 1:
            hint = "Give a number between them; no number of records can promise 1."
            raise UsageError(f"a {name} of {value:g} does not lie between 0 and 1", hint=hint)
    level = 1 - confidence_level
    _check_size(fit, target_precision, level)
    size = len(fit.test_half.confidence)
    thresholds = _plan_sequence(fit.fit_half, size, target_precision, level)
    answered, correct = _count(fit.test_half, thresholds)
    failed = compute_p_values(answered, correct, target_precision) > level
    passed = int(np.argmax(failed)) if failed.any() else len(thresholds)
    bounds = compute_lower_bounds(answered, correct, level)
    if not passed:
        raise GateError(
            f"a precision of {target_precision:g} cannot be promised at {confidence_level:g}: "
            f"{_explain_bounds(bounds, answered, correct, size)}",
            hint="Ask for a lower precision, label more records, or use a better model.",
        )
    last = passed - 1
    return Abstention(
        threshold=float(thresholds[last]),
        target_precision=target_precision,
        confidence_level=confidence_level,
        coverage=float(answered[last] / size),
        lower_bound=float(bounds[last]),
        answered=int(answered[last]),
        correct=int(correct[last]),
    )


def is_answered(confidence: float, threshold: float) -> bool:
    """Whether a confidence is enough; it is rounded as those that the threshold was chosen from."""
    return round_confidence(confidence) >= threshold


def count_needed(target_precision: float, level: float) -> int:
    """The least records, all of them right, that promise a precision: n >= log(level) / log(target)."""
    return math.ceil(math.log(level) / math.log(target_precision))


def compute_p_values(answered: Indices, correct: Indices, target_precision: float) -> Array:
    """P(at least so many of the answered are right) if the precision were the target, binomial, exactly."""
    from scipy.special import bdtrc

    p_values: Array = bdtrc(correct - 1.0, answered, target_precision)
    return p_values


def compute_lower_bounds(answered: Indices, correct: Indices, level: float) -> Array:
    """The one-sided lower bounds of Clopper and Pearson for the precision; 0 where nothing is right."""
    from scipy.special import betaincinv

    bounds = betaincinv(np.maximum(correct, 1), answered - np.maximum(correct, 1) + 1, level)
    return np.where(correct > 0, bounds, 0.0)


def _check_size(fit: TaskFit, target_precision: float, level: float) -> None:
    """Refuse a slice too small to promise the target even if everything were answered, and right."""
    size, needed = len(fit.test_half.confidence), count_needed(target_precision, level)
    if size < needed:
        total = size + len(fit.fit_half.confidence)
        raise GateError(
            f"{total} labelled records are too few to promise a precision of {target_precision:g} at "
            f"{1 - level:g}: it takes at least {2 * needed - 1}, half of them to choose by",
            hint="Label more records, or ask for a lower precision.",
        )


def _explain_bounds(bounds: Array, answered: Indices, correct: Indices, size: int) -> str:
    best = int(np.argmax(bounds))
    return (
        f"the first threshold to be tested promises {bounds[0]:.3f} ({correct[0]} of {answered[0]} right), "
        f"the best one {bounds[best]:.3f} at coverage {answered[best] / size:.2f}"
    )


def _plan_sequence(half: Half, size: int, target_precision: float, level: float) -> Array:
    """Thresholds to test, the highest first, from the fit half (and the size of the test half) alone.

    They answer 5 %, 10 %, ... 95 % of the fit half, and everything. Of those that answer enough records for a
    result without error to pass, the sequence begins where the fit half speaks most clearly for the target: a
    first step with few records would often fail by one error, and with it the whole sequence.
    """
    confidence = np.sort(np.array(half.confidence))[::-1]
    ranks = np.ceil(np.arange(1, COVERAGE_STEPS) * len(confidence) / COVERAGE_STEPS).astype(np.int64)
    thresholds = np.unique([*confidence[ranks - 1], 0.0])[::-1]
    answered, correct = _count(half, thresholds)
    enough = answered * size >= count_needed(target_precision, level) * len(confidence)
    p_values = np.where(enough, compute_p_values(answered, correct, target_precision), np.inf)
    return thresholds[np.argmin(p_values) :]


def _count(half: Half, thresholds: npt.NDArray[np.float64]) -> tuple[Indices, Indices]:
    """How many records have at least each threshold, and how many of them are right."""
    confidence, right = np.array(half.confidence), np.array(half.correct)
    answered = confidence >= thresholds[:, None]
    return answered.sum(axis=1), (answered & right).sum(axis=1)
