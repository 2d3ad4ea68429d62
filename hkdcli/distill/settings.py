"""How a level is trained, as plain values: what `train` and its parts take."""

from __future__ import annotations

from dataclasses import dataclass

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
