"""Calibration of a task on labelled records: a temperature, a decoding, and how far to trust a confidence.

The labelled records are split into two halves by a hash of their ids. All that is fitted is fitted on the fit
half; the test half has had no part in it, so what is counted there holds for new records of the same kind.

Dimensions: R records, N the most answers of a record, K thresholds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hkdcli.data.records import Task
from hkdcli.errors import DataError
from hkdcli.evaluation.calibration import compute_calibration_error
from hkdcli.inference.decode import (
    Answer,
    Decoding,
    Posterior,
    decode,
    decode_map,
    temper,
)
from hkdcli.inference.fitting import compute_nll, fit_temperature, fit_threshold
from hkdcli.inference.task_fit import (
    Half,
    TaskFit,
    round_confidence,
)

MIN_RECORDS = 10
MIN_TO_TEMPER = 25  # records of the fit half
FOLDS = 5
RESAMPLES = 1000
SURE = 0.95  # share of the resamples in which what is fitted has to gain


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
            hint=f"Give at least {MIN_RECORDS} with a gold answer; some hundred make it reliable.",
        )
    fit_ids, _ = split_ids(item.id for item in items)
    ordered = sorted(items, key=lambda item: item.id)
    fit = [item for item in ordered if item.id in fit_ids]
    test = [item for item in ordered if item.id not in fit_ids]
    temperature = _choose_temperature(fit)
    chosen, threshold = _choose_decoding(task, _temper_all(fit, temperature), decoding)
    plain = "map" if chosen == "threshold" else chosen
    test_half, untouched = judge(test, temperature, chosen, threshold), judge(test, 1.0, plain)
    return TaskFit(
        temperature=temperature,
        decoding=chosen,
        threshold=threshold,
        nll_before=_compute_item_nll(test, 1.0),
        nll_after=_compute_item_nll(test, temperature),
        ece_before=_compute_ece(untouched),
        ece_after=_compute_ece(test_half),
        exact_match_before=float(np.mean(untouched.correct)),
        exact_match_after=float(np.mean(test_half.correct)),
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


def _choose_temperature(items: Sequence[Labelled]) -> float:
    """The fitted temperature, where records gain by one that they had no part in, hardly by chance; else 1.

    A temperature always gains on the records that it was fitted to, and on few of them it can be far off:
    where all of a handful are right, every resample gains by the lowest.
    """
    if len(items) < MIN_TO_TEMPER:
        return 1.0
    fitted = [
        _fit_temperature([item for place, item in enumerate(items) if place % FOLDS != fold])
        for fold in range(FOLDS)
    ]
    gains = np.array(
        [
            _compute_item_nll([item], 1.0) - _compute_item_nll([item], fitted[place % FOLDS])
            for place, item in enumerate(items)
        ]
    )
    wins = [gains[drawn].sum() > 0 for drawn in _draw_resamples(len(items))]
    return _fit_temperature(items) if np.mean(wins) >= SURE else 1.0


def _fit_temperature(items: Sequence[Labelled]) -> float:
    return fit_temperature([item.posterior for item in items], [item.gold for item in items])


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
    """Whether `ours` has the better micro-F1 in nearly all bootstrap resamples of the records."""
    counts = np.array(
        [
            (len(our & gold), len(our) + len(gold), len(their & gold), len(their) + len(gold))
            for our, their, gold in zip(ours, theirs, golds, strict=True)
        ]
    )
    sums = [counts[drawn].sum(axis=0) for drawn in _draw_resamples(len(counts))]
    return bool(np.mean([our * most > their * more for our, more, their, most in sums]) >= SURE)


def _draw_resamples(records: int) -> Iterator[NDArray[np.int64]]:
    """Indices of R records, drawn with replacement; the same every time."""
    random = np.random.default_rng(0)
    return (random.integers(records, size=records) for _ in range(RESAMPLES))


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
    return compute_nll([item.posterior for item in items], [item.gold for item in items], temperature)


def _hash_id(record_id: str) -> bytes:
    # Salted: a split of the data that was itself made by a hash of ids must not decide the halves.
    return hashlib.sha256(b"calibration:" + record_id.encode("utf-8", "surrogatepass")).digest()
