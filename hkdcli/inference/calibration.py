"""Calibration of a task on labelled records: a temperature, a decoding, and how far to trust a confidence.

The labelled records are split into two halves by a hash of their ids. All that is fitted is fitted on the fit
half; the test half has had no part in it, so what is counted there holds for new records of the same kind.

Dimensions: R records, N the most answers of a record, K thresholds.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from hkdcli.data.records import Task
from hkdcli.errors import DataError
from hkdcli.evaluation.calibration import compute_calibration_error
from hkdcli.inference.decode import (
    Answer,
    Array,
    Decoding,
    Posterior,
    decode,
    decode_map,
    decode_thresholds,
    temper,
)
from hkdcli.inference.task_fit import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    Half,
    TaskFit,
    round_confidence,
)

MIN_RECORDS = 10
PROBABILITY_FLOOR = 1e-12
"""Probability of a gold answer that a posterior gives none: impossible, or missing in a beam."""
MAX_THRESHOLDS = 200
FOLDS = 5
RESAMPLES = 1000


class Labelled(NamedTuple):
    """One record with its gold answer, as its model answers it: `posterior` is not tempered."""

    id: str
    posterior: Posterior
    gold: Answer
    none_id: str | None


def fit_task(task: Task, items: Sequence[Labelled], *, decoding: Decoding | None = None) -> TaskFit:
    """Fit temperature and decoding of one task on one half of its labelled records, and judge the other.

    Args:
        task: whose records these are.
        items: labelled records with different ids, in any order.
        decoding: how to decode; None: "map", or for hallucination "threshold" where its micro-F1 over the
            folds of the fit half is above that of "map" and hardly by chance.

    Returns:
        The fit; it does not depend on the order of the records.

    Raises:
        DataError: fewer than `MIN_RECORDS` records.
    """
    if len(items) < MIN_RECORDS:
        raise DataError(
            f"{task}: {len(items)} labelled records are too few to calibrate on",
            hint=f"give at least {MIN_RECORDS} with a gold answer; some hundred make it reliable",
        )
    fit_ids, _ = split_ids(item.id for item in items)
    ordered = sorted(items, key=lambda item: item.id)
    fit = [item for item in ordered if item.id in fit_ids]
    test = [item for item in ordered if item.id not in fit_ids]
    temperature = fit_temperature([item.posterior for item in fit], [item.gold for item in fit])
    chosen, threshold = _choose_decoding(task, _temper_all(fit, temperature), decoding)
    plain = "map" if chosen == "threshold" else chosen
    test_half = judge(test, temperature, chosen, threshold)
    return TaskFit(
        temperature=temperature,
        decoding=chosen,
        threshold=threshold,
        nll_before=_compute_item_nll(test, 1.0),
        nll_after=_compute_item_nll(test, temperature),
        ece_before=_compute_ece(judge(test, 1.0, plain)),
        ece_after=_compute_ece(test_half),
        fit_half=judge(fit, temperature, chosen, threshold),
        test_half=test_half,
    )


def split_ids(ids: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The ids of the fit half and of the test half: the lower and the upper half by a hash of the id.

    The halves do not depend on the order of the ids; the odd one is the test half's.
    """
    ordered = sorted(set(ids), key=_hash_id)
    middle = len(ordered) // 2
    return frozenset(ordered[:middle]), frozenset(ordered[middle:])


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


def judge(
    items: Sequence[Labelled], temperature: float, decoding: Decoding, threshold: float | None = None
) -> Half:
    """Decode labelled records, at least one, and say how sure each answer is and whether it is right."""
    pairs = []
    for item in items:
        posterior = temper(item.posterior, temperature)
        answer = decode(posterior, decoding, none_id=item.none_id, threshold=threshold)
        pairs.append((round_confidence(posterior.get_probability(answer)), answer == item.gold))
    confidence, correct = zip(*sorted(pairs, reverse=True), strict=True)
    return Half(confidence=confidence, correct=correct)


def _choose_decoding(
    task: Task, items: Sequence[Labelled], wanted: Decoding | None
) -> tuple[Decoding, float | None]:
    """Decoding and threshold for tempered records.

    A threshold always gains on the records that it was fitted to, so each fold is decoded by what the others
    would have chosen; and on few records it gains by chance, so most resamples of the records must agree.
    """
    if wanted in ("map", "expected-f1") or (wanted is None and task == "factuality"):
        return wanted or "map", None
    if wanted is None and not _is_gain(*_decode_folds(items), [item.gold for item in items]):
        return "map", None
    return "threshold", _fit_items(items)


def _decode_folds(items: Sequence[Labelled]) -> tuple[list[Answer], list[Answer]]:
    """Answers by a threshold that each record had no part in, and by map."""
    rules = [
        _fit_items([item for place, item in enumerate(items) if place % FOLDS != f]) for f in range(FOLDS)
    ]
    by_threshold = [
        decode(item.posterior, "threshold", none_id=item.none_id, threshold=rules[place % FOLDS])
        for place, item in enumerate(items)
    ]
    return by_threshold, [decode_map(item.posterior) for item in items]


def _is_gain(ours: Sequence[Answer], theirs: Sequence[Answer], golds: Sequence[Answer]) -> bool:
    """Whether `ours` has the better micro-F1 in 95 % of bootstrap resamples of the records."""
    counts = np.array(
        [
            (len(our & gold), len(our) + len(gold), len(their & gold), len(their) + len(gold))
            for our, their, gold in zip(ours, theirs, golds, strict=True)
        ]
    )
    drawn = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    sums = counts[drawn].sum(axis=1)
    return bool(np.mean(sums[:, 0] / sums[:, 1] > sums[:, 2] / sums[:, 3]) >= 0.95)


def _fit_items(items: Sequence[Labelled]) -> float:
    return fit_threshold(
        [item.posterior for item in items], [item.gold for item in items], [item.none_id for item in items]
    )


def _compute_ece(half: Half) -> float:
    """The calibration error of `hkd evaluate`; a half is never empty."""
    return compute_calibration_error(np.array(half.confidence), np.array(half.correct, dtype=np.bool_)) or 0.0


def _temper_all(items: Sequence[Labelled], temperature: float) -> list[Labelled]:
    return [item._replace(posterior=temper(item.posterior, temperature)) for item in items]


def _compute_item_nll(items: Sequence[Labelled], temperature: float) -> float:
    logs, gold = _stack([item.posterior for item in items], [item.gold for item in items])
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


def _hash_id(record_id: str) -> bytes:
    # Salted: a split of the data that was itself made by a hash of ids must not decide the halves.
    return hashlib.sha256(b"calibration:" + record_id.encode("utf-8", "surrogatepass")).digest()
