"""What couples teacher, assistant and student in stage two, as pure functions of tensors.

Dimension letters:
    K  upper models: teacher and assistant in the ternary case
    E  examples of a micro-batch that are learned from
    A  answer positions of a micro-batch
    V  shared vocabulary
    k  columns kept of V, U <= K k those that any upper model keeps
    M  matched layers
    C  cells of the grid that a picture is pooled to
    N  tokens whose states are compared: the cells of every example, then all answer tokens
    n  tokens of the example that has most of them
    H  width of a model

p_k is the distribution of an upper model and w_k(x) how much it is believed on example x; their coupled
distribution is q = sum_k w_k p_k.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from hkdcli.distill.losses import FLOOR, merge_tail
from hkdcli.distill.teacher_signal import TeacherSignal
from hkdcli.models.states import States

_LEAST_LOG = -1e4  # of a probability: less than any float holds, and differences stay finite


def couple(log_truth: Tensor, kappa: float) -> Tensor:
    """w_k(x) = softmax over the upper models of log p_k(y | x) / kappa: the truth decides who is believed.

    Args:
        log_truth: [K, E]; -inf where a model gives the truth no probability at all.
        kappa: > 0; the smaller, the more the model that is nearest to the truth speaks alone.

    Returns:
        [K, E], summing to 1 over K.
    """
    return torch.softmax(log_truth.clamp(min=_LEAST_LOG).double() / kappa, dim=0).float()


def mix_log_probs(log_probs: Tensor, weights: Tensor) -> Tensor:
    """Mix the upper models: log q = log sum_k w_k p_k, [K, N, V] and [K, N] -> [N, V]."""
    return (log_probs + weights.log().clamp(min=FLOOR)[..., None]).logsumexp(0)


def pair_answers(
    said: Sequence[TeacherSignal],
    weights: Tensor,
    student_logits: Tensor,
    vocabulary: int,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Bring the coupled distribution of answer tokens and the student's to the same columns.

    Where the upper models keep their k likeliest tokens, the columns are all that any of them keeps, and one
    with the mass of all others. A token that one keeps and another does not has in the other an even share of
    what that one did not keep: then q is off by at most sum_k w_k tail_k in total variation, and exact where
    all keep the same tokens.

    Args:
        said: at least one, each with logits, all with the same k.
        weights: [K, A], of the example that each answer position belongs to.
        student_logits: [A, V_student].
        vocabulary: V, tokens that all share, counted from 0.
        temperature: T, that logits are divided by.

    Returns:
        log q and log p_S, [A, V] or [A, U + 1].
    """
    scores = student_logits[:, :vocabulary].float() / temperature
    if said[0].tokens is None:
        log_probs = torch.stack([_soften(signal, temperature) for signal in said])
        return mix_log_probs(log_probs, weights), torch.log_softmax(scores, -1)
    kept, is_first = _unite([signal.tokens for signal in said if signal.tokens is not None])
    log_probs = torch.stack([_spread(signal, kept, is_first, vocabulary, temperature) for signal in said])
    return mix_log_probs(log_probs, weights), torch.log_softmax(merge_tail(scores, kept, is_first), -1)


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Which tokens of `join_tokens` each example has.

    Attributes:
        examples: [N], the example of each token.
        members: [E, n], the tokens of each example; 0 where it has fewer than another.
        present: [E, n], 1.0 where there is such a token, else 0.0.
    """

    examples: Tensor
    members: Tensor
    present: Tensor


def lay_out(answer_examples: Tensor, examples: int, cells: int) -> TokenLayout:
    """Say where the tokens of each example stand.

    Args:
        answer_examples: [A], ascending: the example that each answer position belongs to.
        examples: E.
        cells: C.

    Returns:
        The layout of N = E C + A tokens, on the same device.
    """
    device, answers = answer_examples.device, len(answer_examples)
    places = torch.arange(answers, device=device) - torch.searchsorted(answer_examples, answer_examples)
    longest = int(places.max()) + 1 if answers else 0
    owners = torch.arange(examples, device=device)
    members = torch.zeros(examples, cells + longest, dtype=torch.long, device=device)
    members[:, :cells] = torch.arange(examples * cells, device=device).view(examples, cells)
    present = torch.zeros(examples, cells + longest, device=device)
    present[:, :cells] = 1.0
    members[answer_examples, cells + places] = torch.arange(answers, device=device) + examples * cells
    present[answer_examples, cells + places] = 1.0
    return TokenLayout(torch.cat([owners.repeat_interleave(cells), answer_examples]), members, present)


def join_tokens(states: States) -> Tensor:
    """All tokens in one row, of unit norm: the cells of every example, then all answer tokens.

    Args:
        states: `image` [M, E, C, H] and `answer` [M, A, H].

    Returns:
        [M, E C + A, H], float32.
    """
    return F.normalize(torch.cat([states.image.flatten(1, 2), states.answer], 1).float(), dim=-1)


def compare_features(own: Tensor, theirs: Tensor, projections: Tensor) -> Tensor:
    """1 - cos(P h_S, h_T) for every token, mean over the matched layers.

    Args:
        own: [M, N, H_S], the student's, as `join_tokens` gives them.
        theirs: [M, N, H_T], likewise.
        projections: P of every layer, [M, H_S, H_T].

    Returns:
        [N], in [0, 2].
    """
    projected = own @ projections
    cosines = (projected * theirs).sum(-1) / projected.norm(dim=-1).clamp(min=1e-8)
    return (1.0 - cosines).mean(0)


def compare_relations(own: Tensor, theirs: Tensor, layout: TokenLayout) -> Tensor:
    """Mean squared difference of the Gram matrices of each example's token states, of unit norm.

    The tokens of an example are the cells of its picture and its answer tokens. To rotate the states of
    either model changes nothing, and their widths may differ.

    Args:
        own: [M, N, H_S], the student's, as `join_tokens` gives them.
        theirs: [M, N, H_T], likewise.
        layout: which tokens are whose.

    Returns:
        [E], mean over the matched layers; in [0, 4].
    """
    difference = _build_grams(own, layout.members) - _build_grams(theirs, layout.members)
    pairs = layout.present[:, :, None] * layout.present[:, None, :]
    return (difference.square().mean(0) * pairs).sum((-2, -1)) / pairs.sum((-2, -1))


def _build_grams(tokens: Tensor, members: Tensor) -> Tensor:
    """Cosines of all pairs of an example's tokens, [M, E, n, n]."""
    own = tokens.index_select(1, members.flatten()).unflatten(1, members.shape)
    return own @ own.transpose(-1, -2)


def _soften(signal: TeacherSignal, temperature: float) -> Tensor:
    assert signal.logits is not None
    return torch.log_softmax(signal.logits.float() / temperature, -1)


def _unite(tokens: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """All tokens that any upper model keeps [A, U], and whether each is the first of its kind in its row."""
    united = torch.cat(list(tokens), -1).sort(-1).values
    is_first = torch.ones_like(united, dtype=torch.bool)
    is_first[:, 1:] = united[:, 1:] != united[:, :-1]
    return united, is_first


def _spread(
    signal: TeacherSignal, kept: Tensor, is_first: Tensor, vocabulary: int, temperature: float
) -> Tensor:
    """Log-probabilities of an upper model on the columns `kept` and the tail: [A, U + 1].

    Without an even share a token would seem impossible to the model, and a reverse KL would have no bound.
    """
    assert signal.logits is not None and signal.tokens is not None and signal.log_sum_exp is not None
    scores = torch.cat([signal.logits.float() / temperature, signal.log_sum_exp[:, None]], -1)
    log_probs = torch.log_softmax(scores, -1)
    own, order = signal.tokens.sort(-1)
    at = torch.searchsorted(own, kept).clamp(max=own.shape[-1] - 1)
    known = own.gather(-1, at) == kept
    tail, left = log_probs[:, -1:], vocabulary - own.shape[-1]
    columns = torch.where(known, log_probs.gather(-1, order.gather(-1, at)), tail - math.log(left))
    taken = (is_first & ~known).sum(-1, keepdim=True) / left
    rest = tail + torch.log1p(-taken).clamp(min=FLOOR)
    return torch.cat([torch.where(is_first, columns, FLOOR), rest], -1)
