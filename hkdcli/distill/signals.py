"""What the teachers say about a micro-batch, behind one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import torch
from torch import nn

from hkdcli.data.batches import Batch
from hkdcli.distill.losses import choice_logits
from hkdcli.distill.order import Draw
from hkdcli.distill.sources import BatchSource
from hkdcli.models.answers import AnswerLogits

Said_co = TypeVar("Said_co", covariant=True)


class Signals(Protocol[Said_co]):
    """What every teacher says about a micro-batch: AnswerLogits in stage one, TeacherSignals in stage two.

    Signals that are an nn.Module with trainable parameters are trained and saved with the student.
    """

    def __call__(self, batch: Batch, draws: Sequence[Draw]) -> Sequence[Said_co]:
        """What each teacher says, examples in the order of the batch."""


class LiveTeachers(nn.Module):
    """Teachers that run beside the student, on the same freshly drawn examples.

    A teacher is put in evaluation mode and frozen here (with dropout it would contradict itself), unless
    it learns too.

    Args:
        teachers: each takes a Batch and gives AnswerLogits.
        sources: for each teacher where its batches come from; None: it takes the student's, because it reads
            a record as the student does. Teachers that read alike share one, which is then asked once.
            Without the argument all read as the student.
        mutual: the first teacher learns from the student as the student does from it: its logits come with
            their graph, and its parameters stay as they are.
    """

    def __init__(
        self,
        teachers: Sequence[nn.Module] = (),
        sources: Sequence[BatchSource | None] | None = None,
        *,
        mutual: bool = False,
    ) -> None:
        super().__init__()
        self.teachers = nn.ModuleList(teachers)
        self.sources = sources or [None] * len(teachers)
        self.mutual = mutual
        for teacher in self.teachers[int(mutual) :]:
            teacher.eval().requires_grad_(False)

    def forward(self, batch: Batch, draws: Sequence[Draw] = ()) -> list[AnswerLogits]:
        """One AnswerLogits per teacher.

        Args:
            batch: the student's, on the teachers' device.
            draws: what it holds; needed where a teacher has a source of its own.

        Returns:
            In the order of the teachers.
        """
        distinct = {id(source): source for source in self.sources if source is not None}
        own = {key: source.load(draws).to(batch.first.device) for key, source in distinct.items()}
        answers = []
        for place, (teacher, source) in enumerate(zip(self.teachers, self.sources, strict=True)):
            with torch.set_grad_enabled(self.mutual and place == 0 and torch.is_grad_enabled()):
                answers.append(_ask(teacher, batch if source is None else own[id(source)], source is None))
        return answers


def _ask(teacher: nn.Module, batch: Batch, shared: bool) -> AnswerLogits:
    answer: AnswerLogits = teacher(batch)
    if shared:
        return answer
    return replace(answer, choices=choice_logits(answer.logits, batch.first, batch.letter_ids)[0])
