"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hkdcli.outcome import Table

if TYPE_CHECKING:
    from hkdcli.inference.calibration_file import Fit


def render_figure(value: object) -> str:
    """A figure as a cell: three digits, whole numbers and texts as they are, - where there is none."""
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def tabulate(title: str, values: Mapping[str, Any]) -> Table:
    """One row a figure."""
    return Table(title, ("figure", "value"), [(name, render_figure(value)) for name, value in values.items()])


def tabulate_fit(fit: Fit) -> list[Table]:
    """What was fitted for each task, one column a task; and letter priors, one row for each."""
    compared = [f"{name}_{when}" for name in ("nll", "ece", "exact_match") for when in ("before", "after")]
    names = ("decoding", "temperature", "threshold", *compared)
    rows = [[name, *(render_figure(getattr(task, name)) for task in fit.tasks.values())] for name in names]
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
    return Table("Levels", names, [[render_figure(level.get(name)) for name in names] for level in scores])


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


def tabulate_checks(checks: Sequence[Mapping[str, Any]]) -> Table:
    """One row a check, and below it what to do."""
    rows: list[list[str]] = []
    for check in checks:
        rows.append([check["status"], check["name"], check["found"]])
        rows += [["", "", f"-> {check['hint']}"]] if check["hint"] else []
    return Table("Checks", ("status", "check", "found"), rows, is_text=True)
