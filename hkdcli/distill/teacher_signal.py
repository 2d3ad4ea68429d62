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

from torch import Tensor

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
        log_sum_exp: [A], log of the sum over all V columns of exp(logits / T); None with all columns.
        states: of unit norm, in float16; None: not asked for.
    """

    log_truth: Tensor
    choices: Tensor
    logits: Tensor | None = None
    tokens: Tensor | None = None
    log_sum_exp: Tensor | None = None
    states: States | None = None
