"""The two numbers that calibration fits to labelled records: a temperature, and a threshold on marginals.

Dimensions: R records, N the most answers of a record, K thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hkdcli.inference.decode import Answer, Array, Posterior, decode_thresholds
from hkdcli.inference.task_fit import MAX_TEMPERATURE, MIN_TEMPERATURE

PROBABILITY_FLOOR = 1e-12
"""Probability of a gold answer that a posterior gives none: impossible, or missing in a beam."""
MAX_THRESHOLDS = 200


def fit_temperature(posteriors: Sequence[Posterior], golds: Sequence[Answer]) -> float:
    """The temperature with the least mean negative log-likelihood of the gold answers.

    The loss is convex in 1 / T, so it has one minimum; it is looked for on log T, within
    [`MIN_TEMPERATURE`, `MAX_TEMPERATURE`]. A gold answer that a posterior gives no probability counts with
    `PROBABILITY_FLOOR` at every temperature, so it does not move the fit.

    Args:
        posteriors: of R records, at least one; their answers may differ in number.
        golds: one per record.

    Returns:
        The temperature; 1 where no other does better.
    """
    from scipy.optimize import minimize_scalar

    logs, gold = _stack(posteriors, golds)
    bounds = (math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE))
    found = minimize_scalar(
        lambda log_t: _compute_mean_nll(logs, gold, math.exp(log_t)),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-6},
    )
    better = found.fun < _compute_mean_nll(logs, gold, 1.0) - 1e-12
    return math.exp(found.x) if better else 1.0


def fit_threshold(
    posteriors: Sequence[Posterior], golds: Sequence[Answer], none_ids: Sequence[str | None]
) -> float:
    """The threshold on marginals that gives the highest option-level micro-F1, 2 TP / (2 TP + FP + FN).

    Candidates lie half way between marginals that occur, 0 and 1 among them: at most `MAX_THRESHOLDS`, evenly
    spread in rank. Of equals the one nearest to 0.5.

    Args:
        posteriors: of R records, at least one, tempered.
        golds: one per record.
        none_ids: of each record the id of "No hallucination", None where it has none.

    Returns:
        A threshold between 0 and 1 for `decode`.
    """
    candidates = _list_candidates(posteriors, none_ids)
    hits, sizes = np.zeros((2, len(candidates)))
    for posterior, gold, none_id in zip(posteriors, golds, none_ids, strict=True):
        chosen = decode_thresholds(posterior, candidates, none_id)
        hits += np.array([len(answer & gold) for answer in posterior.answers])[chosen]
        sizes += np.array([len(answer) + len(gold) for answer in posterior.answers])[chosen]
    micro_f1 = 2 * hits / sizes
    best = candidates[micro_f1 == micro_f1.max()]
    return float(best[np.argmin(np.abs(best - 0.5))])


def compute_nll(posteriors: Sequence[Posterior], golds: Sequence[Answer], temperature: float) -> float:
    """Mean negative log-likelihood of the gold answers at a temperature, in nats."""
    logs, gold = _stack(posteriors, golds)
    return max(_compute_mean_nll(logs, gold, temperature), 0.0)


def _compute_mean_nll(logs: Array, gold: Array, temperature: float) -> float:
    """Mean negative log-likelihood for log_probs [R, N] and those of the gold answers [R]."""
    scaled = logs / temperature
    top = scaled.max(axis=1)
    log_z = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    known = np.isfinite(gold)
    nll = np.full(len(gold), -math.log(PROBABILITY_FLOOR))
    nll[known] = log_z[known] - gold[known] / temperature
    return float(nll.mean())


def _stack(posteriors: Sequence[Posterior], golds: Sequence[Answer]) -> tuple[Array, Array]:
    """Log probabilities [R, N], -inf where a record has fewer answers, and of the gold answers [R]."""
    logs = np.full((len(posteriors), max(len(each.answers) for each in posteriors)), -np.inf)
    gold = np.full(len(posteriors), -np.inf)
    for row, (posterior, answer) in enumerate(zip(posteriors, golds, strict=True)):
        logs[row, : len(posterior.answers)] = posterior.log_probs
        if answer in posterior.answers:
            gold[row] = posterior.log_probs[posterior.answers.index(answer)]
    return logs, gold


def _list_candidates(posteriors: Sequence[Posterior], none_ids: Sequence[str | None]) -> Array:
    seen = {0.0, 1.0}
    for posterior, none_id in zip(posteriors, none_ids, strict=True):
        seen |= {round(p, 9) for name, p in posterior.marginals().items() if name != none_id}
    edges = np.array(sorted(seen))
    middles: Array = (edges[1:] + edges[:-1]) / 2
    kept = np.linspace(0, len(middles) - 1, min(len(middles), MAX_THRESHOLDS)).round().astype(np.int64)
    return middles[kept]
