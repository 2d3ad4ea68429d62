"""What one upper model says about a micro-batch, as far as stage two uses it; live or from the store.

Dimension letters:
    A  answer positions of the student's batch
    E  examples of it that are learned from, in the order of `Batch.first`
    n  choices of the example that has most of them
    V  shared vocabulary
    k  columns kept of V
    M  matched layers
    C  cells of the grid that a picture is pooled to
    H  width of the upper model
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from hkdcli.data.batches import Batch
from hkdcli.distill.losses import choice_logits, cross_entropy, merge_tail
from hkdcli.models.answers import AnswerLogits
from hkdcli.models.states import StatePlan, States


@dataclass(frozen=True, slots=True)
class SignalPlan:
    """What is asked of an upper model.

    Attributes:
        vocabulary: token ids shared with the student, counted from 0; None: its tokenizer is another, or
            tokens are not compared, so that it is asked for choices alone.
        temperature: T that its distributions are softened by.
        top_k: how many of its likeliest tokens are kept; None: all.
        states: which hidden states; None: none.
    """

    vocabulary: int | None
    temperature: float = 1.0
    top_k: int | None = None
    states: StatePlan | None = None


@dataclass(frozen=True, slots=True)
class TeacherSignal:
    """What an upper model says; everything on the device of the batch, without a graph.

    Attributes:
        log_truth: [E], log p(y | x): the sum of the log-probabilities of the reference's tokens, its end
            included, at temperature 1, on the upper model's own tokens.
        choices: [E, n], logits of the legal first letters, in choice order; 0 where there is no such choice.
        logits: [A, V] or [A, k] on answer positions, float32; None: its tokenizer is another.
        tokens: [A, k], the token of each column; None: column v is token v.
        log_sum_exp: [A], log of the sum of exp(logits / T) over the V - k columns that are not kept, because
            the difference of two sums is mere rounding where a model is certain; None with all columns.
        states: of unit norm, in float16; None: not asked for.
    """

    log_truth: Tensor
    choices: Tensor
    logits: Tensor | None = None
    tokens: Tensor | None = None
    log_sum_exp: Tensor | None = None
    states: States | None = None


def build_signal(answer: AnswerLogits, batch: Batch, plan: SignalPlan) -> TeacherSignal:
    """Keep of an upper model's answer what stage two uses.

    Args:
        answer: on `batch`; with states where the plan has them.
        batch: what the upper model was asked, in its own tokens.
        plan: what to keep.

    Returns:
        The signal, on the device of the answer.
    """
    log_probs = -cross_entropy(answer.logits, batch.answer_targets)
    log_truth = log_probs.new_zeros(len(batch.first)).index_add(0, find_examples(batch), log_probs)
    choices = choice_logits(answer.logits, batch.first, batch.letter_ids)[0]
    states = None if plan.states is None or answer.states is None else _normalise(answer.states)
    if plan.vocabulary is None:
        return TeacherSignal(log_truth, choices, states=states)
    logits = answer.logits[:, : plan.vocabulary]
    if plan.top_k is None or plan.top_k >= plan.vocabulary:
        return TeacherSignal(log_truth, choices, logits.contiguous(), states=states)
    kept, tokens = logits.topk(plan.top_k, dim=-1)
    rest = merge_tail(logits / plan.temperature, tokens)[:, -1]
    return TeacherSignal(log_truth, choices, kept, tokens, rest, states)


def find_examples(batch: Batch) -> Tensor:
    """Which example each answer position belongs to: [A], an index into `Batch.first`."""
    counts = torch.cat([batch.first, batch.first.new_full((1,), len(batch.answer_targets))]).diff()
    return torch.repeat_interleave(counts, output_size=len(batch.answer_targets))


def _normalise(states: States) -> States:
    return States(*(F.normalize(part.float(), dim=-1).half() for part in (states.answer, states.image)))
