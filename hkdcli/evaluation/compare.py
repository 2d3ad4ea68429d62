"""Two systems on the same records: what one gains, how sure that is, and which records changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

from hkdcli import __version__
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
from hkdcli.evaluation.join import Bools, Table
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

Floats = NDArray[np.float64]
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
    tasks = {
        task: TaskComparison(
            scores=compare_tallies(sides[0][task], sides[1][task], bootstrap),
            mcnemar=compute_mcnemar([(first[task], second[task])]),
            flips=_count_flips(_find_changes(first[task], second[task])),
            slices=_count_slices(first[task], second[task]),
        )
        for task in first
    }
    pairs = [(first[task], second[task]) for task in first]
    named = tuple(zip("ab", scored, strict=True))
    return Comparison(
        hkd_version=__version__,
        scores=compare_tallies(whole_a, whole_b, bootstrap),
        mcnemar=compute_mcnemar(pairs),
        flips=_count_flips([change for pair in pairs for change in _find_changes(*pair)]),
        tasks=tasks,
        changed=[record for pair in pairs for record in _list_changed(*pair)],
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
    """Exact two-sided McNemar test of exact match.

    Args:
        pairs: tables of both systems, task by task.

    Returns:
        The discordant records, and p; 1 where there are none.
    """
    only_a = sum(int(np.count_nonzero(a.matched & ~b.matched)) for a, b in pairs)
    only_b = sum(int(np.count_nonzero(b.matched & ~a.matched)) for a, b in pairs)
    discordant = only_a + only_b
    p_value = float(binomtest(only_a, discordant).pvalue) if discordant else 1.0
    return McNemar(only_a=only_a, only_b=only_b, p_value=min(p_value, 1.0))


def compute_p_value(differences: Floats) -> float | None:
    """Two-sided bootstrap p-value of no difference: see `Difference`; None where fewer than half are defined.

    Args:
        differences: resampled, [B]; NaN where undefined.

    Returns:
        p in [1 / (D + 1), 1] for D defined ones.
    """
    defined = keep_defined(differences)
    if not len(defined):
        return None
    tail = min(int(np.count_nonzero(defined <= 0)), int(np.count_nonzero(defined >= 0)))
    return min(1.0, max(2 * tail, 1) / (len(defined) + 1))


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


def _count_slices(first: Table, second: Table) -> dict[str, dict[str, Flips]]:
    changes = _find_changes(first, second)
    return {
        key: {value: _count_flips([changes[place] for place in places]) for value, places in groups.items()}
        for key, groups in group_records(first).items()
    }


def _list_changed(first: Table, second: Table) -> list[ChangedRecord]:
    said = [_list_answers(table) for table in (first, second)]
    changes = _find_changes(first, second)
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
