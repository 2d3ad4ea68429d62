"""From the options of `hkd infer` to a judge: which model, how it is asked, how it is calibrated."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.errors import ModelError, UsageError
from hkdcli.opening import ModelSource, find_model
from hkdcli.reporter import Reporter
from hkdcli.rules import build_rules
from hkdcli.runs import check_output
from hkdcli.scorers import EngineName, open_scorer

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset
    from hkdcli.data.records import Task
    from hkdcli.inference.asking import Asking, Debias, Judge
    from hkdcli.inference.calibration_file import Calibration, Fit
    from hkdcli.inference.decode import Decoding
    from hkdcli.inference.scored import AnyScorer
    from hkdcli.inference.shift import Combination, ShiftWhat

_OTHER = "belongs to other weights, another number type, engine or prompts"


BOTH_TASKS: tuple[Task, ...] = ("hallucination", "factuality")


@dataclass(frozen=True, slots=True)
class InferOptions:
    """How to predict; `shifts` None is every cyclic shift, `level` None the base of the pyramid.

    `shift_task` is the task whose records are shifted, None both.

    `base` says where an adapter's base model is, should it have moved. `decoding` None is what calibration
    chose, or map. `calibration` None is the file in the model's own folder; `is_calibrated` False leaves it
    alone. `batch_size` None is as many records as memory holds, `workers` None as many as the device can use.
    """

    level: str | None = None
    base: str | None = None
    shifts: int | None = 1
    shift_what: ShiftWhat = "both"
    shift_task: Task | None = None
    move_none: bool = True
    combination: Combination = "log_mean"
    debias: Debias = "none"
    decoding: Decoding | None = None
    per_shift: bool = False
    blind: bool = False
    calibration: Path | None = None
    is_calibrated: bool = True
    abstain_below: float | None = None
    target_precision: float | None = None
    batch_size: int | None = 8
    workers: int | None = None
    engine: EngineName = "transformers"

    def build_asking(self) -> Asking:
        """How the model is asked; of one order alone, what a shift would do is the same as the default."""
        from hkdcli.inference.asking import Asking

        if self.shifts == 1:
            return Asking(debias=self.debias)
        moved = (self.shift_what, self.move_none, self.combination)
        return Asking(self.shifts, *moved, self.debias, self.shift_task)

    def choose_workers(self, scorer: AnyScorer) -> int:
        """How many processes load images: beside a GPU some, beside a busy CPU none."""
        import os

        spare = 0 if scorer.device.type == "cpu" else min(4, (os.cpu_count() or 1) // 2)
        return spare if self.workers is None else self.workers


@contextmanager
def open_judge(
    model: str, options: InferOptions, tasks: Collection[Task] | None, reporter: Reporter
) -> Iterator[Judge]:
    """Load a model and say how it is asked and how it answers.

    Args:
        model: A run folder, model folder, hub id or scenes:NAME.
        options: How to predict.
        tasks: Those that will be asked about; None: not known, so both that can be.
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
    tasks: Collection[Task] | None,
    reporter: Reporter,
) -> Judge:
    """Say how a model that is loaded is asked and how it answers.

    Args:
        source: The model; its calibration is in its folder.
        scorer: The same, loaded.
        options: How to predict.
        tasks: Those that will be asked about; None: not known, so both that can be.
        reporter: Told why a calibration is left out.

    Returns:
        Ready to answer.
    """
    from hkdcli.inference.asking import Judge

    fit = _find_fit(source, options, scorer, reporter)
    rules = build_rules(sorted(tasks or BOTH_TASKS), fit, options, reporter, all_needed=bool(tasks))
    return Judge(scorer, options.build_asking(), rules, options.per_shift, options.blind)


def store_calibration(
    model: str, dataset: Dataset, options: InferOptions, reporter: Reporter
) -> tuple[Path, Fit]:
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
    path = options.calibration or find_calibration(source)
    if path is None:
        raise UsageError(
            f"{model}: is no folder of this machine, so a calibration has no place in it",
            hint="Name a file with --calibration; give it again when predicting.",
        )
    check_output(path, overwrite=True, inputs=[Path(source.model)])
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


def find_calibration(source: ModelSource) -> Path | None:
    """Where the calibration of a model lies: in the folder of its adapter, else its own; None: no folder."""
    from hkdcli.inference.calibration_file import FILE_NAME

    folder = Path(source.adapter or source.model)
    return folder / FILE_NAME if folder.is_dir() else None


def _find_shipped(source: ModelSource) -> Path | None:
    """The calibration that a model of the hub came with, where it did."""
    from hkdcli.inference.calibration_file import FILE_NAME
    from hkdcli.models.folders import find_local_folder
    from hkdcli.models.hub import is_hub_id

    name = source.adapter or source.model
    folder = find_local_folder(name) if is_hub_id(name) else None
    return None if folder is None else folder / FILE_NAME


def _read_earlier(path: Path, scorer: AnyScorer, reporter: Reporter) -> Calibration:
    """What was fitted earlier, to be added to; an empty calibration where there is nothing of this model."""
    from hkdcli.inference.calibration_file import Calibration

    try:
        before = _read_own(path, scorer) if path.is_file() else None
        if before is None and path.is_file():
            reporter.warn(f"{path}: {_OTHER}; it will be replaced")
    except ModelError as error:
        if b"weights_hash" not in path.read_bytes()[:4096]:
            raise UsageError(
                f"{path}: is no calibration, and would be lost", hint="Name another file, or remove this one."
            ) from error
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

    path = options.calibration or find_calibration(source) or _find_shipped(source)
    if not options.is_calibrated or path is None or not (options.calibration or path.is_file()):
        return None
    calibration = _read_own(path, scorer)
    if calibration is None:
        said = f"{path}: {_OTHER}"
        if options.calibration is not None:
            raise ModelError(said, hint="Calibrate this model with --calibrate DEV.")
        reporter.warn(f"{said}; going on without calibration")
        return None
    fit = find_fit(calibration, asdict(options.build_asking()))
    if fit is None:
        reporter.warn(f"{path}: was not fitted for these shifts, so this is not calibrated")
    else:
        reporter.note(f"calibrated: {path}")
    return fit
