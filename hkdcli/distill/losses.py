"""The losses of distillation as pure functions of logits.

Dimension letters:
    N  scored positions (answer tokens of a micro-batch, or its examples)
    V  columns compared: the shared vocabulary, or the choices of an example
    k  columns kept of V: the teacher's most probable ones
    A  answer positions of a micro-batch
    B  examples of a micro-batch
    n  choices of the example that has most of them

Everything is computed in float32 whatever comes in: a mixture of bfloat16 log-probabilities can make a
Jensen-Shannon divergence negative. Callers select positions first, so the upcast touches few rows.
p is always the teacher and q the student, both after division of the logits by the temperature T.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

DivergenceName = Literal["forward_kl", "reverse_kl", "jsd", "skew_kl"]

FLOOR = -1e30  # a logit whose probability is exactly 0 in float32, and whose differences stay finite


def cut_to_shared(teacher_logits: Tensor, student_logits: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Cut both heads to the token ids that both tokenizers know, whichever head is the larger.

    Heads are padded differently within one family (152,064 against 151,936 columns), and what stands in
    the padding of one means nothing to the other.

    Args:
        teacher_logits: [N, V_teacher].
        student_logits: [N, V_student].
        vocabulary: number of shared token ids, counted from 0.

    Returns:
        Two views [N, vocabulary].

    Raises:
        ValueError: when a head has fewer columns than `vocabulary`.
    """
    smallest = min(teacher_logits.shape[-1], student_logits.shape[-1])
    if not 0 < vocabulary <= smallest:
        raise ValueError(f"a shared vocabulary of {vocabulary} does not fit heads of {smallest} columns")
    return teacher_logits[..., :vocabulary], student_logits[..., :vocabulary]


def cross_entropy(student_logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of the reference tokens: -log q(target), at temperature 1.

    The student's whole head is normalised, padding included: this is the likelihood that it is later
    scored by, so mass on padding is a fault that must cost something.

    Args:
        student_logits: [N, V].
        targets: token ids, [N].

    Returns:
        [N], float32.
    """
    return F.cross_entropy(student_logits.float(), targets, reduction="none")


def forward_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) = sum_v p_v (log p_v - log q_v): [N, V] and [N, V] -> [N], >= 0."""
    # Rounding may leave -1e-8 for 0, hence the clamp.
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1).clamp(min=0.0)


def reverse_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(q || p), which draws the student to one mode of the teacher: [N, V] and [N, V] -> [N], >= 0."""
    return forward_kl(log_q, log_p)


def jsd(log_p: Tensor, log_q: Tensor, beta: float) -> Tensor:
    """JSD_beta = beta KL(p || m) + (1 - beta) KL(q || m) with m = beta p + (1 - beta) q: bounded.

    The generalised Jensen-Shannon divergence of GKD (arXiv 2306.13649). It vanishes at both ends, where
    its direction is that of the forward and the reverse KL (JSD / beta -> KL(p || q) as beta -> 0); so,
    as there, beta = 0 and beta = 1 mean those two themselves.

    Args:
        log_p: log-probabilities of the teacher, [N, V].
        log_q: log-probabilities of the student, [N, V].
        beta: weight of the teacher in the mixture, in [0, 1].

    Returns:
        [N], >= 0.

    Raises:
        ValueError: on a beta outside [0, 1].
    """
    if not 0.0 <= beta <= 1.0:
        raise ValueError(f"beta must lie in [0, 1], not {beta}")
    if beta in (0.0, 1.0):
        return forward_kl(log_p, log_q) if beta == 0.0 else reverse_kl(log_p, log_q)
    log_m = _mix(log_p, log_q, beta)
    return beta * forward_kl(log_p, log_m) + (1.0 - beta) * forward_kl(log_q, log_m)


def skew_kl(log_p: Tensor, log_q: Tensor, beta: float) -> Tensor:
    """KL(p || beta p + (1 - beta) q): a forward KL that stays finite (DistiLLM, arXiv 2402.03898).

    Args:
        log_p: log-probabilities of the teacher, [N, V].
        log_q: log-probabilities of the student, [N, V].
        beta: share of the teacher in the mixture, in [0, 1); 0 is the forward KL.

    Returns:
        [N], >= 0.

    Raises:
        ValueError: on a beta outside [0, 1).
    """
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"the beta of skew_kl must lie in [0, 1), not {beta}")
    return forward_kl(log_p, log_q if beta == 0.0 else _mix(log_p, log_q, beta))


_PLAIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"forward_kl": forward_kl, "reverse_kl": reverse_kl}
_MIXED: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"jsd": jsd, "skew_kl": skew_kl}


def compute_divergence(
    name: DivergenceName,
    teacher_logits: Tensor,
    student_logits: Tensor,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    *,
    beta: float | None = None,
    top_k: int | None = None,
    scale_by_temperature: bool = True,
) -> Tensor:
    """T^2 * D(p, q) with p = softmax(teacher / T), q = softmax(student / T); D is the function called `name`.

    With `top_k`, D compares k + 1 columns: the teacher's k most probable ones, K, as they are, and one
    with all the remaining mass of each side,

        p~ = (p_v for v in K, sum_{v not in K} p_v)        q~ = (q_v for v in K, sum_{v not in K} q_v)

    so that a student whose mass lies outside K still pays for it. Merging columns can only lower D
    (data-processing inequality); what it no longer sees is how the mass is spread outside K.

    Args:
        name: forward_kl, reverse_kl, jsd or skew_kl.
        teacher_logits: [N, V].
        student_logits: [N, V].
        temperature: T > 0.
        mask: [N, V], True where a column takes part; None means everywhere.
        beta: share of the teacher in the mixture of jsd and skew_kl; None with the others.
        top_k: k >= 1; None, or k >= V, compares all columns.
        scale_by_temperature: whether to multiply by T^2, so that the gradient keeps its size when T
            changes (arXiv 1503.02531).

    Returns:
        [N], float32, >= 0; 0 up to rounding on equal logits and on rows where nothing takes part.

    Raises:
        ValueError: on differing shapes, an unknown name, a temperature <= 0, a top_k < 1, or a beta that
            is missing, has no meaning or lies outside the function's range.
    """
    if teacher_logits.shape != student_logits.shape:
        raise ValueError(
            f"teacher logits {tuple(teacher_logits.shape)} and student logits {tuple(student_logits.shape)} "
            "differ in shape; cut both to the shared vocabulary first"
        )
    if not temperature > 0.0:
        raise ValueError(f"temperature must be > 0, not {temperature}")
    pair = [_scale(logits, temperature, mask) for logits in (teacher_logits, student_logits)]
    if top_k is not None:
        pair = _keep_top(pair, top_k)
    log_p, log_q = (torch.log_softmax(scores, dim=-1) for scores in pair)
    rows = compare_distributions(name, log_p, log_q, beta)
    return rows * temperature**2 if scale_by_temperature else rows


def compare_distributions(
    name: DivergenceName, log_p: Tensor, log_q: Tensor, beta: float | None = None
) -> Tensor:
    """D(p, q), without any factor; D is the function called `name`.

    Args:
        name: forward_kl, reverse_kl, jsd or skew_kl.
        log_p: log-probabilities of the teacher, [N, V].
        log_q: log-probabilities of the student, [N, V].
        beta: share of the teacher in the mixture of jsd and skew_kl; None with the others.

    Returns:
        [N], >= 0.

    Raises:
        ValueError: on an unknown name, or a beta that is missing, has no meaning or lies outside its range.
    """
    if beta is None and name in _PLAIN:
        return _PLAIN[name](log_p, log_q)
    if beta is not None and name in _MIXED:
        return _MIXED[name](log_p, log_q, beta)
    if name in get_args(DivergenceName):
        raise ValueError(f"{name} " + ("needs a beta" if beta is None else "has no beta"))
    raise ValueError(f"no divergence {name!r}; there are: {', '.join(get_args(DivergenceName))}")


def choice_logits(logits: Tensor, first: Tensor, letter_ids: Tensor) -> tuple[Tensor, Tensor]:
    """The n-way decision of each example: logits of its letters at its first answer position.

    Args:
        logits: [A, V], logits at answer positions.
        first: [B], row of `logits` that predicts each example's first answer token.
        letter_ids: [B, n], token id of each choice's letter; -1 fills up examples with fewer choices.

    Returns:
        The letters' logits [B, n] (0 where filled up) and the mask [B, n] of real choices.
    """
    mask = letter_ids >= 0
    chosen = logits[first].gather(1, letter_ids.clamp(min=0))
    return chosen.masked_fill(~mask, 0.0), mask


def _scale(logits: Tensor, temperature: float, mask: Tensor | None) -> Tensor:
    """Logits / T in float32, [N, V]; hugely negative, but finite, where a column takes no part.

    With -inf a masked column would give 0 * (inf - inf) = NaN, and NaN survives every later mask. With a
    finite floor its weight is exactly 0 and its difference is finite; and a row in which nothing takes
    part becomes uniform on both sides, so that its divergence is 0.
    """
    # Dividing by 1 would only copy [N, V], forwards and backwards.
    scores = logits.float() if temperature == 1.0 else logits.float() / temperature
    return scores if mask is None else torch.where(mask, scores, FLOOR)


def merge_tail(scores: Tensor, kept: Tensor, mask: Tensor | None = None) -> Tensor:
    """Keep some columns and merge all others into one with their whole mass.

    The tail is the logsumexp of the remaining scores: 1 - sum of the kept probabilities would be mere
    rounding where a model is certain.

    Args:
        scores: logits / T, [N, V].
        kept: columns, [N, k].
        mask: [N, k], False where an entry of `kept` repeats another of its row; None: none does.

    Returns:
        [N, k + 1], the tail last; hugely negative where the mask is False.
    """
    tail = scores.scatter(-1, kept, FLOOR).logsumexp(-1, keepdim=True)
    chosen = scores.gather(-1, kept)
    return torch.cat([chosen if mask is None else torch.where(mask, chosen, FLOOR), tail], -1)


def _keep_top(pair: list[Tensor], top_k: int) -> list[Tensor]:
    """Scores of (teacher, student), [N, V] each -> [N, k + 1]: the teacher's k columns and the tail."""
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, not {top_k}")
    if top_k >= pair[0].shape[-1]:
        return pair
    kept = pair[0].topk(top_k, dim=-1).indices
    return [merge_tail(scores, kept) for scores in pair]


def _mix(log_p: Tensor, log_q: Tensor, beta: float) -> Tensor:
    """log(beta p + (1 - beta) q) for 0 < beta < 1, [N, V]."""
    return torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
