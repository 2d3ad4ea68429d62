"""One optimizer step: fetch its micro-batches, add up their losses, clip, and step if all is finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils.memory import release_memory
from torch import Tensor, nn

from hkdcli.data.batches import Batch
from hkdcli.distill.checkpoint import TrainingState
from hkdcli.distill.memory import describe_memory
from hkdcli.distill.objective import Counts, LossParts
from hkdcli.distill.optimizer import build_optimizer
from hkdcli.distill.order import Draw, StepShape, draw_step
from hkdcli.distill.parallel import add_up_gradients, make_alike, spread, wants_shards
from hkdcli.distill.settings import TrainSettings
from hkdcli.distill.signals import Signals
from hkdcli.distill.sources import BatchSource
from hkdcli.errors import BadRow, DataError, MachineLimitError, UsageError
from hkdcli.models.answers import AnswerLogits, quieten_frozen
from hkdcli.ranks import add_up, collect, sign
from hkdcli.reporter import SILENT, Reporter
from hkdcli.runtime import is_out_of_memory

MAX_HALVINGS = 3  # of the micro-batch, before a training is too large for the machine

MicroBatch = tuple[list[Draw], Batch]
Said_contra = TypeVar("Said_contra", contravariant=True)
Said = TypeVar("Said")


class Objective(Protocol[Said_contra]):
    """What is minimised; where it is an nn.Module with parameters of its own, they are trained too."""

    def count(self, batch: Batch) -> Mapping[str, int]:
        """How many of each unit a micro-batch has, before any forward pass."""

    def __call__(
        self, student: AnswerLogits, teachers: Sequence[Said_contra], batch: Batch, lambda_t: float
    ) -> LossParts:
        """The parts of one micro-batch's loss."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What one optimizer step computed; losses stay tensors, since few steps are looked at.

    Attributes:
        losses: `loss` and every part of it, as means over the step.
        grad_norm: of all but the objective's own parameters, before clipping.
        tokens: tokens that the student has read.
        learning_rate: of this step.
        lambda_t: of this step; None: there is no lambda.
        finite: whether loss and gradient were; if not, the optimizer did not step.
    """

    losses: Mapping[str, Tensor]
    grad_norm: Tensor
    tokens: int
    learning_rate: float
    lambda_t: float | None
    finite: bool

    def compute_figures(self) -> dict[str, float]:
        """The figures for the log; waits for the device."""
        figures = {name: value.item() for name, value in self.losses.items()}
        figures |= {"grad_norm": self.grad_norm.item(), "learning_rate": self.learning_rate}
        return figures if self.lambda_t is None else figures | {"lambda": self.lambda_t}


class Stepper:
    """Student, objective and optimizer, made ready for their device.

    Args:
        student: on its device already; the parameters that require a gradient are trained.
        signals: what its teachers say; trained too where they are an nn.Module with trainable parameters.
        objective: what is minimised; likewise.
        source: where micro-batches come from.
        settings: how to train.
        accelerator: precision, and how many processes there are; None: as the student stands.
        reporter: told when the micro-batch has to shrink.

    Raises:
        UsageError: there are more processes than examples in a step.
    """

    def __init__(
        self,
        student: nn.Module,
        signals: Signals[Said],
        objective: Objective[Said],
        source: BatchSource,
        settings: TrainSettings,
        accelerator: Accelerator | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.source, self.settings, self.objective = source, settings, objective
        self.reporter = reporter or SILENT
        device = next(student.parameters()).device
        self.accelerator = accelerator or Accelerator(cpu=device.type == "cpu")
        self.modules = {"student": student, **_find_trainable(objective=objective, signals=signals)}
        self.mutual = "signals" in self.modules
        self.model = spread(student, self.accelerator, shards=wants_shards())
        self.signals = spread(self.modules["signals"], self.accelerator) if self.mutual else signals
        self.parameters = [
            parameter
            for module in self.modules.values()
            for parameter in module.parameters()
            if parameter.requires_grad
        ]
        self.own = list(self.modules["objective"].parameters()) if "objective" in self.modules else []
        brought = {id(parameter) for parameter in self.own}
        self.others = [parameter for parameter in self.parameters if id(parameter) not in brought]
        make_alike(self.own, self.accelerator)
        optimizer = build_optimizer(
            self.parameters, settings.weight_decay, self.own, settings.objective_rate_scales
        )
        self.optimizer = self.accelerator.prepare_optimizer(optimizer, device_placement=False)
        self.shape = StepShape(
            settings.micro_batch_size, settings.gradient_accumulation_steps, self.accelerator.num_processes
        )
        if self.shape.pieces > self.shape.examples:
            raise UsageError(
                f"{self.shape.ranks} processes cannot share the {self.shape.examples} examples of a step",
                hint="Raise gradient_accumulation_steps, or start fewer processes.",
            )
        self.width = settings.micro_batch_size  # examples on the device at once; halved when memory runs out
        self.lost: dict[str, BadRow] = {}  # examples that could not be read, by id
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
            quieten_frozen(root)

    def take_step(self, step: int) -> StepOutcome:
        """Take one optimizer step, unless its loss or gradient is not finite.

        When memory runs out, the micro-batch is halved and the step begun again: it has the same examples and
        the same loss, in more pieces.

        Args:
            step: from 0; decides the examples, the learning rate and lambda.

        Returns:
            What it computed. `MachineLimitError` where memory runs out with `MAX_HALVINGS` halvings, with a
            single example, in the optimizer, or on one of several devices, where the others could not know.
        """
        lambda_t, rate = self.settings.schedule(step)
        while isinstance(taken := self._attempt(step, lambda_t), str):
            self._halve(step, taken)
        batches, losses = taken
        norm, finite = self._update(step, losses["loss"], rate)
        tokens = sum(int(batch.model_inputs["attention_mask"].sum()) for _, batch in batches)
        shown = None if self.settings.lambda_schedule is None else lambda_t
        return StepOutcome(losses, norm, tokens * self.shape.ranks, rate, shown, finite)

    def _attempt(self, step: int, lambda_t: float) -> tuple[list[MicroBatch], dict[str, Tensor]] | str:
        """The step's batches and losses, with gradients in place; or how memory ran out."""
        try:
            batches = self._fetch(step)
            return batches, self._accumulate(batches, self._sum_counts(batches), lambda_t)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return str(error)

    def _update(self, step: int, loss: Tensor, rate: float) -> tuple[Tensor, bool]:
        """Clip and let the optimizer step, unless loss or gradient is not finite; returns the norm."""
        norm = self._clip(self.others)
        # Apart: the gradients of learned weights are about 1 each, and would scale those of the student down.
        own_norm = self._clip(self.own) if self.own else norm
        finite = bool(torch.isfinite(loss) & torch.isfinite(norm) & torch.isfinite(own_norm))
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["scale"]
            try:
                self.optimizer.step()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                # Its first step makes room for the moments; half a step cannot be taken again.
                raise self._build_limit_error(step, f"in the optimizer: {error}") from error
        self.optimizer.zero_grad()
        return norm, finite

    def _clip(self, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Scale gradients down to the limit, if there is one; returns their norm before."""
        limit = self.settings.max_grad_norm
        norm: Tensor = self.accelerator.clip_grad_norm_(parameters, math.inf if limit is None else limit)
        return norm

    def _halve(self, step: int, error: str) -> None:
        """Make the micro-batch smaller, or give up; not while a traceback keeps the step's tensors alive."""
        self.optimizer.zero_grad()
        release_memory()
        smallest = max(1, self.settings.micro_batch_size >> MAX_HALVINGS)
        if self.width <= smallest or self.shape.ranks > 1:
            raise self._build_limit_error(step, f"with {self.width} examples on the device at once: {error}")
        self.width //= 2
        self.reporter.warn(
            f"step {step + 1}: out of memory; going on with {self.width} examples on the device at once, "
            "and as many in a step as before"
        )

    def _build_limit_error(self, step: int, where: str) -> MachineLimitError:
        return MachineLimitError(
            f"step {step + 1}: out of memory {where}\n{describe_memory(self.modules, self.signals)}",
            hint="Lower micro_batch_size (and raise gradient_accumulation_steps), turn on "
            "gradient_checkpointing, quantize the teachers, or train through lora.",
        )

    def _fetch(self, step: int) -> list[MicroBatch]:
        rank, width = self.accelerator.process_index, self.width
        drawn = draw_step(step, self.source.size, self.settings.seed, self.shape, rank)
        pieces = [micro[at : at + width] for micro in drawn for at in range(0, len(micro), width)]
        sign(step + 1, "reading", [name for piece in pieces for name in self.source.list_ids(piece)])
        batches = [(piece, self.source.load(piece)) for piece in pieces]
        sign(step + 1, "computing", [name for _, batch in batches for name in batch.ids])
        return batches

    def _sum_counts(self, batches: Sequence[MicroBatch]) -> Counts:
        """How many of each unit the whole step has, over its micro-batches and all ranks."""
        counts = [self.objective.count(batch) for _, batch in batches]
        names = list(counts[0])
        lost = [row for _, batch in batches for row in batch.lost]
        *totals, lost_count = add_up([*(sum(count[name] for count in counts) for name in names), len(lost)])
        if lost_count:
            self._count_lost(lost)
        return dict(zip(names, totals, strict=True))

    def _count_lost(self, rows: Sequence[BadRow]) -> None:
        """Warn once of each example that could not be read, on any rank; too many are a DataError on all."""
        everyone = [BadRow(**row) for own in collect([asdict(row) for row in rows]) for row in own]
        for row in everyone:
            if row.id not in self.lost:
                self.reporter.warn(f"not learned from: {row}")
            self.lost[row.id] = row
        limit = self.settings.max_bad
        if len(self.lost) > limit * self.source.size:
            raise DataError(
                f"{len(self.lost)} of {self.source.size} examples became unreadable since the run began "
                f"(at most {limit:.3g} of them may be left out)",
                list(self.lost.values()),
                hint="Put the images back and give --resume, or raise data.max_bad.",
            )

    def _accumulate(
        self, batches: Sequence[MicroBatch], counts: Counts, lambda_t: float
    ) -> dict[str, Tensor]:
        """Add the gradients of every micro-batch; return the step's mean losses."""
        losses: dict[str, Tensor] = {}
        for micro in batches:
            for name, value in self._backward(micro, counts, lambda_t).items():
                losses[name] = losses[name] + value if name in losses else value
        if self.shape.ranks > 1:
            add_up_gradients(self.parameters)
            losses = self.accelerator.reduce(losses, "sum")
        return losses

    def _backward(self, micro: MicroBatch, counts: Counts, lambda_t: float) -> dict[str, Tensor]:
        """Gradients of one micro-batch's share of the loss; returns its losses, detached."""
        draws, batch = micro[0], micro[1].to(self.accelerator.device)
        teachers = self.signals(batch, draws) if lambda_t > 0.0 or self.mutual else ()
        parts = self.objective(self.model(batch), teachers, batch, lambda_t)
        loss = parts.combine(counts)
        del teachers  # their logits are not needed for the gradient of the student
        self.accelerator.backward(loss)
        return {"loss": loss.detach(), **parts.compute_means(counts)}


def _find_trainable(**candidates: object) -> dict[str, nn.Module]:
    """Those that are modules with something to train, by name."""
    return {
        name: thing
        for name, thing in candidates.items()
        if isinstance(thing, nn.Module) and any(p.requires_grad for p in thing.parameters())
    }
