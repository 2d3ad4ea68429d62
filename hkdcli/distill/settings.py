"""How a level is trained, as plain values that `train` and its parts take, and what is due after a step."""

from __future__ import annotations

from dataclasses import dataclass

from hkdcli.distill.checkpoint import Progress
from hkdcli.distill.schedules import Schedule, compute_lambda, compute_learning_rate


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything that decides what a training computes, beside model, data and objective."""

    max_steps: int
    micro_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-4
    learning_rate_schedule: Schedule = "cosine"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    max_grad_norm: float | None = 1.0
    lambda_schedule: Schedule | None = "constant"  # None: no lambda; the teachers always teach
    lambda_start: float = 0.0
    lambda_end: float | None = None
    # Peak rates of the objective's own parameters: of its matrices, and of the weights of its parts.
    projection_learning_rate: float | None = None  # None: the student's
    weight_learning_rate: float | None = None  # likewise
    log_every: int = 10
    checkpoint_every: int | None = 200
    keep_checkpoints: int | None = 2
    evaluate_every: int | None = None
    keep_best: bool = True
    early_stopping: int | None = None
    max_bad: float = 0.01  # largest share of examples that may prove unreadable on the way
    seed: int = 0

    @property
    def objective_rate_scales(self) -> tuple[float, float]:
        """What the learning rate is multiplied by for the objective's matrices, and for its weights."""
        projections, weights = (
            1.0 if rate is None else rate / self.learning_rate
            for rate in (self.projection_learning_rate, self.weight_learning_rate)
        )
        return projections, weights

    def schedule(self, step: int) -> tuple[float, float]:
        """Lambda and learning rate of a step.

        Args:
            step: 0 .. max_steps - 1.

        Returns:
            The teachers' share of the loss (1 where there is no lambda), and the learning rate.
        """
        lambda_t = 1.0
        if self.lambda_schedule is not None:
            lambda_t = compute_lambda(
                self.lambda_schedule, step, self.max_steps, start=self.lambda_start, end=self.lambda_end
            )
        rate = compute_learning_rate(
            self.learning_rate_schedule,
            step,
            self.max_steps,
            peak=self.learning_rate,
            warmup_steps=self.warmup_steps,
        )
        return lambda_t, rate


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
