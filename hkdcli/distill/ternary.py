"""What couples teacher, assistant and student in stage two, as pure functions of tensors.

Dimension letters:
    K  upper models: teacher and assistant in the ternary case
    E  examples of a micro-batch that are learned from
    A  answer positions of a micro-batch
    V  shared vocabulary
    k  columns kept of V, U <= K k those that any upper model keeps
    M  matched layers
    C  cells of the grid that a picture is pooled to
    H  width of a model

p_k is the distribution of an upper model and w_k(x) how much it is believed on example x; their coupled
distribution is q = sum_k w_k p_k.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    with the mass of all others. A token that a model does not keep is in that model's tail: then q is off by
    at most sum_k w_k tail_k in total variation, and exact where all keep the same tokens.

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
    log_probs = torch.stack([_spread(signal, kept, is_first, temperature) for signal in said])
    return mix_log_probs(log_probs, weights), torch.log_softmax(merge_tail(scores, kept, is_first), -1)


def compare_features(own: Tensor, theirs: Tensor) -> Tensor:
    """1 - cos(P h_S, h_T) for every token, mean over the matched layers.

    Args:
        own: [M, ..., H], the student's states, projected to the width of the other model.
        theirs: [M, ..., H].

    Returns:
        [...], float32, in [0, 2].
    """
    return (1.0 - F.cosine_similarity(own.float(), theirs.float(), dim=-1)).mean(0)


def compare_relations(own: States, theirs: States, examples: Tensor) -> Tensor:
    """Mean squared difference of the Gram matrices of each example's token states, of unit norm.

    The tokens of an example are the cells of its picture and its answer tokens. To rotate the states of
    either model changes nothing, and their widths may differ.

    Args:
        own: the student's, `answer` [M, A, H_S] and `image` [M, E, C, H_S].
        theirs: [M, A, H_T] and [M, E, C, H_T].
        examples: [A], the example that each answer position belongs to.

    Returns:
        [E], float32, mean over the matched layers; in [0, 4].
    """
    grams, present = zip(*(_build_gram(states, examples) for states in (own, theirs)), strict=True)
    difference = (grams[0] - grams[1]).square().sum((-2, -1)).mean(0)
    return difference / present[0].sum(-1).square()


def _build_gram(states: States, examples: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of all pairs of tokens [M, E, N, N], 0 where a token is mere padding; which are none [E, N]."""
    layers, count, cells, width = states.image.shape
    places = _count_up(examples)
    longest = int(places.max()) + 1 if len(places) else 0
    answers = states.answer.new_zeros(layers, count, longest, width)
    answers = answers.index_put(
        (torch.arange(layers, device=places.device)[:, None], examples, places), states.answer
    )
    present = torch.ones(count, cells + longest, device=places.device)
    present[:, cells:] = 0.0
    present[examples, cells + places] = 1.0
    tokens = F.normalize(torch.cat([states.image, answers], 2).float(), dim=-1)
    return tokens @ tokens.transpose(-1, -2), present


def _count_up(examples: Tensor) -> Tensor:
    """Place of each answer token within its example: [A] ascending -> [A], from 0."""
    return torch.arange(len(examples), device=examples.device) - torch.searchsorted(examples, examples)


def _soften(signal: TeacherSignal, temperature: float) -> Tensor:
    assert signal.logits is not None
    return torch.log_softmax(signal.logits.float() / temperature, -1)


def _unite(tokens: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """All tokens that any upper model keeps [A, U], and whether each is the first of its kind in its row."""
    united = torch.cat(list(tokens), -1).sort(-1).values
    is_first = torch.ones_like(united, dtype=torch.bool)
    is_first[:, 1:] = united[:, 1:] != united[:, :-1]
    return united, is_first


def _spread(signal: TeacherSignal, kept: Tensor, is_first: Tensor, temperature: float) -> Tensor:
    """Log-probabilities of an upper model on the columns `kept` and the tail: [A, U + 1]."""
    assert signal.logits is not None and signal.tokens is not None and signal.log_sum_exp is not None
    scores = torch.cat([signal.logits.float() / temperature, signal.log_sum_exp[:, None]], -1)
    log_probs = torch.log_softmax(scores, -1)
    own, order = signal.tokens.sort(-1)
    at = torch.searchsorted(own, kept).clamp(max=own.shape[-1] - 1)
    known = (own.gather(-1, at) == kept) & is_first
    columns = torch.where(known, log_probs.gather(-1, order.gather(-1, at)), FLOOR)
    return torch.cat([columns, log_probs[:, -1:]], -1)
