"""The equations of the method once more, in float64 and with probabilities, as they are written on paper.

Nothing here is fast, and nothing is shared with `distill.losses` or `distill.ternary`: what those compute in
log space, by masks and by gathers, is spelt out row by row. Two programs are rarely wrong in the same way.

Dimension letters are those of `losses` and `ternary`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def soften(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Softmax: exp(z / T) / sum exp(z / T), [..., V]; of moderate logits: nothing guards against overflow."""
    powers = (logits.double() / temperature).exp()
    return powers / powers.sum(-1, keepdim=True)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) = sum_v p_v log(p_v / q_v), [..., V] -> [...]."""
    return (p * (p / q).log()).sum(-1)


def diverge(name: str, p: Tensor, q: Tensor, beta: float | None = None) -> Tensor:
    """D(p, q) of the teacher's p and the student's q, [..., V] -> [...].

    Args:
        name: forward_kl, reverse_kl, jsd or skew_kl.
        p: [..., V].
        q: [..., V].
        beta: share of p in the mixture m of jsd (its ends are the two KLs) and skew_kl.

    Returns:
        [...].
    """
    if name == "forward_kl" or (name == "jsd" and beta == 0):
        return kl(p, q)
    if name == "reverse_kl" or (name == "jsd" and beta == 1):
        return kl(q, p)
    share = 0.0 if beta is None else beta
    mixture = share * p + (1 - share) * q
    return kl(p, mixture) if name == "skew_kl" else share * kl(p, mixture) + (1 - share) * kl(q, mixture)


def keep_columns(teacher: Tensor, student: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The teacher's k likeliest columns of two distributions, and the rest as one: [N, V] -> [N, k + 1]."""
    rows = []
    for p, q in zip(teacher, student, strict=True):
        order = p.argsort(descending=True)
        kept, rest = order[:top_k], order[top_k:]
        rows.append([torch.cat([each[kept], each[rest].sum()[None]]) for each in (p, q)])
    return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])


def compute_likelihood_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """-log q(target), [N, V] and [N] -> [N]."""
    return -torch.stack([row[target].log() for row, target in zip(soften(logits), targets, strict=True)])


def couple(log_truth: Tensor, kappa: float) -> Tensor:
    """w_k = p_k(y|x)^(1/kappa) / sum_j p_j(y|x)^(1/kappa), [K, E]."""
    powers = log_truth.double().exp() ** (1 / kappa)
    return powers / powers.sum(0)


def compute_feature_loss(own: Tensor, theirs: Tensor, projections: Tensor) -> Tensor:
    """1 - cos(P h_S, h_T) per token, mean over layers: [M, N, H_S], [M, N, H_T], [M, H_S, H_T] -> [N]."""
    losses = []
    for h_s, h_t, matrix in zip(own.double(), theirs.double(), projections.double(), strict=True):
        mapped = torch.einsum("nh,hk->nk", h_s, matrix)
        dots = (mapped * h_t).sum(1)
        losses.append(1 - dots / (mapped.square().sum(1).sqrt() * h_t.square().sum(1).sqrt()))
    return torch.stack(losses).mean(0)


def compute_relation_loss(own: Tensor, theirs: Tensor, owners: Tensor) -> Tensor:
    """Mean squared difference of two Gram matrices of unit-norm tokens, per example, mean over layers.

    Args:
        own: the student's states, [M, N, H_S].
        theirs: the upper model's, [M, N, H_T].
        owners: [N], which example each token belongs to.

    Returns:
        [E].
    """
    losses = []
    for example in range(int(owners.max()) + 1):
        mine = owners == example
        grams = [_build_gram(states.double()[:, mine]) for states in (own, theirs)]
        losses.append((grams[0] - grams[1]).square().mean((1, 2)).mean())
    return torch.stack(losses)


def _build_gram(states: Tensor) -> Tensor:
    lengths = states.square().sum(-1, keepdim=True).sqrt()
    unit = states / lengths
    return torch.einsum("mih,mjh->mij", unit, unit)
