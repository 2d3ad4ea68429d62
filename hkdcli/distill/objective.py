"""What stage one minimises: named, weighted parts, summed here and divided by the trainer.

Dimension letters:
    A  answer tokens of a micro-batch
    B  examples of a micro-batch
    V  columns of a head
    n  choices of the example that has most of them

    L_online = (1 - lambda_t) CE(y, p_S) + lambda_t sum_k w_k [alpha D_choice + (1 - alpha) D_token]

CE and D_token are means over answer tokens, D_choice is a mean over examples: a long answer does not make
its decision count twice. A mean over a micro-batch would weigh ragged answers differently when the same
step is cut into other micro-batches, so a part holds a *sum*, names the unit that it is a mean over, and
the trainer divides once, by how many of that unit the whole optimizer step has, over every micro-batch
and every rank.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hkdcli.distill.losses import (
    DivergenceName,
    choice_logits,
    compute_divergence,
    cross_entropy,
    cut_to_shared,
)

if TYPE_CHECKING:
    from hkdcli.data.collate import Batch
    from hkdcli.models.answers import AnswerLogits

Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LossPart:
    """One named part of a micro-batch's loss: `weight` * `total` / (how many `unit`s the step has)."""

    total: Tensor  # scalar, float32: a sum, not a mean
    unit: str
    weight: float | Tensor  # a tensor where it is learned; 0 where the part is a figure for the log alone


@dataclass(frozen=True, slots=True)
class LossParts:
    """The parts of one micro-batch, by name."""

    parts: Mapping[str, LossPart]

    def combine(self, counts: Counts) -> Tensor:
        """The micro-batch's share of the step's loss: sum of weight * total / counts[unit], a scalar.

        Args:
            counts: how many of each unit the whole optimizer step has. A unit that the step has none of
                divides by 1: its sums are empty, so the part is 0 and keeps its place in the graph.

        Returns:
            Scalar; over the micro-batches of a step these add up to the step's loss.
        """
        shares = [part.weight * part.total / max(1, counts[part.unit]) for part in self.parts.values()]
        return torch.stack(shares).sum()

    def compute_means(self, counts: Counts) -> dict[str, Tensor]:
        """Each part's unweighted share of the step's mean, detached, for the log."""
        return {name: part.total.detach() / max(1, counts[part.unit]) for name, part in self.parts.items()}


@dataclass(frozen=True, slots=True)
class OnlineObjective:
    """L_online of stage one.

    Attributes:
        vocabulary: token ids shared by teacher and student, counted from 0.
        divergence: forward_kl, reverse_kl, jsd or skew_kl, for choices and tokens alike.
        temperature: T of both divergences.
        beta: share of the teacher in the mixture of jsd and skew_kl; None with the others.
        choice_weight: alpha, the share of D_choice; the rest is D_token's. What weighs 0 is not computed.
        teacher_weights: one per teacher, normalised here; None: all equal.
        top_k: D_token compares the teacher's k likeliest tokens and the mass of all others; None: all tokens.
        scale_by_temperature: whether the divergences are multiplied by T^2.
    """

    vocabulary: int
    divergence: DivergenceName = "forward_kl"
    temperature: float = 1.0
    beta: float | None = None
    choice_weight: float = 0.5
    teacher_weights: tuple[float, ...] | None = None
    top_k: int | None = None
    scale_by_temperature: bool = True

    def __post_init__(self) -> None:
        if not 0.0 <= self.choice_weight <= 1.0:
            raise ValueError(f"choice_weight must lie in [0, 1], not {self.choice_weight}")
        if self.teacher_weights is not None:
            normalise_weights(self.teacher_weights)

    def count(self, batch: Batch) -> dict[str, int]:
        """How many of each unit a micro-batch has, known before any forward pass."""
        return {"token": int(batch.answer_targets.numel()), "example": int(batch.first.numel())}

    def __call__(
        self, student: AnswerLogits, teachers: Sequence[AnswerLogits], batch: Batch, lambda_t: float
    ) -> LossParts:
        """The parts of one micro-batch.

        Args:
            student: logits [A, V_student].
            teachers: logits [A, V_teacher] each; may be empty when lambda_t is 0.
            batch: the micro-batch that both have seen.
            lambda_t: share of the teachers in the loss, in [0, 1].

        Returns:
            `cross_entropy` and, when lambda_t > 0, `choice` and `token`. A lambda_t > 0 without teachers,
            or weights that differ from the teachers in number, are a ValueError.
        """
        # What weighs nothing needs no gradient; its value is for the log.
        logits = student.logits if lambda_t < 1.0 else student.logits.detach()
        reference = cross_entropy(logits, batch.answer_targets).sum()
        parts = {"cross_entropy": LossPart(reference, "token", 1.0 - lambda_t)}
        if lambda_t > 0.0:
            weights = self._weights(len(teachers))
            if self.choice_weight > 0.0:
                total = sum_weighted(weights, [self._choice(student, t, batch) for t in teachers])
                parts["choice"] = LossPart(total, "example", lambda_t * self.choice_weight)
            if self.choice_weight < 1.0:
                total = sum_weighted(weights, [self._token(student, t) for t in teachers])
                parts["token"] = LossPart(total, "token", lambda_t * (1.0 - self.choice_weight))
        return LossParts(parts)

    def _weights(self, teachers: int) -> tuple[float, ...]:
        if teachers == 0:
            raise ValueError("lambda is above 0, so there must be a teacher")
        if self.teacher_weights is None:
            return (1.0 / teachers,) * teachers
        if len(self.teacher_weights) != teachers:
            raise ValueError(f"{len(self.teacher_weights)} teacher weights for {teachers} teachers")
        return normalise_weights(self.teacher_weights)

    def _choice(self, student: AnswerLogits, teacher: AnswerLogits, batch: Batch) -> Tensor:
        """Sum over examples of D_choice, scalar."""
        mask = batch.letter_ids >= 0
        of_teacher, of_student = _find_choices(teacher, batch), _find_choices(student, batch)
        return self._divergence(of_teacher, of_student, mask, None).sum()

    def _token(self, student: AnswerLogits, teacher: AnswerLogits) -> Tensor:
        """Sum over answer tokens of D_token, scalar."""
        pair = cut_to_shared(teacher.logits, student.logits, self.vocabulary)
        return self._divergence(*pair, None, self.top_k).sum()

    def _divergence(self, teacher: Tensor, student: Tensor, mask: Tensor | None, top_k: int | None) -> Tensor:
        return compute_divergence(
            self.divergence,
            teacher,
            student,
            self.temperature,
            mask,
            beta=self.beta,
            top_k=top_k,
            scale_by_temperature=self.scale_by_temperature,
        )


@dataclass(frozen=True, slots=True)
class MutualObjective:
    """Student and first teacher learn from each other (deep mutual learning, arXiv 1706.00384).

    The student's loss is `online` on the teachers' detached distributions; the first teacher's is `online`
    with the roles swapped, its only teacher the student, detached: its parts are named `upper_...`.

    Attributes:
        online: the loss of both.
    """

    online: OnlineObjective

    def count(self, batch: Batch) -> dict[str, int]:
        """How many of each unit a micro-batch has, known before any forward pass."""
        return self.online.count(batch)

    def __call__(
        self, student: AnswerLogits, teachers: Sequence[AnswerLogits], batch: Batch, lambda_t: float
    ) -> LossParts:
        """The parts of one micro-batch, those of the student and those of the upper model.

        Args:
            student: logits [A, V_student].
            teachers: logits [A, V_teacher] each, at least one; the first with its graph.
            batch: the micro-batch that they have seen.
            lambda_t: share of what the other says in the loss of each, in [0, 1].

        Returns:
            The parts of `online`, then the same of the upper model.
        """
        own = self.online(student, [teacher.detach() for teacher in teachers], batch, lambda_t)
        swapped = replace(self.online, teacher_weights=None)
        upper = swapped(teachers[0], [student.detach()], batch, lambda_t)
        return LossParts({**own.parts, **{f"upper_{name}": part for name, part in upper.parts.items()}})


def _find_choices(answer: AnswerLogits, batch: Batch) -> Tensor:
    """Logits of the letters, [B, n]."""
    if answer.choices is not None:
        return answer.choices
    return choice_logits(answer.logits, batch.first, batch.letter_ids)[0]


def normalise_weights(weights: Sequence[float]) -> tuple[float, ...]:
    """Scale weights to a sum of 1.

    Args:
        weights: finite and >= 0, not all 0.

    Returns:
        As many weights.

    Raises:
        ValueError: when they cannot be normalised.
    """
    total = math.fsum(weights)
    if not all(math.isfinite(w) and w >= 0.0 for w in weights) or total <= 0.0:
        raise ValueError(f"weights must be >= 0 and not all 0, not {list(weights)}")
    return tuple(weight / total for weight in weights)


def sum_weighted(weights: Sequence[float], totals: Sequence[Tensor]) -> Tensor:
    """sum_k w_k * total_k, a scalar."""
    return torch.stack([weight * total for weight, total in zip(weights, totals, strict=True)]).sum()
