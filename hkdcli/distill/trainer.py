"""The one training loop. What differs between stages is the signals and the objective that come in.

A step is one optimizer step. Its micro-batches are all fetched first, because the loss of each is divided
by how many tokens and examples the whole step has; so neither accumulation nor the number of devices
changes the loss. Data order, learning rate and lambda are functions of the step: a resume needs the step,
the weights, the optimizer and the random state, and then goes on bit for bit on a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from hkdcli.checkpoints import find_latest_checkpoint, publish_checkpoint
from hkdcli.distill.checkpoint import Progress, read_training, write_training
from hkdcli.distill.log import TrainLog
from hkdcli.distill.signals import Signals
from hkdcli.distill.sources import BatchSource
from hkdcli.distill.stepper import Objective, StepOutcome, Stepper, TrainSettings
from hkdcli.distill.stopping import StopRequest, listen_for_stop
from hkdcli.errors import HkdError, StoppedError
from hkdcli.reporter import Reporter, SilentReporter

__all__ = ["Objective", "TrainResult", "TrainSettings", "train"]

MAX_NOT_FINITE = 3  # steps in a row whose loss or gradient is not finite before the training stops

Evaluate = Callable[[], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training came to.

    Attributes:
        step: optimizer steps done.
        checkpoint: the last one, which holds the final weights.
        seconds: spent in training, over all the processes that it took.
        figures: the last that were logged; empty when nothing was left to train.
    """

    step: int
    checkpoint: Path | None
    seconds: float
    figures: Mapping[str, float] = field(default_factory=dict)


def train(
    student: nn.Module,
    signals: Signals,
    objective: Objective,
    source: BatchSource,
    settings: TrainSettings,
    folder: Path,
    reporter: Reporter | None = None,
    *,
    log: TrainLog | None = None,
    accelerator: Accelerator | None = None,
    resume: bool = False,
    task: str = "training",
    evaluate: Evaluate | None = None,
) -> TrainResult:
    """Train a student and keep its checkpoints.

    A loss or gradient that is not finite never reaches the weights; `MAX_NOT_FINITE` such steps in a row
    end the training with an HkdError, and the last checkpoint stays. SIGINT and SIGTERM let the step
    finish, save, and raise StoppedError.

    Args:
        student: on its device, takes a Batch and gives AnswerLogits; the parameters that require a gradient
            are trained.
        signals: what its teachers say; not asked while lambda is 0.
        objective: what is minimised.
        source: where micro-batches come from.
        settings: how to train.
        folder: the level's folder; checkpoints go to `folder/checkpoints`.
        reporter: told how it goes.
        log: where figures go; None: `folder/log.jsonl`.
        accelerator: precision and gradient synchronisation; None: single process, as the student stands.
        resume: go on from the newest complete checkpoint, if there is one.
        task: what the reporter calls this training.
        evaluate: called every `evaluate_every` steps with the student in evaluation mode; its figures are
            logged.

    Returns:
        What it came to; the student holds the final weights, in evaluation mode.
    """
    reporter = reporter or SilentReporter()
    torch.manual_seed(settings.seed)  # dropout does not depend on what ran before in this process
    stepper = Stepper(student, signals, objective, source, settings, accelerator)
    keeper = _Keeper(stepper, folder / "checkpoints", settings)
    progress = keeper.restore() if resume else Progress()
    watch = _Watch(reporter, log or TrainLog(folder / "log.jsonl", reporter), settings, progress)
    watch.begin(task)
    try:
        with listen_for_stop() as stop:
            for step in range(progress.step, settings.max_steps):
                watch.observe(step + 1, stepper.take_step(step))
                if evaluate is not None and _is_due(step + 1, settings.evaluate_every):
                    watch.log.write(step + 1, _evaluate(stepper, evaluate))
                if stop.signal_number or keeper.is_due(step + 1):
                    keeper.save(watch.progress)
                _check_stop(stop, step + 1, keeper.newest)
    finally:
        watch.end()
    student.eval()
    return TrainResult(settings.max_steps, keeper.newest, watch.progress.seconds, watch.figures)


class _Keeper:
    """Checkpoints of one training."""

    def __init__(self, stepper: Stepper, folder: Path, settings: TrainSettings) -> None:
        self.stepper, self.folder, self.settings = stepper, folder, settings
        self.newest: Path | None = None

    def restore(self) -> Progress:
        """Load the newest complete checkpoint; without one, start at step 0."""
        self.newest = find_latest_checkpoint(self.folder)
        return read_training(self.newest, self.stepper.state) if self.newest else Progress()

    def is_due(self, step: int) -> bool:
        return step == self.settings.max_steps or _is_due(step, self.settings.checkpoint_every)

    def save(self, progress: Progress) -> None:
        accelerator = self.stepper.accelerator
        if accelerator.is_main_process:
            self.newest = publish_checkpoint(
                self.folder,
                progress.step,
                lambda folder: write_training(folder, self.stepper.state, progress),
                keep=self.settings.keep_checkpoints,
            )
        accelerator.wait_for_everyone()


class _Watch:
    """Keeps time, log and reporter, and stops a training whose loss is no number."""

    def __init__(
        self, reporter: Reporter, log: TrainLog, settings: TrainSettings, progress: Progress
    ) -> None:
        self.reporter, self.log, self.settings, self.progress = reporter, log, settings, progress
        self.figures: dict[str, float] = {}
        self._started = time.perf_counter() - progress.seconds
        self._tokens, self._seconds = 0, progress.seconds  # of the interval since the last line of the log
        self._not_finite = 0

    def begin(self, task: str) -> None:
        self.log.begin(self.progress.step)
        self.reporter.start(task, self.settings.max_steps)
        if self.progress.step:
            self.reporter.note(f"going on after step {self.progress.step} of {self.settings.max_steps}")
            self.reporter.advance(self.progress.step)

    def end(self) -> None:
        self.log.close()
        self.reporter.finish()

    def observe(self, step: int, outcome: StepOutcome) -> None:
        self.progress = Progress(step, time.perf_counter() - self._started)
        self._tokens += outcome.tokens
        due = step in (1, self.settings.max_steps) or _is_due(step, self.settings.log_every)
        if due or not outcome.finite:
            self.figures = {**outcome.compute_figures(), **self._measure()}
            self.log.write(step, self.figures)
        self.reporter.advance(step, **({"loss": self.figures["loss"]} if due else {}))
        self._check_finite(step, outcome)

    def _measure(self) -> dict[str, float]:
        elapsed = max(1e-9, self.progress.seconds - self._seconds)
        speed = self._tokens / elapsed
        self._tokens, self._seconds = 0, self.progress.seconds
        return {"tokens_per_s": speed, "seconds": self.progress.seconds}

    def _check_finite(self, step: int, outcome: StepOutcome) -> None:
        self._not_finite = 0 if outcome.finite else self._not_finite + 1
        if not outcome.finite:
            self.reporter.warn(
                f"step {step}: loss {self.figures['loss']}, gradient norm {self.figures['grad_norm']}; "
                "the weights stay as they are"
            )
        if self._not_finite == MAX_NOT_FINITE:
            raise HkdError(
                f"step {step}: loss or gradient not finite {MAX_NOT_FINITE} steps in a row; the weights are "
                "untouched by these steps, and the last checkpoint is kept",
                hint="Lower learning_rate or max_grad_norm, and look at the figures in log.jsonl.",
            )


def _evaluate(stepper: Stepper, evaluate: Evaluate) -> Mapping[str, float]:
    for module in stepper.modules.values():
        module.eval()
    figures = evaluate()
    stepper.set_training()
    return figures


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _check_stop(stop: StopRequest, step: int, checkpoint: Path | None) -> None:
    if stop.signal_number is not None:
        raise StoppedError(
            f"stopped after step {step}; saved to {checkpoint}. Give --resume to go on.",
            signal_number=stop.signal_number,
        )
