"""Intervals of the scores of a tally, and of what one tally gains over another."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from hkdcli.evaluation.calibration import Floats
from hkdcli.evaluation.resampling import Bootstrap, Interval, count_images, find_intervals, resample
from hkdcli.evaluation.results import Intervals
from hkdcli.evaluation.scores import read_score, score_f1, score_sums
from hkdcli.evaluation.tally import Classes, Tally, pair_tallies


def compute_scores(tally: Tally) -> dict[str, float | None]:
    """The scores of counts of a tally; None where one is undefined."""
    return {name: read_score(value) for name, value in score_sums(_sum(tally), tally.classes).items()}


def bootstrap_scores(tally: Tally, bootstrap: Bootstrap | None) -> Intervals:
    """The interval of each score of `compute_scores`; none without a bootstrap."""
    if bootstrap is None:
        return {}
    drawn = resample(tally, partial(score_sums, classes=tally.classes), bootstrap)
    return render_intervals(find_intervals(drawn, bootstrap.level, count_images(tally)))


def bootstrap_f1(tally: Tally, bootstrap: Bootstrap) -> Interval | None:
    """The interval of micro-F1 alone, of a tally that may have no columns but tp, fp and fn."""
    drawn = resample(tally, lambda sums: {"micro_f1": score_f1(sums)}, bootstrap)
    return find_intervals(drawn, bootstrap.level, count_images(tally))["micro_f1"]


def compute_gains(first: Tally, second: Tally) -> dict[str, float | None]:
    """Each score of the second minus that of the first; None where either is undefined."""
    pair = pair_tallies(first, second)
    return {name: read_score(value) for name, value in score_gains(_sum(pair), pair.classes).items()}


def resample_gains(first: Tally, second: Tally, bootstrap: Bootstrap) -> dict[str, Floats]:
    """Gains of resampled images, both systems on the same ones (paired bootstrap), [B] each.

    Args:
        first: counts of one system.
        second: those of the other, of the same records in the same order.
        bootstrap: how many resamples.

    Returns:
        Each score of the second minus that of the first; NaN where either is undefined.
    """
    pair = pair_tallies(first, second)
    return resample(pair, partial(score_gains, classes=pair.classes), bootstrap)


def score_gains(sums: Mapping[str, Floats], classes: Classes) -> dict[str, Floats]:
    """Each score of `b:` minus that of `a:`, of the summed columns of `pair_tallies`, [...] each."""
    sides = [
        score_sums({name[2:]: each for name, each in sums.items() if name.startswith(side)}, classes)
        for side in ("a:", "b:")
    ]
    return {name: sides[1][name] - sides[0][name] for name in sides[0]}


def render_intervals(intervals: Mapping[str, Interval | None]) -> Intervals:
    """As the results hold them."""
    return {name: each.to_json() if each else None for name, each in intervals.items()}


def _sum(tally: Tally) -> dict[str, Floats]:
    return {name: np.asarray(column.sum(), np.float64) for name, column in tally.columns.items()}
