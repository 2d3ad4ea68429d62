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

from hkdcli.distill.checkpoint import Progress
from hkdcli.distill.keeper import Keeper
from hkdcli.distill.log import TrainLog
from hkdcli.distill.parallel import assembled
from hkdcli.distill.settings import TrainSettings, is_checkpoint_due, is_done, is_evaluation_due
from hkdcli.distill.signals import Signals
from hkdcli.distill.sources import BatchSource
from hkdcli.distill.stepper import Objective, Said, Stepper
from hkdcli.distill.watch import Watch
from hkdcli.errors import StoppedError
from hkdcli.ranks import find_largest, find_place, share
from hkdcli.reporter import SILENT, Reporter
from hkdcli.stopping import StopRequest, listen_for_stop

__all__ = ["Evaluate", "Objective", "TrainResult", "TrainSettings", "train"]

# How the student does at the moment: figures by name, None where undefined; `dev_micro_f1` decides which is
# the best evaluation.
Evaluate = Callable[[], Mapping[str, float | None]]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a training came to.

    Attributes:
        step: optimizer steps done.
        checkpoint: the one that holds the student's weights: the best, where it is kept, or the last.
        seconds: spent in training, over all the processes that it took.
        figures: the last that were logged; empty when nothing was left to train.
        best_step: the step of the best evaluation; None: there was none.
        best_dev_micro_f1: reached there.
    """

    step: int
    checkpoint: Path | None
    seconds: float
    figures: Mapping[str, float] = field(default_factory=dict)
    best_step: int | None = None
    best_dev_micro_f1: float | None = None


def train(
    student: nn.Module,
    signals: Signals[Said],
    objective: Objective[Said],
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

    A loss or gradient that is not finite never reaches the weights; a few such steps in a row end the
    training with an HkdError, and the last checkpoint stays. SIGINT and SIGTERM let the step finish, save,
    and raise StoppedError. Where the best weights are kept or training stops early, the last step is
    evaluated too.

    Args:
        student: on its device; takes a Batch, gives AnswerLogits. What requires a gradient is trained.
        signals: what its teachers say; not asked while lambda is 0, unless they learn too.
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
            logged, and it leaves no trace in what is learned after it.

    Returns:
        What it came to; the student holds the best weights, where they are kept, or the last, in
        evaluation mode.
    """
    reporter = reporter or SILENT
    # Dropout does not depend on what ran before in this process, and differs between processes.
    torch.manual_seed(settings.seed + find_place().rank)
    stepper = Stepper(student, signals, objective, source, settings, accelerator, reporter)
    keeper = Keeper(stepper, folder / "checkpoints", settings, reporter)
    progress = keeper.restore() if resume else Progress()
    if not is_done(settings, progress):
        keeper.check_space()
    log = log or TrainLog(folder / "log.jsonl", reporter)
    watch = Watch(reporter, log, settings, progress, stepper.accelerator.device)
    watch.begin(task)
    try:
        _take_steps(stepper, keeper, watch, evaluate)
    finally:
        watch.end()
    progress = keeper.take_best(watch.progress)
    student.eval()
    best = progress.best_step, progress.best_dev_micro_f1
    return TrainResult(progress.step, keeper.current, progress.seconds, watch.figures, *best)


def _take_steps(stepper: Stepper, keeper: Keeper, watch: Watch, evaluate: Evaluate | None) -> None:
    """Train to the end: after each step what is due."""
    settings = stepper.settings
    with listen_for_stop() as stop:
        while not is_done(settings, watch.progress):
            started = time.perf_counter()
            outcome = stepper.take_step(watch.progress.step)
            watch.observe(outcome, time.perf_counter() - started)
            if evaluate is not None and is_evaluation_due(settings, watch.progress.step):
                watch.judge(_evaluate(stepper, evaluate))
            stop.signal_number = find_largest(stop.signal_number or 0) or None
            if stop.signal_number or is_checkpoint_due(settings, watch.progress):
                keeper.save(watch.progress)
            _check_stop(stop, watch.progress.step, keeper.current)


def _evaluate(stepper: Stepper, evaluate: Evaluate) -> Mapping[str, float | None]:
    """Evaluate, and leave modes and random state as they were: training must not depend on being watched."""
    device = stepper.accelerator.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for module in stepper.modules.values():
            module.eval()
        with assembled(stepper.modules["student"]):
            figures = share(evaluate())  # one score for all: they must agree on when to stop
    stepper.set_training()
    return figures


def _check_stop(stop: StopRequest, step: int, checkpoint: Path | None) -> None:
    if stop.signal_number is not None:
        raise StoppedError(
            f"stopped after step {step}; saved to {checkpoint}",
            hint="Give --resume to go on.",
            signal_number=stop.signal_number,
        )
