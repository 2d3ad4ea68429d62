"""Scores of parts of a table: by what the records' own `meta` field says about them or their choices.

Where a value of `meta` is a text, it is about the record: {"source": "coco"}. Where it is a mapping from
choice ids to texts, it is about the choices: {"phenomena": {"B": "colour", "C": "relation"}}. Everything
else in `meta` is left alone: it is the user's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from hkdcli.evaluation.counting import Confusion, count_decisions, ratio
from hkdcli.evaluation.intervals import bootstrap_f1
from hkdcli.evaluation.join import Ints, Table
from hkdcli.evaluation.resampling import Bootstrap, count_images
from hkdcli.evaluation.results import Figures, SliceScores
from hkdcli.evaluation.tally import Tally

_COLUMNS = ("tp", "fp", "fn", "matched")
MAX_VALUES = 50  # a key with more values than this names records rather than groups of them
_FEW_VALUES = 10  # one with so few never does, however few records there are


def compute_phenomena(table: Table) -> dict[str, dict[str, Figures]]:
    """How often false choices are found and true ones are suspected, per key of `meta` and value.

    Args:
        table: hallucination records.

    Returns:
        {key: {value: {found_rate, false_alarm_rate, precision, f1, false_choices, true_choices}}}.
    """
    places = _group_choices(table)
    return {
        key: {value: _score_phenomenon(table, np.array(rows)) for value, rows in sorted(groups.items())}
        for key, groups in sorted(places.items())
        if len(groups) <= MAX_VALUES
    }


def compute_slices(
    table: Table, tally: Tally, bootstrap: Bootstrap | None = None
) -> dict[str, dict[str, SliceScores]]:
    """micro_f1, with its interval, and exact_match of the records that share a value of `meta`.

    Args:
        table: records of one task.
        tally: of the same records.
        bootstrap: how intervals are drawn, over the images of each slice; None: there are none.

    Returns:
        {key: {value: scores}}.
    """
    return {
        key: {
            value: _score_slice(tally.select(np.array(records), _COLUMNS), bootstrap)
            for value, records in groups.items()
        }
        for key, groups in group_records(table).items()
    }


def group_records(table: Table) -> dict[str, dict[str, list[int]]]:
    """Indices of the records of a table by key of `meta` and value, sorted.

    Left out are keys that name records rather than groups of them: of more values than `MAX_VALUES`, or of
    less than two records a value.
    """
    members: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, example in enumerate(table.records):
        for key, value in example.meta.items():
            if isinstance(value, str):
                members[str(key)][value].append(index)
    return {
        key: dict(sorted(groups.items()))
        for key, groups in sorted(members.items())
        if len(groups) <= min(MAX_VALUES, max(_FEW_VALUES, sum(map(len, groups.values())) // 2))
    }


def _group_choices(table: Table) -> dict[str, dict[str, list[int]]]:
    """Rows of the table by key and value of the tags of choices other than "No hallucination"."""
    places: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    is_none, start = table.is_none.tolist(), 0
    for example in table.records:
        for key, tags in example.meta.items():
            if isinstance(tags, Mapping):
                groups = places[str(key)]
                for row, choice in enumerate(example.choices, start):
                    value = tags.get(choice.id)
                    if isinstance(value, str) and not is_none[row]:
                        groups[value].append(row)
        start += len(example.choices)
    return places


def _score_phenomenon(table: Table, rows: Ints) -> Figures:
    gold, predicted = table.gold[rows], table.predicted[rows]
    confusion = count_decisions(gold, predicted)
    true_choices = int(np.count_nonzero(~gold))
    return {
        "found_rate": confusion.recall,
        "false_alarm_rate": ratio(confusion.false_positives, true_choices),
        "precision": confusion.precision,
        "f1": confusion.f1,
        "false_choices": len(rows) - true_choices,
        "true_choices": true_choices,
    }


def _score_slice(tally: Tally, bootstrap: Bootstrap | None) -> SliceScores:
    sums = {name: int(column.sum()) for name, column in tally.columns.items()}
    interval = bootstrap_f1(tally, bootstrap) if bootstrap else None
    return {
        "micro_f1": Confusion(sums["tp"], sums["fp"], sums["fn"]).f1,
        "exact_match": ratio(sums["matched"], len(tally.images)),
        "records": len(tally.images),
        "images": count_images(tally),
        "interval": interval.to_json() if interval else None,
    }
