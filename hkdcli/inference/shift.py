"""Mapping-shifted inference: show the choices under every letter and position, and combine what comes back.

A model prefers some letters and places whatever they say. If that preference multiplies the evidence,
p(letter) ~ prior(letter) * evidence(choice), then over a full cycle of shifts every choice collects the same
sum of log priors, and it cancels exactly in the mean of logs. For sets of choices this holds approximately.

Dimensions: S presentations, N legal answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hkdcli.data.examples import Example
from hkdcli.data.prompts import LETTERS, Presentation, identity_presentation
from hkdcli.inference.decode import Answer, Array, Posterior, build_posterior, decode_map, normalize_log

__all__ = ["Combined", "combine", "identity_presentation", "shifted_presentations"]

ShiftWhat = Literal["letters", "positions", "both"]
Combination = Literal["log_mean", "arithmetic"]


@dataclass(frozen=True, slots=True)
class Combined:
    """What all presentations say together.

    `flip_rate` is the share of presentations whose own most probable answer is not that of `posterior`;
    `all_agree` says whether all presentations have the same most probable answer.
    """

    posterior: Posterior
    flip_rate: float
    all_agree: bool


def shifted_presentations(
    example: Example, shifts: int | None = None, *, what: ShiftWhat = "both", move_none: bool = True
) -> tuple[Presentation, ...]:
    """Cyclic orders of an example's choices; the first is always the identity.

    Args:
        example: the record, with n choices.
        shifts: how many of the n shifts, evenly spread over the cycle; None or more than n: all of them.
        what: shift s brings choice i to letter (i + s) mod n, or to that position, or to both.
        move_none: False keeps "No hallucination" where it is and shifts the others among themselves.

    Returns:
        One presentation per shift, each showing every choice once.
    """
    fixed = None if move_none else example.none_id
    moving = [i for i, choice in enumerate(example.choices) if choice.id != fixed]
    count = min(shifts or len(moving), len(moving))
    steps = [j * len(moving) // count for j in range(count)]
    return tuple(_shift(example, moving, step, what) for step in steps)


def combine(
    answers: Sequence[Answer], log_probs: npt.ArrayLike, combination: Combination = "log_mean"
) -> Combined:
    """Combine the answers' log-probabilities over presentations, already mapped back to choices.

    log_mean:    log p(Y) = (1/S) sum_s log p_s(Y) - log Z
    arithmetic:  p(Y) = (1/S) sum_s p_s(Y), with p_s normalised over the legal answers

    Args:
        answers: the N legal answers.
        log_probs: [S, N]; each row may lack its normalisation over the legal answers.
        combination: the mean to take.

    Returns:
        The posterior and how far the presentations agree.
    """
    rows = normalize_log(np.asarray(log_probs, dtype=np.float64))
    posterior = build_posterior(answers, _average(rows, combination))
    best = posterior.answers.index(decode_map(posterior))
    tops = rows.argmax(axis=-1)
    return Combined(posterior, float((tops != best).mean()), bool((tops == tops[0]).all()))


def _average(rows: Array, combination: Combination) -> Array:
    if combination == "log_mean":
        mean: Array = rows.mean(axis=0)
    else:
        mean = np.logaddexp.reduce(rows, axis=0) - np.log(len(rows))
    return mean


def _shift(example: Example, moving: Sequence[int], step: int, what: ShiftWhat) -> Presentation:
    """Bring the choice at moving[k] to the slot of moving[k + step]."""
    target = list(range(len(example.choices)))
    for k, index in enumerate(moving):
        target[index] = moving[(k + step) % len(moving)]
    shown: list[tuple[int, str, str]] = []
    for index, choice in enumerate(example.choices):
        letter = LETTERS[index if what == "positions" else target[index]]
        shown.append((index if what == "letters" else target[index], letter, choice.id))
    return tuple((letter, choice_id) for _, letter, choice_id in sorted(shown))
