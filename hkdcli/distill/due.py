"""What is due after a step: an evaluation, a line of the log, a checkpoint, the end."""

from __future__ import annotations

from hkdcli.distill.checkpoint import Progress
from hkdcli.distill.settings import TrainSettings


def is_done(settings: TrainSettings, progress: Progress) -> bool:
    """Whether training is over: all steps are done, or too many evaluations in a row were no better."""
    return progress.step >= settings.max_steps or is_stopped_early(settings, progress)


def is_stopped_early(settings: TrainSettings, progress: Progress) -> bool:
    """Whether as many evaluations in a row were no better as early stopping waits for."""
    return settings.early_stopping is not None and progress.evaluations_since >= settings.early_stopping


def is_evaluation_due(settings: TrainSettings, step: int) -> bool:
    """Whether the student is evaluated after this step; where it matters who is best, the last one counts."""
    if settings.evaluate_every is None:
        return False
    compared = settings.keep_best or settings.early_stopping is not None
    return step % settings.evaluate_every == 0 or (compared and step == settings.max_steps)


def is_log_due(settings: TrainSettings, step: int) -> bool:
    """Whether this step's figures are logged: those of the first and the last step always are."""
    return step in (1, settings.max_steps) or step % settings.log_every == 0


def is_checkpoint_due(settings: TrainSettings, progress: Progress) -> bool:
    """Whether a checkpoint is taken now: in turn, at the end, and of the best weights so far."""
    every = settings.checkpoint_every
    in_turn = every is not None and progress.step % every == 0
    best = settings.keep_best and progress.best_step == progress.step
    return in_turn or best or is_done(settings, progress)
