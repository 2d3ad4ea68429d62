"""Scores of predictions, each with its definition beside it.

`evaluate_predictions` takes what `read_predictions` gives and the gold examples. The numbers are counted
here with numpy and compared with scikit-learn in the tests, so that the two check each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hkdcli.data.records import Example
from hkdcli.errors import DataError
from hkdcli.evaluation.baseline import find_best_constant
from hkdcli.evaluation.counting import Confusion, Scores, count_confusion, mean_defined, ratio
from hkdcli.evaluation.definitions import DEFINITIONS
from hkdcli.evaluation.join import Table, build_table
from hkdcli.evaluation.judged import Judged, build_curve, count_judged, judge_rows, score_judged
from hkdcli.evaluation.predictions import Prediction, check_unique, read_predictions
from hkdcli.evaluation.selective import Curve
from hkdcli.evaluation.slices import compute_phenomena, compute_slices
from hkdcli.evaluation.warn import build_warnings

__all__ = ["DEFINITIONS", "Metrics", "TaskMetrics", "evaluate_predictions", "read_predictions"]


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """The scores of one task; None is an undefined value."""

    metrics: Scores
    constant_answer: str
    per_class: dict[str, Scores]
    phenomena: dict[str, dict[str, Scores]]
    slices: dict[str, dict[str, Scores]]
    counts: dict[str, int]
    risk_coverage: Curve


@dataclass(frozen=True, slots=True)
class Metrics:
    """The scores of a file of predictions: over all records, and per task; None is an undefined value."""

    metrics: Scores
    tasks: dict[str, TaskMetrics]
    counts: dict[str, int]
    risk_coverage: Curve
    definitions: Mapping[str, str]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and finite numbers, ready for `json.dumps(..., allow_nan=False)`."""
        document = asdict(self)
        document["warnings"] = list(self.warnings)
        return document


def evaluate_predictions(predictions: Sequence[Prediction], examples: Sequence[Example]) -> Metrics:
    """Score predictions against gold, joined by id.

    Args:
        predictions: in any order.
        examples: of either task or both; those without gold are left out and counted.

    Returns:
        Scores with definitions, counts and warnings.

    Raises:
        DataError: when no example has gold, or two predictions share an id.
    """
    check_unique(predictions)
    scored = [example for example in examples if example.answer is not None]
    if not scored:
        raise DataError(
            f"no gold in {len(examples)} rows",
            hint="evaluation needs records with a correct_choice; without them only `hkd infer` makes sense",
        )
    by_id = {prediction.id: prediction for prediction in predictions}
    tables: dict[str, Table] = {
        task: build_table([example for example in scored if example.task == task], by_id)
        for task in sorted({example.task for example in scored})
    }
    judged = {task: judge_rows(table) for task, table in tables.items()}
    tasks = {task: _score_task(task, table, judged[task]) for task, table in tables.items()}
    known = {example.id for example in scored}
    extra = sum(prediction.id not in known for prediction in predictions)
    counts = _sum_counts([task.counts for task in tasks.values()])
    counts |= {"predictions": len(predictions), "extra": extra, "unlabelled": len(examples) - len(scored)}
    pooled = [row for rows in judged.values() for row in rows]
    metrics = _score_all(tables, tasks) | score_judged(pooled, counts["records"])
    warnings = build_warnings(counts, tables, {task: asdict(scores) for task, scores in tasks.items()})
    return Metrics(metrics, tasks, counts, build_curve(pooled), DEFINITIONS, warnings)


def _score_task(task: str, table: Table, judged: Sequence[Judged]) -> TaskMetrics:
    constant = find_best_constant(table)
    per_class = {
        str(label): _score_confusion(count_confusion(table, table.labels == label))
        for label in np.unique(table.labels)
    }
    metrics = _name_micro(count_confusion(table))
    metrics["macro_f1"] = mean_defined([scores["f1"] for scores in per_class.values()])
    metrics["exact_match"] = _compute_exact_match([table])
    if task == "hallucination":
        metrics |= _score_hallucinated(table)
    metrics |= score_judged(judged, len(table.records))
    metrics["constant_micro_f1"] = constant.confusion.f1
    return TaskMetrics(
        metrics=metrics,
        constant_answer=constant.name,
        per_class=per_class,
        phenomena=compute_phenomena(table) if task == "hallucination" else {},
        slices=compute_slices(table),
        counts={**table.counts, **count_judged(judged)},
        risk_coverage=build_curve(judged),
    )


def _score_all(tables: Mapping[str, Table], tasks: Mapping[str, TaskMetrics]) -> Scores:
    """The scores over all records, whatever their task."""
    metrics = _name_micro(Confusion.add(count_confusion(table) for table in tables.values()))
    metrics["macro_f1"] = mean_defined([task.metrics["macro_f1"] for task in tasks.values()])
    metrics["exact_match"] = _compute_exact_match(list(tables.values()))
    names = ("hallucinated_precision", "hallucinated_recall", "hallucinated_f1")
    found = tasks["hallucination"].metrics if "hallucination" in tasks else dict.fromkeys(names)
    metrics |= {name: found[name] for name in names}
    constants = Confusion.add(find_best_constant(table).confusion for table in tables.values())
    metrics["constant_micro_f1"] = constants.f1
    return metrics


def _name_micro(confusion: Confusion) -> Scores:
    return {
        "micro_f1": confusion.f1,
        "micro_precision": confusion.precision,
        "micro_recall": confusion.recall,
    }


def _score_confusion(confusion: Confusion) -> Scores:
    return {
        "precision": confusion.precision,
        "recall": confusion.recall,
        "f1": confusion.f1,
        "support": confusion.true_positives + confusion.false_negatives,
    }


def _score_hallucinated(table: Table) -> Scores:
    confusion = count_confusion(table, ~table.is_none)
    return {
        "hallucinated_f1": confusion.f1,
        "hallucinated_precision": confusion.precision,
        "hallucinated_recall": confusion.recall,
    }


def _compute_exact_match(tables: Sequence[Table]) -> float | None:
    """Share of records without a single wrong decision."""
    matched = sum(int(np.count_nonzero(table.matched)) for table in tables)
    return ratio(matched, sum(len(table.records) for table in tables))


def _sum_counts(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = {name: None for task in counts for name in task}
    return {name: sum(task.get(name, 0) for task in counts) for name in names}
