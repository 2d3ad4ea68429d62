"""From what was fitted and what is wanted to the rule by which answers of a task are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from hkdcli.errors import GateError, UsageError
from hkdcli.reporter import Reporter

if TYPE_CHECKING:
    from hkdcli.data.records import Task
    from hkdcli.inference.asking import Debias, Rule
    from hkdcli.inference.calibration_file import Fit
    from hkdcli.inference.decode import Decoding
    from hkdcli.inference.task_fit import TaskFit


class Wanted(Protocol):
    """What options say about answers; see `InferOptions`."""

    @property
    def decoding(self) -> Decoding | None:
        """None is what calibration chose, or map."""

    @property
    def debias(self) -> Debias:
        """Whether a letter prior is divided out."""

    @property
    def abstain_below(self) -> float | None:
        """The least confidence of an answer that is given."""

    @property
    def target_precision(self) -> float | None:
        """The share of the answers that is promised to be right."""


def build_rules(
    tasks: Sequence[Task], fit: Fit | None, wanted: Wanted, reporter: Reporter, *, all_needed: bool
) -> dict[Task, Rule]:
    """Say how answers of some tasks are made.

    Args:
        tasks: Those that may be asked about.
        fit: What was fitted for the way in which the model is asked, if anything was.
        wanted: What the options say.
        reporter: Told what can be promised, and which task is left out.
        all_needed: False leaves out a task for which the options ask what there is not, unless none is left.

    Returns:
        A rule for each task that can be asked about.

    Raises:
        UsageError: The options need a fit that there is not.
        GateError: What they promise cannot be kept.
    """
    rules: dict[Task, Rule] = {}
    for left, task in enumerate(reversed(tasks)):
        try:
            rules[task] = build_rule(task, fit, wanted, reporter)
        except (UsageError, GateError) as error:
            if all_needed or (left == len(tasks) - 1 and not rules):
                raise
            reporter.warn(f"{error.message}; such records will fail")
    return rules


def build_rule(task: Task, fit: Fit | None, wanted: Wanted, reporter: Reporter) -> Rule:
    """Say how answers of a task are made.

    Args:
        task: The task.
        fit: What was fitted for the way in which the model is asked, if anything was.
        wanted: What the options say.
        reporter: Told what can be promised.

    Returns:
        The rule.

    Raises:
        UsageError: The options need a fit that there is not.
    """
    from hkdcli.inference.asking import Rule

    fitted = fit.tasks.get(task) if fit else None
    # Of one choice alone every way of decoding is map.
    asked = "map" if task == "factuality" else wanted.decoding
    decoding = asked or (fitted.decoding if fitted else "map")
    if decoding == "threshold" and (fitted is None or fitted.threshold is None):
        raise UsageError(
            f"--decode threshold: no threshold was fitted for {task}",
            hint="Fit one with --calibrate DEV --decode threshold.",
        )
    rule = Rule(decoding, abstain_below=wanted.abstain_below)
    if fit and wanted.debias == "prior":
        rule = replace(rule, letter_prior=fit.letter_prior.get(task, {}))
    if wanted.debias == "prior" and not rule.letter_prior:
        raise UsageError(
            f"--debias prior: no letter prior was estimated for {task}",
            hint="Estimate it with --calibrate DEV --debias prior; DEV needs no answers for that.",
        )
    if fitted is not None:
        rule = replace(rule, temperature=fitted.temperature, threshold=fitted.threshold)
    if wanted.target_precision is None:
        return rule
    if fitted is None or fitted.decoding != decoding:
        raise UsageError(
            f"--target-precision: these answers of {task} are not calibrated",
            hint="Calibrate them with --calibrate DEV and the same --shift, --decode and --debias.",
        )
    return replace(rule, abstain_below=_promise(task, fitted, wanted.target_precision, reporter))


def _promise(task: Task, fitted: TaskFit, target: float, reporter: Reporter) -> float:
    """The least confidence of an answer that is given; says what can be promised of those."""
    from hkdcli.inference.abstention import choose_abstention

    try:
        chosen = choose_abstention(fitted, target)
    except GateError as error:
        raise GateError(f"{task}: {error.message}", hint=error.hint) from error
    reporter.note(
        f"{task}: answers from confidence {chosen.threshold:.3f} on: {chosen.coverage:.2f} of those kept"
        f" for it, {chosen.correct} of {chosen.answered} right; at least {chosen.lower_bound:.3f} at "
        f"{chosen.confidence_level:.0%}"
    )
    return chosen.threshold
