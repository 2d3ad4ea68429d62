"""From a posterior over legal answers to one answer.

Dimensions: N legal answers, K thresholds, C choices other than "No hallucination".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hkdcli.errors import UsageError

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Answer = frozenset[str]
Decoding = Literal["map", "expected-f1", "threshold"]


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Probability of each legal answer: `answers` are sets of choice ids, exp(`log_probs`) [N] sums to 1."""

    answers: tuple[Answer, ...]
    log_probs: Array

    @property
    def probs(self) -> Array:
        """Probabilities [N]."""
        return np.exp(self.log_probs)

    def get_probability(self, answer: Answer) -> float:
        """Probability of one legal answer."""
        return float(self.probs[self.answers.index(answer)])

    def marginals(self) -> dict[str, float]:
        """For each choice id the probability that the answer holds it, in order of first appearance."""
        totals: dict[str, float] = {}
        for answer, p in zip(self.answers, self.probs, strict=True):
            for choice_id in sorted(answer):
                totals[choice_id] = totals.get(choice_id, 0.0) + float(p)
        return {choice_id: min(total, 1.0) for choice_id, total in totals.items()}


def build_posterior(answers: Sequence[Answer], log_scores: npt.ArrayLike) -> Posterior:
    """Normalise log scores [N] over the legal answers.

    Args:
        answers: the legal answers, all different.
        log_scores: unnormalised log-probabilities, finite or -inf, not all -inf.

    Returns:
        The posterior, in float64.
    """
    return Posterior(tuple(answers), normalize_log(np.asarray(log_scores, dtype=np.float64)))


def normalize_log(log_scores: Array) -> Array:
    """Log scores [..., N] minus their log-sum-exp over the last axis."""
    top = log_scores.max(axis=-1, keepdims=True)
    total: Array = log_scores - top - np.log(np.exp(log_scores - top).sum(axis=-1, keepdims=True))
    return total


def temper(posterior: Posterior, temperature: float) -> Posterior:
    """Flatten (T > 1) or sharpen (T < 1) a posterior: log p_T(Y) = log p(Y) / T - log Z.

    Args:
        posterior: of one record.
        temperature: T, above 0; 1 changes nothing.

    Returns:
        The posterior of the same answers, in the same order of probability; what was impossible stays so.
    """
    return Posterior(posterior.answers, normalize_log(posterior.log_probs / temperature))


def decode(
    posterior: Posterior, decoding: Decoding, *, none_id: str | None = None, threshold: float | None = None
) -> Answer:
    """Choose an answer the named way.

    Args:
        posterior: of one record.
        decoding: how; see `decode_map`, `decode_expected_f1` and `decode_thresholds`.
        none_id: the id of the record's "No hallucination", where it has one; for "threshold" alone.
        threshold: least marginal of a predicted choice, in [0, 1]; for "threshold" alone.

    Returns:
        One of the posterior's answers.

    Raises:
        UsageError: "threshold" without a threshold.
    """
    if decoding == "map":
        return decode_map(posterior)
    if decoding == "expected-f1":
        return decode_expected_f1(posterior)
    if threshold is None:
        raise UsageError(
            'decoding "threshold" has no threshold',
            hint="Fit one with --calibrate, or decode by map or expected-f1.",
        )
    return posterior.answers[int(decode_thresholds(posterior, [threshold], none_id)[0])]


def decode_map(posterior: Posterior) -> Answer:
    """The most probable answer; of equals the first."""
    return posterior.answers[int(np.argmax(posterior.log_probs))]


def decode_expected_f1(posterior: Posterior) -> Answer:
    """The legal answer with the highest expected F1 under the posterior; of equals the first.

    F1(y, z) = 2 |y & z| / (|y| + |z|) over choices, "No hallucination" counting as one of them.
    """
    sets = posterior.answers
    f1 = np.array([[2 * len(y & z) / (len(y) + len(z)) for z in sets] for y in sets])
    return sets[int(np.argmax(f1 @ posterior.probs))]


def decode_thresholds(posterior: Posterior, thresholds: npt.ArrayLike, none_id: str | None) -> Indices:
    """For each threshold t the answer that holds every choice whose marginal is at least t.

    Where no choice reaches t the answer is "No hallucination", or for a record without it the most probable
    answer. An approximate posterior (a beam) may lack the answer that is meant: then it is, of those that it
    lists, the one with the highest sum of (marginal - t) over its choices; "No hallucination" is the empty
    set in this sum. Over all sets that sum is highest for the answer that is meant.

    Args:
        posterior: of one record; marginals are those of its answers.
        thresholds: [K], in [0, 1].
        none_id: the id of the record's "No hallucination", None where it has none.

    Returns:
        Places in `posterior.answers`, [K].
    """
    at = np.asarray(thresholds, dtype=np.float64)[:, None]
    marginals = {name: p for name, p in posterior.marginals().items() if name != none_id}
    values = np.array(list(marginals.values()))
    holds = np.array([[name in answer for name in marginals] for answer in posterior.answers])
    holds = holds.reshape(len(posterior.answers), len(marginals))  # where there is no choice at all, too
    bits = 1 << np.arange(len(marginals), dtype=np.int64)
    wanted = (values >= at) @ bits
    same = wanted[:, None] == holds @ bits
    nearest = np.argmax(holds @ values - at * holds.sum(axis=1), axis=1)
    chosen = np.where(same.any(axis=1), same.argmax(axis=1), nearest)
    if none_id is None:
        chosen = np.where(wanted == 0, np.argmax(posterior.log_probs), chosen)
    return chosen.astype(np.int64)
