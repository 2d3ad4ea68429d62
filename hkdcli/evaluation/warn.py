"""What a reader of the scores has to know before believing them, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hkdcli.evaluation import HEADLINE
from hkdcli.evaluation.join import Table
from hkdcli.evaluation.judged import ORDER_SCORES
from hkdcli.evaluation.results import MIN_IMAGES
from hkdcli.evaluation.scores import FOUND
from hkdcli.evaluation.tally import MAX_CLASSES

MAX_LISTED = 20  # a file may name a class of its own in every record


def build_warnings(
    counts: Mapping[str, int], tables: Mapping[str, Table], tasks: Mapping[str, Any]
) -> tuple[str, ...]:
    """Say what was counted as wrong or left out, and what is undefined.

    Args:
        counts: of all tasks together.
        tables: by task.
        tasks: nested dicts of scores by task.

    Returns:
        One text per matter; none where all is well.
    """
    return (
        *_warn_counts(counts),
        *_warn_partial(counts),
        *_warn_blind(tables),
        *_warn_one_class(tables),
        *_warn_undefined(tasks),
    )


def warn_intervals(metrics: Mapping[str, float | None], intervals: Mapping[str, Any]) -> list[str]:
    """Say which headline scores over all records have no interval although one was asked for.

    Args:
        metrics: scores over all records.
        intervals: theirs; empty where none were asked for.

    Returns:
        One text or none.
    """
    lost = [name for name in HEADLINE if metrics[name] is not None and intervals.get(name, 0) is None]
    few = (
        f"every image scores alike, there are fewer than {MIN_IMAGES}, most resamples leave it undefined, or"
    )
    many = f"a task has more than {MAX_CLASSES} classes (macro_f1)"
    return [f"no interval for {', '.join(lost)}: {few} {many}"] if lost else []


def _warn_counts(counts: Mapping[str, int]) -> list[str]:
    said = {
        "missing": "have no prediction and count as wrong",
        "error": "failed at prediction and count as wrong",
        "abstained": "were abstained from and count as wrong but in selective_exact_match",
        "invalid": "have a prediction that is no legal answer and count as wrong",
    }
    warnings = [
        f"{counts[name]} of {counts['records']} records {text}" for name, text in said.items() if counts[name]
    ]
    if counts["extra"]:
        warnings.append(f"{counts['extra']} predictions belong to no scored record and are left out")
    if counts["changed"]:
        warnings.append(f"{counts['changed']} predictions are of records that ask something else by now")
    if counts["unlabelled"]:
        warnings.append(f"{counts['unlabelled']} records have no gold answer and are left out")
    return warnings


def _warn_partial(counts: Mapping[str, int]) -> list[str]:
    """Flag figures that leave out rows which could have had what they need; those of no row are undefined."""
    rows = counts["records"] - counts["missing"] - counts["error"]
    said = {
        "with_confidence": "a confidence that can be judged: ece, aurc and risk_coverage are",
        "with_posterior": "a posterior: brier is",
    }
    return [
        f"{counts[name]} of {rows} rows that answer or abstain have {text} over these alone"
        for name, text in said.items()
        if 0 < counts[name] < rows
    ]


def _warn_blind(tables: Mapping[str, Table]) -> list[str]:
    """Flag scores of a control: nothing was seen."""
    blind = sum(row is not None and bool(row.blind) for table in tables.values() for row in table.rows)
    return [f"{blind} answers were given without images (hkd infer --blind)"] if blind else []


def _warn_one_class(tables: Mapping[str, Table]) -> list[str]:
    """Flag gold that a constant answer solves: its scores look better than they are."""
    return [
        f"{task}: every gold answer is of one class ({table.labels[found[0]]}); the scores say little"
        for task, table in tables.items()
        if len(found := np.unique(table.label[table.gold])) == 1
    ]


def _warn_undefined(tasks: Mapping[str, Any]) -> list[str]:
    """Name the undefined figures, without those of several orders where only one was asked for."""
    names = []
    for task, scores in tasks.items():
        unasked = set() if scores["counts"]["with_shifts"] else set(ORDER_SCORES)
        unasked |= set() if task == "hallucination" else set(FOUND)
        found = _find_undefined(task, {name: scores[name] for name in ("metrics", "per_class", "phenomena")})
        names += [name for name in found if name not in {f"{task}.metrics.{score}" for score in unasked}]
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return [f"undefined, so null: {', '.join(names[:MAX_LISTED])}{more}"] if names else []


def _find_undefined(prefix: str, value: Any) -> list[str]:
    """Dotted names of every None inside nested dicts."""
    if isinstance(value, dict):
        return [name for key, item in value.items() for name in _find_undefined(f"{prefix}.{key}", item)]
    return [prefix] if value is None else []
