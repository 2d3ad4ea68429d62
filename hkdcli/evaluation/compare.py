"""Two systems on the same records: what one gains, how sure that is, and which records changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import binom, norm

from hkdcli import __version__
from hkdcli.evaluation.calibration import Floats
from hkdcli.evaluation.comparison import (
    DEFINITIONS,
    Change,
    ChangedRecord,
    Comparison,
    Difference,
    Flips,
    McNemar,
    TaskComparison,
)
from hkdcli.evaluation.intervals import compute_gains, compute_scores, resample_gains
from hkdcli.evaluation.join import Bools, Ints, Table
from hkdcli.evaluation.resampling import (
    Bootstrap,
    Interval,
    count_images,
    describe_bootstrap,
    find_intervals,
    keep_defined,
)
from hkdcli.evaluation.results import Results
from hkdcli.evaluation.slices import group_records
from hkdcli.evaluation.tally import Tally, join_tallies, tally_records

SIGNIFICANCE, POWER = 0.05, 0.8

Tables = Mapping[str, Table]


def compare_tables(
    first: Tables, second: Tables, scored: tuple[Results, Results], bootstrap: Bootstrap
) -> Comparison:
    """Compare two systems.

    Args:
        first: what `join_predictions` made of one system's predictions, a.
        second: the same of the other's, b, on the same examples.
        scored: results of both, for their counts and warnings.
        bootstrap: how intervals are drawn.

    Returns:
        Scores of both with differences, tests, and every record that is not answered alike.
    """
    sides = [{task: tally_records(table) for task, table in each.items()} for each in (first, second)]
    whole_a, whole_b = (join_tallies(list(side.values())) for side in sides)
    changes = {task: _find_changes(first[task], second[task]) for task in first}
    tasks = {
        task: TaskComparison(
            scores=compare_tallies(sides[0][task], sides[1][task], bootstrap),
            mcnemar=compute_mcnemar([(first[task], second[task])]),
            flips=_count_flips(changes[task]),
            slices=_count_slices(first[task], changes[task]),
        )
        for task in first
    }
    pairs = [(first[task], second[task]) for task in first]
    named = tuple(zip("ab", scored, strict=True))
    return Comparison(
        hkd_version=__version__,
        scores=compare_tallies(whole_a, whole_b, bootstrap),
        mcnemar=compute_mcnemar(pairs),
        flips=_count_flips([change for each in changes.values() for change in each]),
        tasks=tasks,
        changed=[each for task in first for each in _list_changed(first[task], second[task], changes[task])],
        counts={"a": scored[0].counts, "b": scored[1].counts},
        bootstrap=describe_bootstrap(bootstrap, whole_a),
        definitions=dict(DEFINITIONS),
        warnings=[f"{name}: {text}" for name, each in named for text in each.warnings],
    )


def compare_tallies(first: Tally, second: Tally, bootstrap: Bootstrap) -> dict[str, Difference]:
    """Compare every score of counts of two tallies of the same records, but what neither of them has."""
    sides = compute_scores(first), compute_scores(second)
    gains, drawn = compute_gains(first, second), resample_gains(first, second, bootstrap)
    intervals = find_intervals(drawn, bootstrap.level, count_images(first))
    return {
        name: _describe(sides[0][name], sides[1][name], gains[name], drawn[name], intervals[name])
        for name in gains
        if sides[0][name] is not None or sides[1][name] is not None
    }


def compute_mcnemar(pairs: Sequence[tuple[Table, Table]]) -> McNemar:
    """McNemar's exact test of exact match, over images.

    Args:
        pairs: tables of both systems, task by task.

    Returns:
        The discordant records, and p; 1 where there are none.
    """
    only_a = only_b = 0
    gains: Counter[str] = Counter()
    for a, b in pairs:
        gained = b.matched.astype(np.int64) - a.matched
        only_a += int(np.count_nonzero(gained < 0))
        only_b += int(np.count_nonzero(gained > 0))
        for example, gain in zip(a.records, gained.tolist(), strict=True):
            gains[example.image] += gain
    p_value = compute_flip_p_value(np.array(list(gains.values()), np.int64))
    return McNemar(only_a=only_a, only_b=only_b, p_value=p_value)


def compute_flip_p_value(gains: Ints) -> float:
    """Two-sided exact p-value of gains whose signs are by chance: see `McNemar`.

    Args:
        gains: records that b gains over a, by image.

    Returns:
        p in [0, 1]; 1 where all gains are 0.
    """
    gained = np.ones(1)  # chances that the gains that are kept positive add up to 0, 1, ...
    for size, count in zip(*np.unique(np.abs(gains[gains != 0]), return_counts=True), strict=True):
        kept = np.zeros(size * count + 1)
        kept[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        gained = np.convolve(gained, kept)
    total = len(gained) - 1
    is_as_far = np.abs(2 * np.arange(total + 1) - total) >= abs(int(gains.sum()))
    return min(1.0, float(gained[is_as_far].sum()))


def compute_p_value(differences: Floats) -> float | None:
    """Two-sided bootstrap p-value of no difference: see `Difference`; None where fewer than half are defined.

    Args:
        differences: resampled, [B]; NaN where undefined.

    Returns:
        p in [2 / (D + 1), 1] for D defined ones.
    """
    defined = keep_defined(differences)
    if not len(defined):
        return None
    tail = min(int(np.count_nonzero(defined <= 0)), int(np.count_nonzero(defined >= 0)))
    return min(1.0, 2 * (tail + 1) / (len(defined) + 1))


def compute_smallest_detectable(differences: Floats) -> float | None:
    """The difference that is found at `SIGNIFICANCE` with probability `POWER`.

    Args:
        differences: resampled, [B]; NaN where undefined.

    Returns:
        (z(1 - significance / 2) + z(power)) standard deviations; None where nothing varies, or fewer than
        half are defined.
    """
    defined = keep_defined(differences)
    if not len(defined) or not np.ptp(defined) > 0:
        return None
    return float((norm.ppf(1 - SIGNIFICANCE / 2) + norm.ppf(POWER)) * defined.std())


def _describe(
    a: float | None, b: float | None, gain: float | None, drawn: Floats, interval: Interval | None
) -> Difference:
    return Difference(
        a=a,
        b=b,
        difference=gain,
        interval=interval.to_json() if interval else None,
        p_value=compute_p_value(drawn),
        smallest_detectable=compute_smallest_detectable(drawn),
    )


def _find_changes(first: Table, second: Table) -> list[Change | None]:
    """What became of each record: R of them; None where both answer alike."""
    differs = _find_different(first, second)
    return [
        None if not is_other else "fixed" if b > a else "broken" if a > b else "other"
        for is_other, a, b in zip(differs, first.matched.tolist(), second.matched.tolist(), strict=True)
    ]


def _find_different(first: Table, second: Table) -> list[bool]:
    """Whether the scored answers of a record are different sets, R of them."""
    differs: Bools = np.zeros(len(first.records), np.bool_)
    differs[first.record[first.predicted != second.predicted]] = True
    return differs.tolist()


def _count_flips(changes: Sequence[Change | None]) -> Flips:
    counts = Counter(changes)
    return Flips(records=len(changes), fixed=counts["fixed"], broken=counts["broken"], other=counts["other"])


def _count_slices(table: Table, changes: Sequence[Change | None]) -> dict[str, dict[str, Flips]]:
    return {
        key: {value: _count_flips([changes[place] for place in places]) for value, places in groups.items()}
        for key, groups in group_records(table).items()
    }


def _list_changed(first: Table, second: Table, changes: Sequence[Change | None]) -> list[ChangedRecord]:
    said = [_list_answers(table) for table in (first, second)]
    return [
        ChangedRecord(
            id=example.id,
            task=example.task,
            image=example.image,
            change=change,
            gold=sorted(example.answer or ()),
            a=said[0].get(place),
            b=said[1].get(place),
        )
        for place, (example, change) in enumerate(zip(first.records, changes, strict=True))
        if change is not None
    ]


def _list_answers(table: Table) -> dict[int, list[str]]:
    """The legal answers by record."""
    answers: dict[int, list[str]] = defaultdict(list)
    for decision in np.flatnonzero(table.predicted).tolist():
        answers[int(table.record[decision])].append(table.letters[table.letter[decision]])
    return {place: sorted(letters) for place, letters in answers.items()}
