"""One training, rehearsed: what its models, gradients, optimizer and activations take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from hkdcli.data.batches import Batch
from hkdcli.distill.order import Draw
from hkdcli.distill.settings import TrainSettings
from hkdcli.distill.signals import Signals
from hkdcli.distill.sources import BatchSource
from hkdcli.distill.stepper import Objective, Stepper
from hkdcli.models.answers import AnswerLogits
from hkdcli.planning.hollow import list_tensors
from hkdcli.planning.rehearsal import META, Ledger, rehearse


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """What a training takes on its device at the worst moment, in bytes.

    Attributes:
        teachers: weights of the upper models that are in memory beside the student.
        student: weights of the student that are not trained.
        trained: what is trained: adapters, or all weights; with what an objective or a teacher learns.
        gradients: one for each trained number.
        optimizer: two moments for each trained number.
        activations: all else at the peak: inputs, activations, logits, and what is computed on the way.
        peak: their sum.
    """

    teachers: int
    student: int
    trained: int
    gradients: int
    optimizer: int
    activations: int
    peak: int


class HollowSource:
    """Batches whose floats have no memory; the same examples give the same batch.

    Args:
        source: of real batches.
        size: how many of its examples there are to draw, the first ones; it may be set anew.
    """

    def __init__(self, source: BatchSource, size: int) -> None:
        self.source, self.size = source, size
        self._known: dict[tuple[int, ...], Batch] = {}

    def list_ids(self, draws: Sequence[Draw]) -> list[str]:
        """The ids of the examples drawn."""
        return self.source.list_ids(draws)

    def load(self, draws: Sequence[Draw]) -> Batch:
        """The examples drawn, as they are beside the device: they count once they are moved to it."""
        key = tuple(draw.index for draw in draws)
        with _disable_current_modes():
            if key not in self._known:
                self._known[key] = hollow_out(self.source.load(draws))
            return hollow_out(self._known[key])


def hollow_out(batch: Batch) -> Batch:
    """The batch with floating-point inputs that have no memory."""
    inputs = {
        name: torch.empty(value.shape, dtype=value.dtype, device=META)
        if isinstance(value, Tensor) and value.is_floating_point()
        else value.clone()
        for name, value in batch.model_inputs.items()
    }
    return replace(batch, model_inputs=inputs)


def rehearse_training(
    student: nn.Module,
    signals: Signals[Any],
    objective: Objective[Any],
    source: BatchSource,
    settings: TrainSettings,
    *,
    bf16: bool,
) -> TrainingMemory:
    """Take one optimizer step without memory, as a training is in the middle of its run.

    Args:
        student: hollow; what is trained requires gradients.
        signals: what teaches; hollow models, where they are asked live.
        objective: its own parameters are hollow too.
        source: of hollow batches; every step takes all of its examples, at once.
        settings: of the training.
        bf16: whether the device computes in bfloat16 (autocast).

    Returns:
        What it takes.
    """
    ledger = Ledger()
    once = replace(settings, micro_batch_size=source.size, gradient_accumulation_steps=1)
    computed = ComputedLow(student) if bf16 else student
    with rehearse(ledger):
        stepper = Stepper(computed, signals, objective, source, once, Accelerator(cpu=True))
        for tensor in list_all(stepper.modules.values(), signals):
            ledger.enter(tensor)
        used = _note_used(stepper)
        _begin_in_the_middle(stepper)
        if settings.gradient_accumulation_steps == 1:
            stepper.optimizer.zero_grad()
        ledger.forget_peak()
        stepper.take_step(0)
    unused = _list_unused(stepper, used)
    extra = [parameter.nbytes for parameter in unused if settings.gradient_accumulation_steps > 1]
    peak = ledger.peak - sum(extra) - _weigh_moments(stepper, unused)
    return _split(peak, student, signals, stepper, unused)


def list_all(modules: Iterable[nn.Module], signals: object) -> list[Tensor]:
    """Tensors of all models that are in memory, each once."""
    held = [module for module in (*modules, signals) if isinstance(module, nn.Module)]
    return list({id(t): t for module in held for t in list_tensors(module)}.values())


class ComputedLow(nn.Module):
    """The student as accelerate lets it compute: matrices in bfloat16."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> AnswerLogits:
        """Its logits."""
        with torch.autocast("cpu", torch.bfloat16):
            said: AnswerLogits = self.model(batch)
        return said


def _note_used(stepper: Stepper) -> set[int]:
    """Ids of the parameters that get a gradient, filled as they do; a tower may have layers without use."""
    used: set[int] = set()
    for parameter in stepper.parameters:
        parameter.register_post_accumulate_grad_hook(lambda parameter: used.add(id(parameter)))
    return used


def _begin_in_the_middle(stepper: Stepper) -> None:
    """With gradients of an earlier micro-batch and moments of an earlier step, which the next one reuses."""
    for parameter in stepper.parameters:
        parameter.grad = torch.zeros_like(parameter)
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        stepper.optimizer.optimizer.state[parameter] = {"step": torch.zeros((), device=META), **moments}
    stepper.optimizer.step = lambda: None


def _list_unused(stepper: Stepper, used: set[int]) -> list[nn.Parameter]:
    """Parameters that get no gradient: a run makes no moments for them, and the rehearsal did."""
    return [parameter for parameter in stepper.parameters if id(parameter) not in used]


def _weigh_moments(stepper: Stepper, parameters: Sequence[nn.Parameter]) -> int:
    state = stepper.optimizer.optimizer.state
    return sum(value.nbytes for parameter in parameters for value in state[parameter].values())


def _split(
    peak: int, student: nn.Module, signals: object, stepper: Stepper, unused: Sequence[nn.Parameter]
) -> TrainingMemory:
    """Take the peak apart."""
    trained = {id(parameter): parameter for parameter in stepper.parameters}
    idle = {id(parameter) for parameter in unused}
    used = [parameter for key, parameter in trained.items() if key not in idle]
    frozen = [t for t in list_tensors(student) if id(t) not in trained]
    own = {id(t) for t in frozen}
    teaching = list_tensors(signals) if isinstance(signals, nn.Module) else []
    teachers = [t for t in teaching if id(t) not in trained and id(t) not in own]
    parts = {
        "teachers": sum(t.nbytes for t in teachers),
        "student": sum(t.nbytes for t in frozen),
        "trained": sum(parameter.nbytes for parameter in trained.values()),
        "gradients": sum(parameter.nbytes for parameter in used),
        "optimizer": _weigh_moments(stepper, used),
    }
    return TrainingMemory(**parts, activations=peak - sum(parts.values()), peak=peak)
