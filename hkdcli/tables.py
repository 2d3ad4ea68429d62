"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hkdcli.outcome import Table

if TYPE_CHECKING:
    from hkdcli.evaluation.metrics import Results
    from hkdcli.inference.calibration_file import Fit


COVERAGES = (0.25, 0.5, 0.75, 0.9, 1.0)  # rows of the table; results.json has all


def tabulate(title: str, values: Mapping[str, Any]) -> Table:
    """One row a figure."""
    return Table(title, ("figure", "value"), [(name, _render(value)) for name, value in values.items()])


def tabulate_metrics(metrics: Results) -> list[Table]:
    """The scores of all tasks side by side, then each class, then what was counted."""
    scores = {"all": metrics.metrics, **{name: task.metrics for name, task in metrics.tasks.items()}}
    names = list(dict.fromkeys(name for values in scores.values() for name in values))
    rows = [[name, *(_render(values.get(name)) for values in scores.values())] for name in names]
    classes = [
        [task, label, *(_render(values.get(name)) for name in ("precision", "recall", "f1", "support"))]
        for task, found in metrics.tasks.items()
        for label, values in found.per_class.items()
    ]
    return [
        Table("Scores", ("metric", *scores), rows),
        Table("Per class", ("task", "class", "precision", "recall", "f1", "support"), classes),
        *_tabulate_risk(metrics),
        tabulate("Counts", metrics.counts),
    ]


def _tabulate_risk(metrics: Results) -> list[Table]:
    """How many of the most confident answers are wrong, at some coverages; nothing without confidences."""
    curves = {"all": metrics.risk_coverage, **{name: t.risk_coverage for name, t in metrics.tasks.items()}}
    shown = {name: {p["coverage"]: p["risk"] for p in curve} for name, curve in curves.items() if curve}
    rows = [
        [f"{coverage:.2f}", *(_render(risks.get(coverage)) for risks in shown.values())]
        for coverage in COVERAGES
    ]
    return [Table("Risk among the most confident", ("coverage", *shown), rows)] if shown else []


def tabulate_fit(fit: Fit) -> list[Table]:
    """What was fitted for each task, one column a task; and letter priors, one row for each."""
    compared = [f"{name}_{when}" for name in ("nll", "ece", "exact_match") for when in ("before", "after")]
    names = ("decoding", "temperature", "threshold", *compared)
    rows = [[name, *(_render(getattr(task, name)) for task in fit.tasks.values())] for name in names]
    for half in ("fit_half", "test_half"):
        rows.append([half, *(str(len(getattr(task, half).correct)) for task in fit.tasks.values())])
    priors = [
        [task, str(count), " ".join(f"{log:+.2f}" for log in logs)]
        for task, found in fit.letter_prior.items()
        for count, logs in found.items()
    ]
    tables = [Table("Calibration", ("figure", *fit.tasks), rows)] if fit.tasks else []
    return tables + ([Table("Letter prior", ("task", "choices", "log prior"), priors)] if priors else [])


def tabulate_levels(scores: Sequence[Mapping[str, Any]]) -> Table:
    """One row a level, with whatever figures it has."""
    names = list(dict.fromkeys(name for level in scores for name in level))
    return Table("Levels", names, [[_render(level.get(name)) for name in names] for level in scores])


def _render(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def tabulate_variants(counts: Mapping[str, Any]) -> list[Table]:
    """How often each operation was applied and refused, and the classes before and after."""
    rows = [
        [name, str(each["applied"]), str(each["refused"]), next(iter(each["reasons"]), "-")]
        for name, each in counts["operations"].items()
    ]
    classes = [
        [task, name, str(counts["classes_before"].get(task, {}).get(name, 0)), str(after)]
        for task, found in counts["classes_after"].items()
        for name, after in found.items()
    ]
    return [
        Table("Operations", ("operation", "applied", "refused", "commonest reason"), rows),
        Table("Classes", ("task", "class", "before", "after"), classes),
    ]
