"""Scores of parts of a table: by what the records' own `meta` field says about them or their choices.

Where a value of `meta` is a text, it is about the record: {"source": "coco"}. Where it is a mapping from
choice ids to texts, it is about the choices: {"phenomena": {"B": "colour", "C": "relation"}}. Everything
else in `meta` is left alone: it is the user's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hkdcli.data.records import Example
from hkdcli.evaluation.counting import Scores, count_confusion, ratio
from hkdcli.evaluation.join import Table

MAX_VALUES = 50  # a key with more values than this names records rather than groups of them


def compute_phenomena(table: Table) -> dict[str, dict[str, Scores]]:
    """How often false choices are found and true ones are suspected, per key of `meta` and value.

    Args:
        table: hallucination records.

    Returns:
        {key: {value: {found_rate, false_alarm_rate, false_choices, true_choices}}}.
    """
    places = _group_choices(table)
    return {
        key: {value: _score_phenomenon(table, np.array(rows)) for value, rows in sorted(groups.items())}
        for key, groups in sorted(places.items())
        if len(groups) <= MAX_VALUES
    }


def compute_slices(table: Table) -> dict[str, dict[str, Scores]]:
    """micro_f1 and exact_match of the records that share a value of `meta`.

    Args:
        table: records of one task.

    Returns:
        {key: {value: {micro_f1, exact_match, records}}}.
    """
    members: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, example in enumerate(table.records):
        for key, value in _read_meta(example).items():
            if isinstance(value, str):
                members[str(key)][value].append(index)
    return {
        key: {value: _score_slice(table, np.array(records)) for value, records in sorted(groups.items())}
        for key, groups in sorted(members.items())
        if len(groups) <= MAX_VALUES
    }


def _group_choices(table: Table) -> dict[str, dict[str, list[int]]]:
    """Rows of the table by key and value of the choices' tags."""
    places: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    start = 0
    for example in table.records:
        for key, tags in _read_meta(example).items():
            if isinstance(tags, Mapping):
                for offset, value in _tagged_choices(example, tags):
                    places[str(key)][value].append(start + offset)
        start += len(example.choices)
    return places


def _tagged_choices(example: Example, tags: Mapping[Any, Any]) -> Iterator[tuple[int, str]]:
    """Position and tag of each tagged choice but "No hallucination"."""
    for offset, choice in enumerate(example.choices):
        value = tags.get(choice.id)
        if isinstance(value, str) and choice.id != example.none_id:
            yield offset, value


def _read_meta(example: Example) -> Mapping[Any, Any]:
    meta = example.extra.get("meta")
    return meta if isinstance(meta, Mapping) else {}


def _score_phenomenon(table: Table, rows: np.ndarray[Any, Any]) -> Scores:
    gold, predicted = table.gold[rows], table.predicted[rows]
    false_choices, true_choices = int(np.count_nonzero(gold)), int(np.count_nonzero(~gold))
    return {
        "found_rate": ratio(int(np.count_nonzero(gold & predicted)), false_choices),
        "false_alarm_rate": ratio(int(np.count_nonzero(~gold & predicted)), true_choices),
        "false_choices": false_choices,
        "true_choices": true_choices,
    }


def _score_slice(table: Table, records: np.ndarray[Any, Any]) -> Scores:
    among = np.isin(table.record, records)
    return {
        "micro_f1": count_confusion(table, among).f1,
        "exact_match": ratio(int(np.count_nonzero(table.matched[records])), len(records)),
        "records": len(records),
    }
