"""What the teachers say about a micro-batch, behind one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn

from hkdcli.data.batches import Batch
from hkdcli.models.answers import AnswerLogits


class Signals(Protocol):
    """Gives every teacher's logits for a micro-batch, without gradients."""

    def __call__(self, batch: Batch) -> Sequence[AnswerLogits]:
        """One AnswerLogits per teacher, rows as in the batch."""


class LiveTeachers:
    """Teachers that run beside the student, on the same freshly drawn batch.

    They are put in evaluation mode and frozen here: a teacher with dropout would contradict itself.
    """

    def __init__(self, teachers: Sequence[nn.Module] = ()) -> None:
        self.teachers = tuple(teacher.eval().requires_grad_(False) for teacher in teachers)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> list[AnswerLogits]:
        """One AnswerLogits per teacher.

        Args:
            batch: on the teachers' device.

        Returns:
            In the order of the teachers.
        """
        return [teacher(batch) for teacher in self.teachers]
