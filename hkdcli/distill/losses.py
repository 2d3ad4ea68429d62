"""The losses of distillation as pure functions of logits.

Dimension letters:
    N  scored positions (answer tokens of a micro-batch, or its examples)
    V  columns compared: the shared vocabulary, or the choices of an example
    A  answer positions of a micro-batch
    B  examples of a micro-batch
    n  choices of the example that has most of them

Everything is computed in float32 whatever comes in: a mixture of bfloat16 log-probabilities can make a
Jensen-Shannon divergence negative. Callers select positions first, so the upcast touches few rows.
p is always the teacher and q the student, both after division of the logits by the temperature T; every
divergence is multiplied by T^2 so that its gradient keeps its size when T changes (arXiv 1503.02531).
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

DivergenceName = Literal["forward_kl", "reverse_kl", "jsd", "skew_kl"]

_FLOOR = -1e30  # a logit whose probability is exactly 0 in float32, and whose differences stay finite


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


def forward_kl(
    teacher_logits: Tensor, student_logits: Tensor, temperature: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """T^2 * KL(p || q) = T^2 * sum_v p_v (log p_v - log q_v).

    Args:
        teacher_logits: [N, V].
        student_logits: [N, V].
        temperature: T > 0.
        mask: [N, V], True where a column takes part; None means everywhere.

    Returns:
        [N], float32, >= 0; 0 on equal logits and on rows where nothing takes part. Differing shapes and
        a temperature <= 0 are a ValueError.
    """
    log_p, log_q = _log_softmax_pair(teacher_logits, student_logits, temperature, mask)
    return _kl(log_p, log_q) * temperature**2


def reverse_kl(
    teacher_logits: Tensor, student_logits: Tensor, temperature: float = 1.0, mask: Tensor | None = None
) -> Tensor:
    """T^2 * KL(q || p): the student is drawn to one mode of the teacher.

    Args:
        teacher_logits: [N, V].
        student_logits: [N, V].
        temperature: T > 0.
        mask: [N, V], True where a column takes part; None means everywhere.

    Returns:
        [N], float32, >= 0. Differing shapes and a temperature <= 0 are a ValueError.
    """
    log_p, log_q = _log_softmax_pair(teacher_logits, student_logits, temperature, mask)
    return _kl(log_q, log_p) * temperature**2


def jsd(
    teacher_logits: Tensor,
    student_logits: Tensor,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    *,
    beta: float = 0.5,
) -> Tensor:
    """T^2 * [beta KL(p || m) + (1 - beta) KL(q || m)] with m = beta p + (1 - beta) q.

    The generalised Jensen-Shannon divergence of GKD (arXiv 2306.13649). It vanishes at both ends, where
    its direction is that of the forward and the reverse KL (JSD / beta -> KL(p || q) as beta -> 0); so,
    as there, beta = 0 and beta = 1 mean those two themselves.

    Args:
        teacher_logits: [N, V].
        student_logits: [N, V].
        temperature: T > 0.
        mask: [N, V], True where a column takes part; None means everywhere.
        beta: weight of the teacher in the mixture, in [0, 1].

    Returns:
        [N], float32, >= 0.

    Raises:
        ValueError: on differing shapes, a temperature <= 0 or a beta outside [0, 1].
    """
    if not 0.0 <= beta <= 1.0:
        raise ValueError(f"beta must lie in [0, 1], not {beta}")
    log_p, log_q = _log_softmax_pair(teacher_logits, student_logits, temperature, mask)
    if beta == 0.0:
        return _kl(log_p, log_q) * temperature**2
    if beta == 1.0:
        return _kl(log_q, log_p) * temperature**2
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return (beta * _kl(log_p, log_m) + (1.0 - beta) * _kl(log_q, log_m)) * temperature**2


def skew_kl(
    teacher_logits: Tensor,
    student_logits: Tensor,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    *,
    beta: float = 0.1,
) -> Tensor:
    """T^2 * KL(p || beta p + (1 - beta) q): a forward KL that stays finite (DistiLLM, arXiv 2402.03898).

    Args:
        teacher_logits: [N, V].
        student_logits: [N, V].
        temperature: T > 0.
        mask: [N, V], True where a column takes part; None means everywhere.
        beta: share of the teacher in the mixture, in [0, 1); 0 is the forward KL.

    Returns:
        [N], float32, >= 0.

    Raises:
        ValueError: on differing shapes, a temperature <= 0 or a beta outside [0, 1).
    """
    if not 0.0 <= beta < 1.0:
        raise ValueError(f"the beta of skew_kl must lie in [0, 1), not {beta}")
    log_p, log_q = _log_softmax_pair(teacher_logits, student_logits, temperature, mask)
    if beta == 0.0:
        return _kl(log_p, log_q) * temperature**2
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log1p(-beta))
    return _kl(log_p, log_m) * temperature**2


def compute_divergence(
    name: DivergenceName,
    teacher_logits: Tensor,
    student_logits: Tensor,
    temperature: float = 1.0,
    mask: Tensor | None = None,
    *,
    beta: float | None = None,
) -> Tensor:
    """The divergence called `name`; see the function of that name.

    Args:
        name: forward_kl, reverse_kl, jsd or skew_kl.
        teacher_logits: [N, V].
        student_logits: [N, V].
        temperature: T > 0.
        mask: [N, V], True where a column takes part; None means everywhere.
        beta: share of the teacher in the mixture of jsd and skew_kl; None with the others.

    Returns:
        [N], float32, >= 0.

    Raises:
        ValueError: on an unknown name, a beta that is missing or has no meaning, and as the function does.
    """
    if (beta is None) == (name in ("jsd", "skew_kl")):
        raise ValueError(f"{name} " + ("needs a beta" if beta is None else "has no beta"))
    if name == "forward_kl":
        return forward_kl(teacher_logits, student_logits, temperature, mask)
    if name == "reverse_kl":
        return reverse_kl(teacher_logits, student_logits, temperature, mask)
    if name == "jsd" and beta is not None:
        return jsd(teacher_logits, student_logits, temperature, mask, beta=beta)
    if name == "skew_kl" and beta is not None:
        return skew_kl(teacher_logits, student_logits, temperature, mask, beta=beta)
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


def _log_softmax_pair(
    teacher_logits: Tensor, student_logits: Tensor, temperature: float, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Check shapes and temperature; return log p and log q in float32, both [N, V]."""
    if teacher_logits.shape != student_logits.shape:
        raise ValueError(
            f"teacher logits {tuple(teacher_logits.shape)} and student logits {tuple(student_logits.shape)} "
            "differ in shape; cut both to the shared vocabulary first"
        )
    if not temperature > 0.0:
        raise ValueError(f"temperature must be > 0, not {temperature}")
    return (
        _masked_log_softmax(teacher_logits.float() / temperature, mask),
        _masked_log_softmax(student_logits.float() / temperature, mask),
    )


def _masked_log_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Log-softmax over the columns that take part, [N, V]; hugely negative, but finite, elsewhere.

    With -inf a masked column would give 0 * (inf - inf) = NaN, and NaN survives every later mask. With a
    finite floor its weight is exactly 0 and its difference is finite; and a row in which nothing takes
    part becomes uniform on both sides, so that its divergence is 0.
    """
    if mask is not None:
        scores = scores.masked_fill(~mask, _FLOOR)
    return torch.log_softmax(scores, dim=-1)


def _kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """KL(a || b) = sum_v a_v (log a_v - log b_v), [N]; rounding may leave -1e-8 for 0, hence the clamp."""
    return (log_a.exp() * (log_a - log_b)).sum(dim=-1).clamp(min=0.0)
