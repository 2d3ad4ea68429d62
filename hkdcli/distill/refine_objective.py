"""What stage two minimises: labels, and three parts that couple the student to its upper models.

Dimension letters:
    A  answer positions of a micro-batch
    E  examples of it that are learned from
    K  upper models
    M  matched layers
    C  cells of the grid that a picture is pooled to

    L_refine = CE(y, p_S) + sum_g [ exp(-s_g) L_g + s_g ],   g in {response, feature, relation}

CE and the response of answer tokens are means over answer tokens, the response of choices and the relation
over examples, the feature over answer tokens and cells. An example to whose truth no upper model gives
`min_truth` keeps its place in those means and adds nothing but its cross-entropy. A fixed weight stands for
exp(-s_g), without the term s_g.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hkdcli.data.batches import Batch
from hkdcli.distill.losses import FLOOR, DivergenceName, choice_logits, compare_distributions, cross_entropy
from hkdcli.distill.objective import LossPart, LossParts
from hkdcli.distill.teacher_signal import TeacherSignal, find_examples
from hkdcli.distill.ternary import (
    compare_features,
    compare_relations,
    couple,
    join_tokens,
    lay_out,
    mix_log_probs,
    pair_answers,
)
from hkdcli.models.answers import AnswerLogits

PartName = Literal["response", "feature", "relation"]

# Learned s_g stay in (-4, 4), so that a part that is near 0 counts up to 55 times and not without bound.
# The bound is smooth: beyond a hard one there is no gradient, and no way back.
MOST_S = 4.0


@dataclass(frozen=True, slots=True)
class ResponseSettings:
    """How the student's answer is compared with the coupled one.

    Attributes:
        vocabulary: token ids that student and upper models share, counted from 0.
        divergence: forward_kl, reverse_kl, jsd or skew_kl.
        temperature: T of both sides.
        beta: share of the upper models in the mixture of jsd and skew_kl; None with the others.
        choice_weight: alpha, the share of the first letter's choice; the rest is that of answer tokens.
        scale_by_temperature: whether the divergences are multiplied by T^2.
    """

    vocabulary: int
    divergence: DivergenceName = "forward_kl"
    temperature: float = 1.0
    beta: float | None = None
    choice_weight: float = 0.0
    scale_by_temperature: bool = True


@dataclass(frozen=True, slots=True)
class _Belief:
    """`weights` [K, E] of the upper models, `followed` [E] (0 or 1), `examples` [A] of answer positions."""

    weights: Tensor
    followed: Tensor
    examples: Tensor


class RefineObjective(nn.Module):
    """L_refine of stage two, with the weights that are learned beside the student and dropped with it.

    Args:
        parts: those that take part, with their fixed weight; None: it is learned, as exp(-s) from s = 0.
        response: how answers are compared.
        uppers: names of the upper models, for the log; features and relations follow the first.
        kappa: temperature of the coupling.
        min_truth: an example to whose truth none of them gives this probability keeps cross-entropy alone.
        widths: of the student's language model and of the first upper model's.
        layers: M.
        cells: C.
    """

    def __init__(
        self,
        parts: Mapping[PartName, float | None],
        response: ResponseSettings,
        uppers: Sequence[str],
        *,
        kappa: float = 1.0,
        min_truth: float = 0.0,
        widths: tuple[int, int] = (1, 1),
        layers: int = 1,
        cells: int = 1,
    ) -> None:
        super().__init__()
        self.parts, self.response, self.uppers = dict(parts), response, tuple(uppers)
        self.kappa, self.cells = kappa, cells
        self.least_log_truth = math.log(min_truth) if min_truth > 0.0 else -math.inf
        learned = [name for name, weight in self.parts.items() if weight is None]
        self.s = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in learned})
        if "feature" in self.parts:
            self.projections = nn.Parameter(build_projections(layers, *widths))

    def count(self, batch: Batch) -> dict[str, int]:
        """How many of each unit a micro-batch has, known before any forward pass."""
        tokens, examples = int(batch.answer_targets.numel()), int(batch.first.numel())
        return {"token": tokens, "example": examples, "state": tokens + examples * self.cells}

    def forward(
        self, student: AnswerLogits, teachers: Sequence[TeacherSignal], batch: Batch, lambda_t: float = 1.0
    ) -> LossParts:
        """The parts of one micro-batch.

        Args:
            student: logits [A, V_student], and states where features or relations take part.
            teachers: what the upper models say about the micro-batch.
            batch: what the student has seen.
            lambda_t: stage two has none; it is always 1.

        Returns:
            `cross_entropy`, and the loss of each part, with `s_...` and `weight_...` where that is learned.
            For the log alone: `followed`, the share of examples whose truth is likely enough to some upper
            model, and `believed_...`, how much each of them is believed.
        """
        reference = cross_entropy(student.logits, batch.answer_targets).sum()
        belief = self._believe(teachers, batch)
        parts = {"cross_entropy": LossPart(reference, "token", 1.0)}
        if "response" in self.parts:
            parts |= self._respond(student, teachers, batch, belief)
        if "feature" in self.parts or "relation" in self.parts:
            parts |= self._compare_states(student, teachers, belief)
        return LossParts(parts | self._tell_weights(len(batch.first)) | self._tell_belief(belief))

    def _believe(self, teachers: Sequence[TeacherSignal], batch: Batch) -> _Belief:
        log_truth = torch.stack([said.log_truth for said in teachers])
        followed = (log_truth.amax(0) >= self.least_log_truth).float()
        return _Belief(couple(log_truth, self.kappa), followed, find_examples(batch))

    def _weigh(self, name: PartName) -> float | Tensor:
        weight = self.parts[name]
        return torch.exp(-self._bound(name)) if weight is None else weight

    def _bound(self, name: str) -> Tensor:
        """s_g, from what is learned of it."""
        bounded: Tensor = MOST_S * torch.tanh(self.s[name] / MOST_S)
        return bounded

    def _tell_weights(self, examples: int) -> dict[str, LossPart]:
        """s_g, which a step adds once however it is cut up, and exp(-s_g) for the log."""
        found = {}
        for name in self.s:
            s = self._bound(name)
            found[f"s_{name}"] = LossPart(s * examples, "example", 1.0)
            found[f"weight_{name}"] = LossPart(torch.exp(-s.detach()) * examples, "example", 0.0)
        return found

    def _tell_belief(self, belief: _Belief) -> dict[str, LossPart]:
        figures = {"followed": belief.followed.sum()}
        for name, weight in zip(self.uppers, belief.weights, strict=True):
            figures[f"believed_{name}"] = weight.sum()
        return {name: LossPart(total, "example", 0.0) for name, total in figures.items()}

    def _respond(
        self, student: AnswerLogits, teachers: Sequence[TeacherSignal], batch: Batch, belief: _Belief
    ) -> dict[str, LossPart]:
        """The response: of answer tokens, of the choice, or of both by alpha."""
        parts, alpha, weight = {}, self.response.choice_weight, self._weigh("response")
        if alpha < 1.0:
            total = self._compare_tokens(student, teachers, belief)
            parts["response"] = LossPart(total, "token", weight * (1.0 - alpha))
        if alpha > 0.0:
            total = self._compare_choices(student, teachers, batch, belief)
            parts["response_choice"] = LossPart(total, "example", weight * alpha)
        return parts

    def _compare_tokens(
        self, student: AnswerLogits, teachers: Sequence[TeacherSignal], belief: _Belief
    ) -> Tensor:
        """Sum over answer tokens; the share of upper models that have other tokens is not compared."""
        speak = [place for place, said in enumerate(teachers) if said.logits is not None]
        weights = belief.weights[speak].clamp(min=1e-30)  # a share of 0 still has to be divided by
        heard = belief.weights[speak].sum(0) * belief.followed
        pair = pair_answers(
            [teachers[place] for place in speak],
            (weights / weights.sum(0))[:, belief.examples],
            student.logits,
            self.response.vocabulary,
            self.response.temperature,
        )
        return (self._diverge(*pair) * heard[belief.examples]).sum()

    def _compare_choices(
        self, student: AnswerLogits, teachers: Sequence[TeacherSignal], batch: Batch, belief: _Belief
    ) -> Tensor:
        """Sum over examples."""
        own, mask = choice_logits(student.logits, batch.first, batch.letter_ids)
        own, *theirs = (
            torch.log_softmax(torch.where(mask, logits.float() / self.response.temperature, FLOOR), -1)
            for logits in (own, *(said.choices for said in teachers))
        )
        rows = self._diverge(mix_log_probs(torch.stack(theirs), belief.weights), own)
        return (rows * belief.followed).sum()

    def _diverge(self, log_p: Tensor, log_q: Tensor) -> Tensor:
        rows = compare_distributions(self.response.divergence, log_p, log_q, self.response.beta)
        return rows * self.response.temperature**2 if self.response.scale_by_temperature else rows

    def _compare_states(
        self, student: AnswerLogits, teachers: Sequence[TeacherSignal], belief: _Belief
    ) -> dict[str, LossPart]:
        """Feature and relation, student against the first upper model."""
        if student.states is None or teachers[0].states is None:
            raise ValueError("features and relations need states of the student and the first upper model")
        own, theirs = join_tokens(student.states), join_tokens(teachers[0].states)
        layout, parts = lay_out(belief.examples, len(belief.followed), self.cells), {}
        if "feature" in self.parts:
            rows = compare_features(own, theirs, self.projections) * belief.followed[layout.examples]
            parts["feature"] = LossPart(rows.sum(), "state", self._weigh("feature"))
        if "relation" in self.parts:
            rows = compare_relations(own, theirs, layout) * belief.followed
            parts["relation"] = LossPart(rows.sum(), "example", self._weigh("relation"))
        return parts


def build_projections(layers: int, width: int, wanted: int) -> Tensor:
    """Where the projections start: the identity between equal widths, else random and nearly orthogonal.

    Args:
        layers: M.
        width: H_S.
        wanted: H_T.

    Returns:
        [M, H_S, H_T], float32.
    """
    if width == wanted:
        return torch.eye(width).repeat(layers, 1, 1)
    return torch.randn(layers, width, wanted) / math.sqrt(wanted)
