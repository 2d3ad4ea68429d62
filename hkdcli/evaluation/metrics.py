"""Scores of predictions, each with its interval and its definition beside it.

`evaluate_predictions` takes what `read_predictions` gives and the gold examples. The numbers are counted
here with numpy and compared with scikit-learn in the tests, so that the two check each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from hkdcli import __version__
from hkdcli.data.datasets import hash_record
from hkdcli.data.records import Example
from hkdcli.errors import DataError
from hkdcli.evaluation.baseline import find_best_constant
from hkdcli.evaluation.counting import Confusion, count_groups, mean_defined
from hkdcli.evaluation.intervals import bootstrap_scores, compute_scores
from hkdcli.evaluation.join import Table, build_table
from hkdcli.evaluation.judged import (
    Judged,
    build_curve,
    build_reliability,
    count_judged,
    judge_rows,
    pool,
    score_judged,
)
from hkdcli.evaluation.predictions import Prediction, check_unique, read_predictions
from hkdcli.evaluation.resampling import Bootstrap, count_images, describe_bootstrap
from hkdcli.evaluation.results import DEFINITIONS, Figures, Results, TaskResults
from hkdcli.evaluation.score_types import Scores
from hkdcli.evaluation.slices import compute_phenomena, compute_slices
from hkdcli.evaluation.tally import MAX_CLASSES, Tally, join_tallies, tally_records
from hkdcli.evaluation.warn import build_warnings, warn_intervals

NO_ANSWER = "no answer"

__all__ = ["DEFINITIONS", "Bootstrap", "Results", "evaluate_predictions", "read_predictions"]


def evaluate_predictions(
    predictions: Sequence[Prediction], examples: Sequence[Example], bootstrap: Bootstrap | None = None
) -> Results:
    """Score predictions against gold, joined by id.

    Args:
        predictions: in any order.
        examples: of either task or both; those without gold are left out and counted.
        bootstrap: how intervals are drawn; None: there are none.

    Returns:
        Scores with definitions, counts and warnings. DataError says so where no example has gold, or two
        predictions share an id.
    """
    return score_tables(join_predictions(predictions, examples), predictions, examples, bootstrap)


def join_predictions(predictions: Sequence[Prediction], examples: Sequence[Example]) -> dict[str, Table]:
    """Join predictions with the records that have gold.

    Args:
        predictions: in any order.
        examples: of either task or both.

    Returns:
        A table for each task that occurs, in order of its name.

    Raises:
        DataError: when no example has gold, or two predictions share an id.
    """
    check_unique(predictions)
    scored = [example for example in examples if example.answer is not None]
    if not scored:
        raise DataError(
            f"no gold in {len(examples)} rows",
            hint="Give records with a correct_choice; without them only hkd infer makes sense.",
        )
    by_id = {prediction.id: prediction for prediction in predictions}
    return {
        task: build_table([example for example in scored if example.task == task], by_id)
        for task in sorted({example.task for example in scored})
    }


def score_tables(
    tables: Mapping[str, Table],
    predictions: Sequence[Prediction],
    examples: Sequence[Example],
    bootstrap: Bootstrap | None = None,
) -> Results:
    """Score the tables of `join_predictions`; the other arguments are those of `evaluate_predictions`."""
    judged = {task: judge_rows(table) for task, table in tables.items()}
    tallies = {task: tally_records(table) for task, table in tables.items()}
    tasks = {
        task: _score_task(table, tallies[task], judged[task], bootstrap) for task, table in tables.items()
    }
    pooled, together = pool(list(judged.values())), join_tallies(list(tallies.values()))
    counts = _sum_counts([task.counts for task in tasks.values()])
    counts |= {"images": count_images(together), **_count_left_out(tables, predictions, examples)}
    warnings = build_warnings(counts, tables, {task: each.model_dump() for task, each in tasks.items()})
    metrics = compute_scores(together) | score_judged(pooled)
    metrics["macro_f1"] = mean_defined([task.metrics["macro_f1"] for task in tasks.values()])
    constants = Confusion.add(find_best_constant(table).confusion for table in tables.values())
    metrics["constant_micro_f1"] = constants.f1
    intervals = bootstrap_scores(together, bootstrap)
    return Results(
        hkd_version=__version__,
        metrics=cast(Scores, metrics),
        intervals=intervals,
        tasks=tasks,
        counts=counts,
        risk_coverage=build_curve(pooled),
        calibration=build_reliability(pooled),
        bootstrap=describe_bootstrap(bootstrap, together) if bootstrap else None,
        definitions=dict(DEFINITIONS),
        warnings=[*warnings, *warn_intervals(metrics, intervals)],
    )


def _score_task(table: Table, tally: Tally, judged: Judged, bootstrap: Bootstrap | None) -> TaskResults:
    constant = find_best_constant(table)
    classes = count_groups(table.gold, table.predicted, table.label, len(table.labels))
    per_class = {label: _score_confusion(found) for label, found in zip(table.labels, classes, strict=True)}
    metrics = compute_scores(tally) | score_judged(judged)
    metrics["macro_f1"] = mean_defined([scores["f1"] for scores in per_class.values()])
    metrics["constant_micro_f1"] = constant.confusion.f1
    is_hallucination = table.task == "hallucination"
    return TaskResults(
        metrics=cast(Scores, metrics),
        intervals=bootstrap_scores(tally, bootstrap),
        constant_answer=constant.name,
        per_class=per_class,
        confusion={} if is_hallucination else _build_confusion(table),
        phenomena=compute_phenomena(table) if is_hallucination else {},
        slices=compute_slices(table, tally, bootstrap),
        counts={**table.counts, "images": count_images(tally), **count_judged(judged)},
        risk_coverage=build_curve(judged),
        calibration=build_reliability(judged),
    )


def _build_confusion(table: Table) -> dict[str, dict[str, int]]:
    """Records by gold label and predicted one, or "no answer"; those of several gold labels are left out.

    Empty where there are more than `MAX_CLASSES` labels.
    """
    if len(table.labels) > MAX_CLASSES:
        return {}
    names = (*table.labels, NO_ANSWER)
    predicted = np.full(len(table.records), len(table.labels))
    predicted[table.record[table.predicted]] = table.label[table.predicted]
    owners, golds = table.record[table.gold], table.label[table.gold]
    single = np.bincount(owners, minlength=len(table.records))[owners] == 1
    counts = np.zeros((len(table.labels), len(names)), np.int64)
    np.add.at(counts, (golds[single], predicted[owners[single]]), 1)
    return {
        label: dict(zip(names, row.tolist(), strict=True))
        for label, row in zip(table.labels, counts, strict=True)
    }


def _count_left_out(
    tables: Mapping[str, Table], predictions: Sequence[Prediction], examples: Sequence[Example]
) -> dict[str, int]:
    known = {example.id for table in tables.values() for example in table.records}
    return {
        "predictions": len(predictions),
        "extra": sum(prediction.id not in known for prediction in predictions),
        "unlabelled": sum(example.answer is None for example in examples),
        "changed": sum(_is_changed(example, row) for example, row in _pair_rows(tables)),
    }


def _pair_rows(tables: Mapping[str, Table]) -> Iterator[tuple[Example, Prediction]]:
    for table in tables.values():
        for example, row in zip(table.records, table.rows, strict=True):
            if row is not None:
                yield example, row


def _is_changed(example: Example, row: Prediction) -> bool:
    """Whether a row answers what its record does not ask any more."""
    return row.record_hash is not None and row.record_hash != hash_record(example)


def _score_confusion(confusion: Confusion) -> Figures:
    return {
        "precision": confusion.precision,
        "recall": confusion.recall,
        "f1": confusion.f1,
        "support": confusion.true_positives + confusion.false_negatives,
    }


def _sum_counts(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = {name: None for task in counts for name in task}
    return {name: sum(task.get(name, 0) for task in counts) for name in names}
