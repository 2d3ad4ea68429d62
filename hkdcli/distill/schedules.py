"""What changes over the steps of a training, as pure functions of the step.

A resume therefore restores a schedule by knowing the step, and nothing of it is stored.
"""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine"]


def compute_lambda(
    schedule: Schedule, step: int, max_steps: int, *, start: float, end: float | None = None
) -> float:
    """lambda_t, the teachers' share of the loss, at optimizer step `step`, counted from 0.

    constant: start. linear, cosine: from `start` at the first step to `end` at the last one, cosine as
    half a wave (slow, fast, slow).

    Args:
        schedule: constant, linear or cosine.
        step: 0 .. max_steps - 1.
        max_steps: length of the training.
        start: the value at the first step, in [0, 1].
        end: the value at the last step, in [0, 1]; None means start.

    Returns:
        A value between start and end.
    """
    if end is None:
        return start
    return end + (start - end) * _fall(schedule, step / max(1, max_steps - 1))


def compute_learning_rate(
    schedule: Schedule, step: int, max_steps: int, *, peak: float, warmup_steps: int = 0
) -> float:
    """Learning rate at optimizer step `step`, counted from 0.

    It rises linearly over the warm-up, reaching `peak` at its last step, then follows the schedule, which
    would reach 0 at step `max_steps`, the first that is not taken (linear, cosine).

    Args:
        schedule: constant, linear or cosine.
        step: 0 .. max_steps - 1.
        max_steps: length of the training.
        peak: the highest value.
        warmup_steps: length of the warm-up.

    Returns:
        A value in (0, peak].
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * _fall(schedule, (step - warmup_steps) / max(1, max_steps - warmup_steps))


def _fall(schedule: Schedule, progress: float) -> float:
    """From 1 at progress 0 to 0 at progress 1; constant stays at 1."""
    progress = min(1.0, progress)
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return (1.0 + math.cos(math.pi * progress)) / 2.0
    raise ValueError(f"no schedule {schedule!r}; there are: constant, linear, cosine")
