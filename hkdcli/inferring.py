"""From the options of `hkd infer` to a judge: which model, how it is asked, how it is calibrated."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.errors import GateError, ModelError, UsageError
from hkdcli.opening import ModelSource, find_model
from hkdcli.reporter import Reporter
from hkdcli.scorers import EngineName, open_scorer

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset
    from hkdcli.data.records import Task
    from hkdcli.inference.asking import Asking, Debias, Judge, Rule
    from hkdcli.inference.calibration_file import Calibration, Fit
    from hkdcli.inference.decode import Decoding
    from hkdcli.inference.scoring import AnyScorer
    from hkdcli.inference.shift import Combination, ShiftWhat
    from hkdcli.inference.task_fit import TaskFit

_OTHER = "belongs to other weights, another number type, engine or prompts"


@dataclass(frozen=True, slots=True)
class InferOptions:
    """How to predict; `shifts` None is every cyclic shift, `level` None the base of the pyramid.

    `base` says where an adapter's base model is, should it have moved. `decoding` None is what calibration
    chose, or map. `calibration` None is the file in the model's own folder; `is_calibrated` False leaves it
    alone. `batch_size` None is as many records as memory holds, `workers` None as many as the device can use.
    """

    level: str | None = None
    base: str | None = None
    shifts: int | None = 1
    shift_what: ShiftWhat = "both"
    move_none: bool = True
    combination: Combination = "log_mean"
    debias: Debias = "none"
    decoding: Decoding | None = None
    per_shift: bool = False
    calibration: Path | None = None
    is_calibrated: bool = True
    abstain_below: float | None = None
    target_precision: float | None = None
    batch_size: int | None = 8
    workers: int | None = None
    engine: EngineName = "transformers"

    def build_asking(self) -> Asking:
        """How the model is asked."""
        from hkdcli.inference.asking import Asking

        return Asking(self.shifts, self.shift_what, self.move_none, self.combination, self.debias)

    def choose_workers(self, scorer: AnyScorer) -> int:
        """How many processes load images: beside a GPU some, beside a busy CPU none."""
        import os

        spare = 0 if scorer.device.type == "cpu" else min(4, (os.cpu_count() or 1) // 2)
        return spare if self.workers is None else self.workers


@contextmanager
def open_judge(
    model: str, options: InferOptions, tasks: Collection[Task], reporter: Reporter
) -> Iterator[Judge]:
    """Load a model and say how it is asked and how it answers.

    Args:
        model: A run folder, model folder, hub id or scenes:NAME.
        options: How to predict.
        tasks: Those that will be asked about.
        reporter: Told what runs where, and why a calibration is left out.

    Yields:
        Judge: Ready to answer; what runs beside it ends afterwards.
    """
    source = find_model(model, options.level)
    with open_scorer(source, options.engine, base=options.base, reporter=reporter) as scorer:
        yield build_judge(source, scorer, options, tasks, reporter)


def build_judge(
    source: ModelSource,
    scorer: AnyScorer,
    options: InferOptions,
    tasks: Collection[Task],
    reporter: Reporter,
) -> Judge:
    """Say how a model that is loaded is asked and how it answers.

    Args:
        source: The model; its calibration is in its folder.
        scorer: The same, loaded.
        options: How to predict.
        tasks: Those that will be asked about.
        reporter: Told why a calibration is left out.

    Returns:
        Ready to answer.
    """
    from hkdcli.inference.asking import Judge

    fit = _find_fit(source, options, scorer, reporter)
    rules = {task: _build_rule(task, fit, options, reporter) for task in tasks}
    return Judge(scorer, options.build_asking(), rules, options.per_shift)


def calibrate(model: str, dataset: Dataset, options: InferOptions, reporter: Reporter) -> tuple[Path, Fit]:
    """Fit a model's calibration to labelled records, and store it for later.

    Args:
        model: As in `open_judge`.
        dataset: The records; with `debias` "prior", those without an answer serve the letter prior.
        options: How it will be asked; `calibration` says where to store.
        reporter: Told of progress.

    Returns:
        The file, and what was fitted.

    Raises:
        UsageError: The model has no folder of its own, and no file was named.
    """
    from hkdcli.inference.calibrating import fit_judge
    from hkdcli.inference.calibration_file import put_fit, write_calibration

    source = find_model(model, options.level)
    path = options.calibration or _find_place(source)
    if path is None:
        raise UsageError(
            f"{model}: is no folder of this machine, so a calibration has no place in it",
            hint="name a file with --calibration; give it again when predicting",
        )
    with open_scorer(source, options.engine, base=options.base, reporter=reporter) as scorer:
        before = _read_earlier(path, scorer, reporter)
        fit = fit_judge(
            dataset,
            scorer,
            options.build_asking(),
            decoding=options.decoding,
            batch_size=options.batch_size,
            workers=options.choose_workers(scorer),
            reporter=reporter,
        )
        write_calibration(path, put_fit(before, fit))
    return path, fit


def _find_place(source: ModelSource) -> Path | None:
    """Where the calibration of a model lies: in its adapter's folder, else its own."""
    from hkdcli.inference.calibration_file import FILE_NAME

    folder = Path(source.adapter or source.model)
    return folder / FILE_NAME if folder.is_dir() else None


def _read_earlier(path: Path, scorer: AnyScorer, reporter: Reporter) -> Calibration:
    """What was fitted earlier, to be added to; an empty calibration where there is nothing of this model."""
    from hkdcli.inference.calibration_file import Calibration

    try:
        before = _read_own(path, scorer) if path.is_file() else None
        if before is None and path.is_file():
            reporter.warn(f"{path}: {_OTHER}; it will be replaced")
    except ModelError as error:
        before = None
        reporter.warn(f"{error.message}; it will be replaced")
    return before or Calibration(prompt_hash=scorer.prompt_hash, weights_hash=scorer.weights_hash)


def _read_own(path: Path, scorer: AnyScorer) -> Calibration | None:
    """The calibration in a file; None where it belongs to other weights or prompts."""
    from hkdcli.inference.calibration_file import read_calibration

    calibration = read_calibration(path)
    own = (calibration.prompt_hash, calibration.weights_hash) == (scorer.prompt_hash, scorer.weights_hash)
    return calibration if own else None


def _find_fit(
    source: ModelSource, options: InferOptions, scorer: AnyScorer, reporter: Reporter
) -> Fit | None:
    """What was fitted for this way of asking, if anything was."""
    from hkdcli.inference.calibration_file import find_fit

    path = options.calibration or _find_place(source)
    if not options.is_calibrated or path is None or not (options.calibration or path.is_file()):
        return None
    calibration = _read_own(path, scorer)
    if calibration is None:
        said = f"{path}: {_OTHER}"
        if options.calibration is not None:
            raise ModelError(said, hint="calibrate this model with --calibrate DEV")
        reporter.warn(f"{said}; going on without calibration")
        return None
    fit = find_fit(calibration, asdict(options.build_asking()))
    if fit is None:
        reporter.warn(f"{path}: was not fitted for these shifts, so this is not calibrated")
    else:
        reporter.note(f"calibrated: {path}")
    return fit


def _build_rule(task: Task, fit: Fit | None, options: InferOptions, reporter: Reporter) -> Rule:
    from hkdcli.inference.asking import Rule

    fitted = fit.tasks.get(task) if fit else None
    # Of one choice alone every way of decoding is map.
    wanted = "map" if task == "factuality" else options.decoding
    decoding = wanted or (fitted.decoding if fitted else "map")
    if decoding == "threshold" and (fitted is None or fitted.threshold is None):
        raise UsageError(
            f"--decode threshold: no threshold was fitted for {task}",
            hint="fit one with --calibrate DEV --decode threshold",
        )
    rule = Rule(decoding, abstain_below=options.abstain_below)
    if fit and options.debias == "prior":
        rule = replace(rule, letter_prior=fit.letter_prior.get(task, {}))
    if options.debias == "prior" and not rule.letter_prior:
        raise UsageError(
            f"--debias prior: no letter prior was estimated for {task}",
            hint="estimate it with --calibrate DEV --debias prior; DEV needs no answers for that",
        )
    if fitted is not None:
        rule = replace(rule, temperature=fitted.temperature, threshold=fitted.threshold)
    if options.target_precision is None:
        return rule
    if fitted is None or fitted.decoding != decoding:
        raise UsageError(
            f"--target-precision: these answers of {task} are not calibrated",
            hint="calibrate them with --calibrate DEV and the same --shift, --decode and --debias",
        )
    return replace(rule, abstain_below=_promise(task, fitted, options.target_precision, reporter))


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
