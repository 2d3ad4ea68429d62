"""What the upper models of stage two say, computed on the spot."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hkdcli.data.batches import Batch
from hkdcli.distill.order import Draw
from hkdcli.distill.sources import BatchSource
from hkdcli.distill.teacher_signal import SignalPlan, TeacherSignal, build_signal


class LiveUpper(nn.Module):
    """One frozen upper model of stage two, asked on the spot.

    Args:
        model: takes a Batch and gives AnswerLogits, with states where the plan has them.
        plan: what it is asked for.
        source: where its batches come from; None: it takes the one it is given.
    """

    def __init__(self, model: nn.Module, plan: SignalPlan, source: BatchSource | None = None) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.plan, self.source = plan, source

    @torch.no_grad()
    def forward(self, batch: Batch, draws: Sequence[Draw]) -> TeacherSignal:
        """What it says about a micro-batch.

        Args:
            batch: on the model's device.
            draws: what it holds; needed where the model has a source of its own.

        Returns:
            The signal, on that device.
        """
        read = batch if self.source is None else self.source.load(draws).to(batch.first.device)
        return build_signal(self.model(read), read, self.plan)


class LiveSignals(nn.Module):
    """What all upper models of stage two say, computed beside the student.

    Args:
        uppers: the models.
    """

    def __init__(self, uppers: Sequence[LiveUpper]) -> None:
        super().__init__()
        self.uppers = nn.ModuleList(uppers)

    def forward(self, batch: Batch, draws: Sequence[Draw]) -> list[TeacherSignal]:
        """One TeacherSignal per upper model, in their order."""
        return [upper(batch, draws) for upper in self.uppers]
