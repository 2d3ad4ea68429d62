"""One optimizer step: fetch its micro-batches, add up their losses, clip, and step if all is finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hkdcli.data.batches import Batch
from hkdcli.distill.checkpoint import TrainingState
from hkdcli.distill.objective import Counts, LossParts
from hkdcli.distill.order import StepShape, draw_step
from hkdcli.distill.schedules import Schedule, compute_lambda, compute_learning_rate
from hkdcli.distill.signals import Signals
from hkdcli.distill.sources import BatchSource
from hkdcli.errors import ModelError
from hkdcli.models.answers import AnswerLogits


class Objective(Protocol):
    """What is minimised; where it is an nn.Module with parameters of its own, they are trained too."""

    def count(self, batch: Batch) -> Mapping[str, int]:
        """How many of each unit a micro-batch has, before any forward pass."""

    def __call__(
        self, student: AnswerLogits, teachers: Sequence[AnswerLogits], batch: Batch, lambda_t: float
    ) -> LossParts:
        """The parts of one micro-batch's loss."""


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
    lambda_schedule: Schedule = "constant"
    lambda_start: float = 0.0
    lambda_end: float | None = None
    log_every: int = 10
    checkpoint_every: int | None = 200
    keep_checkpoints: int | None = 2
    evaluate_every: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What one optimizer step computed; losses stay tensors, since few steps are looked at.

    Attributes:
        losses: `loss` and every part of it, as means over the step.
        grad_norm: before clipping.
        tokens: tokens that the student has read.
        learning_rate: of this step.
        lambda_t: of this step.
        finite: whether loss and gradient were; if not, the optimizer did not step.
    """

    losses: Mapping[str, Tensor]
    grad_norm: Tensor
    tokens: int
    learning_rate: float
    lambda_t: float
    finite: bool

    def compute_figures(self) -> dict[str, float]:
        """The figures for the log; waits for the device."""
        figures = {name: value.item() for name, value in self.losses.items()}
        figures |= {"grad_norm": self.grad_norm.item(), "learning_rate": self.learning_rate}
        return figures | {"lambda": self.lambda_t}


class Stepper:
    """Student, objective and optimizer, made ready for their device.

    Args:
        student: on its device already; the parameters that require a gradient are trained.
        signals: what its teachers say.
        objective: what is minimised.
        source: where micro-batches come from.
        settings: how to train.
        accelerator: precision and gradient synchronisation; None: single process, as the student stands.
    """

    def __init__(
        self,
        student: nn.Module,
        signals: Signals,
        objective: Objective,
        source: BatchSource,
        settings: TrainSettings,
        accelerator: Accelerator | None = None,
    ) -> None:
        self.signals, self.source, self.settings = signals, source, settings
        device = next(student.parameters()).device
        self.accelerator = accelerator or Accelerator(cpu=device.type == "cpu")
        self.modules = {"student": student}
        if isinstance(objective, nn.Module):
            self.modules["objective"] = objective
        self.parameters = [
            parameter
            for module in self.modules.values()
            for parameter in module.parameters()
            if parameter.requires_grad
        ]
        optimizer = build_optimizer(self.parameters, settings.weight_decay)
        # Not placed: the student is where it belongs, and quantized weights must not be moved.
        self.model, self.optimizer = self.accelerator.prepare(
            student, optimizer, device_placement=[False, False]
        )
        self.objective = objective
        self.shape = StepShape(
            settings.micro_batch_size, settings.gradient_accumulation_steps, self.accelerator.num_processes
        )
        self.set_training()

    @property
    def state(self) -> TrainingState:
        """What a checkpoint is taken of."""
        return TrainingState(self.modules, self.optimizer.optimizer)

    def set_training(self) -> None:
        """Put what is trained in training mode, and every frozen part in evaluation mode.

        A frozen tower in training mode would drop features out and shift its batch statistics.
        """
        for root in self.modules.values():
            root.train()
            for module in root.modules():
                parameters = list(module.parameters())
                if parameters and not any(parameter.requires_grad for parameter in parameters):
                    module.eval()

    def take_step(self, step: int) -> StepOutcome:
        """Take one optimizer step, unless its loss or gradient is not finite.

        Args:
            step: from 0; decides the examples, the learning rate and lambda.

        Returns:
            What it computed.
        """
        batches = self._fetch(step)
        lambda_t, rate = self._schedule(step)
        losses = self._accumulate(batches, self._sum_counts(batches), lambda_t)
        limit = self.settings.max_grad_norm
        norm = self.accelerator.clip_grad_norm_(self.parameters, math.inf if limit is None else limit)
        finite = bool(torch.isfinite(losses["loss"]) & torch.isfinite(norm))
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        self.optimizer.zero_grad()
        tokens = sum(int(batch.model_inputs["attention_mask"].sum()) for batch in batches)
        return StepOutcome(losses, norm, tokens * self.shape.ranks, rate, lambda_t, finite)

    def _fetch(self, step: int) -> list[Batch]:
        rank = self.accelerator.process_index
        draws = draw_step(step, self.source.size, self.settings.seed, self.shape, rank)
        return [self.source.load(micro) for micro in draws]

    def _schedule(self, step: int) -> tuple[float, float]:
        """Lambda and learning rate of a step."""
        on = self.settings
        lambda_t = compute_lambda(
            on.lambda_schedule, step, on.max_steps, start=on.lambda_start, end=on.lambda_end
        )
        rate = compute_learning_rate(
            on.learning_rate_schedule,
            step,
            on.max_steps,
            peak=on.learning_rate,
            warmup_steps=on.warmup_steps,
        )
        return lambda_t, rate

    def _sum_counts(self, batches: Sequence[Batch]) -> Counts:
        """How many of each unit the whole step has, over its micro-batches and all ranks."""
        counts = [self.objective.count(batch) for batch in batches]
        names = list(counts[0])
        totals = torch.tensor([sum(count[name] for count in counts) for name in names])
        if self.shape.ranks > 1:
            totals = self.accelerator.reduce(totals.to(self.accelerator.device), "sum")
        return dict(zip(names, totals.tolist(), strict=True))

    def _accumulate(self, batches: Sequence[Batch], counts: Counts, lambda_t: float) -> dict[str, Tensor]:
        """Add the gradients of every micro-batch; return the step's mean losses."""
        losses: dict[str, Tensor] = {}
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                for name, value in self._backward(batch, counts, lambda_t).items():
                    losses[name] = losses[name] + value if name in losses else value
        if self.shape.ranks > 1:
            losses = self.accelerator.reduce(losses, "sum")
        return losses

    def _backward(self, batch: Batch, counts: Counts, lambda_t: float) -> dict[str, Tensor]:
        """Gradients of one micro-batch's share of the loss; returns its losses, detached."""
        batch = batch.to(self.accelerator.device)
        teachers = self.signals(batch) if lambda_t > 0.0 else ()
        parts = self.objective(self.model(batch), teachers, batch, lambda_t)
        loss = parts.combine(counts)
        # Ranks average their gradients, while the shares of a step add up.
        self.accelerator.backward(loss * self.shape.ranks)
        return {"loss": loss.detach(), **parts.compute_means(counts)}


def build_optimizer(parameters: Sequence[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW over trainable parameters; vectors (norms, biases) are never decayed.

    Args:
        parameters: at least one.
        weight_decay: decoupled, for matrices.

    Returns:
        The optimizer; its learning rate is set before every step.

    Raises:
        ModelError: when there is nothing to train.
    """
    if not parameters:
        raise ModelError(
            "the student has no trainable parameter", hint="Attach LoRA adapters or train in full."
        )
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    kinds = {parameter.device.type for parameter in parameters}
    fused = kinds <= {"cpu", "cuda"}
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, fused=fused)
