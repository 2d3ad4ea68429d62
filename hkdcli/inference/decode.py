"""From an exact posterior over legal answers to one answer.

Dimensions: N legal answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Answer = frozenset[str]
Decoding = Literal["map", "expected-f1"]


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


def decode(posterior: Posterior, decoding: Decoding) -> Answer:
    """Choose an answer the named way."""
    return decode_map(posterior) if decoding == "map" else decode_expected_f1(posterior)


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
