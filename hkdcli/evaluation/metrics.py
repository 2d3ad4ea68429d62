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
from hkdcli.evaluation.counting import Confusion, count_confusion, mean_defined, ratio
from hkdcli.evaluation.definitions import DEFINITIONS
from hkdcli.evaluation.join import Table, build_table
from hkdcli.evaluation.predictions import Prediction, check_unique, read_predictions
from hkdcli.evaluation.slices import compute_phenomena, compute_slices

__all__ = ["DEFINITIONS", "Metrics", "TaskMetrics", "evaluate_predictions", "read_predictions"]

Scores = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """The scores of one task; None is an undefined value."""

    metrics: Scores
    constant_answer: str
    per_class: dict[str, Scores]
    phenomena: dict[str, dict[str, Scores]]
    slices: dict[str, dict[str, Scores]]
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The scores of a file of predictions: over all records, and per task; None is an undefined value."""

    metrics: Scores
    tasks: dict[str, TaskMetrics]
    counts: dict[str, int]
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
    tasks = {task: _score_task(task, table) for task, table in tables.items()}
    known = {example.id for example in scored}
    extra = sum(prediction.id not in known for prediction in predictions)
    counts = _sum_counts([task.counts for task in tasks.values()])
    counts |= {"predictions": len(predictions), "extra": extra, "unlabelled": len(examples) - len(scored)}
    metrics = _score_all(tables, tasks)
    warnings = [*_warn_counts(counts), *_warn_one_class(tables), *_warn_undefined(tasks)]
    return Metrics(metrics, tasks, counts, DEFINITIONS, tuple(warnings))


def _score_task(task: str, table: Table) -> TaskMetrics:
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
    metrics["constant_micro_f1"] = constant.confusion.f1
    return TaskMetrics(
        metrics=metrics,
        constant_answer=constant.name,
        per_class=per_class,
        phenomena=compute_phenomena(table) if task == "hallucination" else {},
        slices=compute_slices(table),
        counts=dict(table.counts),
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
    """Share of records without a single wrong decision.

    A gold answer is never empty, so the empty set of a missing prediction never matches.
    """
    wrong = sum(len(np.unique(table.record[table.gold != table.predicted])) for table in tables)
    records = sum(len(table.records) for table in tables)
    return ratio(records - wrong, records)


def _sum_counts(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = {name: None for task in counts for name in task}
    return {name: sum(task.get(name, 0) for task in counts) for name in names}


def _warn_counts(counts: Mapping[str, int]) -> list[str]:
    said = {
        "missing": "have no prediction and count as wrong",
        "error": "failed at prediction and count as wrong",
        "invalid": "have a prediction that is no legal answer and count as wrong",
    }
    warnings = [
        f"{counts[name]} of {counts['records']} records {text}" for name, text in said.items() if counts[name]
    ]
    if counts["extra"]:
        warnings.append(f"{counts['extra']} predictions belong to no scored record and are left out")
    if counts["unlabelled"]:
        warnings.append(f"{counts['unlabelled']} records have no gold answer and are left out")
    return warnings


def _warn_one_class(tables: Mapping[str, Table]) -> list[str]:
    """Flag gold that a constant answer solves: its scores look better than they are."""
    return [
        f"{task}: every gold answer is of one class ({labels[0]}); the scores say little"
        for task, table in tables.items()
        if len(labels := np.unique(table.labels[table.gold])) == 1
    ]


def _warn_undefined(tasks: Mapping[str, TaskMetrics]) -> list[str]:
    names = [name for task, scores in tasks.items() for name in _find_undefined(task, asdict(scores))]
    return [f"undefined, so null: {', '.join(names)}"] if names else []


def _find_undefined(prefix: str, value: Any) -> list[str]:
    """Dotted names of every None inside nested dicts."""
    if isinstance(value, dict):
        return [name for key, item in value.items() for name in _find_undefined(f"{prefix}.{key}", item)]
    return [prefix] if value is None else []
