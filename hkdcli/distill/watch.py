"""Watches one training: time, log and reporter, the best evaluation, and losses that are no number."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace

import torch

from hkdcli.distill.checkpoint import Progress
from hkdcli.distill.log import TrainLog, measure_peak_memory_gib
from hkdcli.distill.settings import TrainSettings, is_done, is_log_due, is_stopped_early
from hkdcli.distill.stepper import StepOutcome
from hkdcli.errors import HkdError
from hkdcli.reporter import Reporter

MAX_NOT_FINITE = 3  # steps in a row whose loss or gradient is not finite before the training stops
SCORE = "dev_micro_f1"  # the figure of an evaluation that decides which is the best


class Watch:
    """Keeps the progress of a training and tells of it.

    Args:
        reporter: told how it goes.
        log: where figures go.
        settings: of the training.
        progress: how far it had come when this process began.
        device: where the student is.
    """

    def __init__(
        self,
        reporter: Reporter,
        log: TrainLog,
        settings: TrainSettings,
        progress: Progress,
        device: torch.device,
    ) -> None:
        self.reporter, self.log, self.settings, self.progress = reporter, log, settings, progress
        self.device = device
        self.figures: dict[str, float] = {}  # the last that were logged
        self._started = time.perf_counter() - progress.seconds
        self._tokens, self._seconds = 0, 0.0  # of the steps since the last line of the log
        self._not_finite = 0
        self._any_finite = progress.step > 0  # that many steps in a row would have ended the training before

    def begin(self, task: str) -> None:
        """Open the log and tell what begins, or from where it goes on."""
        self.log.begin(self.progress.step)
        step = self.progress.step
        self.reporter.start(task, self.settings.max_steps, step)
        if step and is_done(self.settings, self.progress):
            self.reporter.note(f"training has ended already, after step {step}")
        elif step:
            self.reporter.note(f"going on after step {step} of {self.settings.max_steps}")

    def end(self) -> None:
        """Close what is open."""
        self.log.close()
        self.reporter.finish()

    def observe(self, outcome: StepOutcome, seconds: float) -> None:
        """Count a step, and log it when that is due or its loss is no number.

        `MAX_NOT_FINITE` such losses or gradients in a row are an HkdError.

        Args:
            outcome: what the step computed.
            seconds: that it took.
        """
        step = self.progress.step + 1
        self.progress = replace(self.progress, step=step, seconds=time.perf_counter() - self._started)
        self._tokens += outcome.tokens
        self._seconds += seconds
        due = is_log_due(self.settings, step)
        if due or not outcome.finite:
            self.figures = {**outcome.compute_figures(), **self._measure()}
            self.log.write(step, self.figures)
        self.reporter.advance(step, **({"loss": self.figures["loss"]} if due else {}))
        self._check_finite(step, outcome)

    def judge(self, figures: Mapping[str, float | None]) -> None:
        """Log an evaluation, and remember the best; one whose score is undefined is no better than any.

        Args:
            figures: by name; the score is `dev_micro_f1`.
        """
        known = {name: value for name, value in figures.items() if value is not None}
        self.progress = progress = compare(self.progress, known.get(SCORE))
        self.log.write(progress.step, known | self._describe_best())
        if progress.step < self.settings.max_steps and is_stopped_early(self.settings, progress):
            self.reporter.note(
                f"stopping early after step {progress.step}: {progress.evaluations_since} evaluations in a "
                f"row without a better dev micro-F1 than {progress.best_dev_micro_f1}"
            )

    def _describe_best(self) -> dict[str, float]:
        step, score = self.progress.best_step, self.progress.best_dev_micro_f1
        return {} if step is None or score is None else {"best_step": step, "best_dev_micro_f1": score}

    def _measure(self) -> dict[str, float]:
        speed = self._tokens / max(1e-9, self._seconds)
        self._tokens, self._seconds = 0, 0.0
        peak = measure_peak_memory_gib(self.device)
        return {"tokens_per_s": speed, "seconds": self.progress.seconds, "peak_memory_gib": peak}

    def _check_finite(self, step: int, outcome: StepOutcome) -> None:
        self._not_finite = 0 if outcome.finite else self._not_finite + 1
        self._any_finite = self._any_finite or outcome.finite
        if not outcome.finite:
            self.reporter.warn(
                f"step {step}: loss {self.figures['loss']}, gradient norm {self.figures['grad_norm']}; "
                "the weights stay as they are"
            )
        is_over = step == self.settings.max_steps and not self._any_finite
        if self._not_finite == MAX_NOT_FINITE or is_over:
            raise HkdError(
                f"step {step}: loss or gradient not finite {self._not_finite} steps in a row; the weights "
                "are untouched by these steps, and the last checkpoint is kept",
                hint="Lower learning_rate or max_grad_norm, and look at the figures in log.jsonl.",
            )


def compare(progress: Progress, score: float | None) -> Progress:
    """Note an evaluation after the step that progress is at.

    Args:
        progress: with the best evaluation before.
        score: the higher, the better; None or NaN (undefined) is no better than any.

    Returns:
        Progress with the best evaluation now; the first of equals is the best.
    """
    best = progress.best_dev_micro_f1
    if score is not None and score > (-math.inf if best is None else best):
        return replace(progress, best_step=progress.step, best_dev_micro_f1=score, evaluations_since=0)
    return replace(progress, evaluations_since=progress.evaluations_since + 1)
