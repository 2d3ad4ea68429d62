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
    """

    def __init__(self, model: nn.Module, plan: SignalPlan) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.plan = plan

    @torch.no_grad()
    def forward(self, batch: Batch) -> TeacherSignal:
        """What it says about a micro-batch in its own tokens, which is on its device."""
        return build_signal(self.model(batch), batch, self.plan)


class LiveSignals(nn.Module):
    """What all upper models of stage two say, computed beside the student.

    Args:
        uppers: the models.
        sources: for each where its batches come from; None: it takes the student's, because it reads a record
            as the student does. Models that read alike share one. Without the argument all read as it does.
    """

    def __init__(
        self, uppers: Sequence[LiveUpper], sources: Sequence[BatchSource | None] | None = None
    ) -> None:
        super().__init__()
        self.uppers, self.sources = nn.ModuleList(uppers), sources or [None] * len(uppers)

    def forward(self, batch: Batch, draws: Sequence[Draw]) -> list[TeacherSignal]:
        """One TeacherSignal per upper model, in their order, on the device of the student's batch."""
        read: dict[int | None, Batch] = {None: batch}
        for source in self.sources:
            if id(source) not in read and source is not None:
                read[id(source)] = source.load(draws).to(batch.first.device)
        return [
            upper(read[None if source is None else id(source)])
            for upper, source in zip(self.uppers, self.sources, strict=True)
        ]
