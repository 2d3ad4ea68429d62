"""Scores of predictions: of one system, of two on the same records; and results files of the challenge."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hkdcli.errors import DataError, UsageError
from hkdcli.opening import DataOptions, open_data
from hkdcli.outcome import Outcome
from hkdcli.reporter import Reporter, SilentReporter
from hkdcli.result_tables import tabulate_comparison, tabulate_results

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset
    from hkdcli.data.records import Example
    from hkdcli.evaluation.join import Table
    from hkdcli.evaluation.metrics import Results
    from hkdcli.evaluation.predictions import Prediction
    from hkdcli.evaluation.results import LeakFound, Parsing

SILENT = SilentReporter()

Parser = Literal["strict", "lenient"]


@dataclass(frozen=True, slots=True)
class PredictionOptions:
    """How files of predictions are read: which fields hold what, and how answers that are text are parsed."""

    columns: str | None = None
    parser: Parser = "lenient"


@dataclass(frozen=True, slots=True)
class EvaluateOptions:
    """What is looked at and written beside the scores.

    Attributes:
        reading: How the predictions are read.
        intervals: Draw them.
        blind: Predictions of the same model with images blanked.
        trained_on: Records that the model learned from.
        fail_on_leak: Refuse records that it learned from.
        reports: Files to write, .html or .md.
        gallery: How many wrong records the page shows.
        per_record: A CSV file to write, one row a record.
    """

    reading: PredictionOptions = field(default_factory=PredictionOptions)
    intervals: bool = True
    blind: Path | None = None
    trained_on: str | None = None
    fail_on_leak: bool = False
    reports: Sequence[Path] = ()
    gallery: int = 200
    per_record: Path | None = None


@dataclass(frozen=True, slots=True)
class _Scored:
    tables: Mapping[str, Table]
    results: Results


def evaluate(
    predictions: Path,
    data: DataOptions,
    options: EvaluateOptions | None = None,
    *,
    out: Path | None = None,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Score predictions against the answers in the data.

    Args:
        predictions: The file that `infer` wrote, or one of another system.
        data: The records with their answers.
        options: What else to look at and to write.
        out: Where to write the results as JSON; null writes nothing.
        reporter: Told about warnings.

    Returns:
        The results.
    """
    from hkdcli.atomic import write_json
    from hkdcli.evaluation.record_table import write_record_table

    options = options or EvaluateOptions()
    blind = [options.blind] if options.blind else []
    written = [path for path in (out, options.per_record, *options.reports) if path is not None]
    _check_outputs(written, [predictions, *blind, Path(data.source)])
    with pause_collection():
        dataset = open_data(data, reporter)
        scored = _score(predictions, dataset, options)
    for warning in scored.results.warnings:
        reporter.warn(warning)
    document = scored.results.to_json()
    if out is not None:
        write_json(out, document)
    if options.per_record is not None:
        write_record_table(options.per_record, scored.tables)
    if options.reports:
        _write_reports(options, scored, dataset, f"{predictions.name} on {dataset.name}", reporter)
    return Outcome(document, tables=tabulate_results(scored.results))


def compare(
    first: Path,
    second: Path,
    data: DataOptions,
    reading: PredictionOptions | None = None,
    *,
    fail_if_worse: float | None = None,
    out: Path | None = None,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Compare two systems on the same records.

    Args:
        first: Predictions of one, a.
        second: Predictions of the other, b.
        data: The records with their answers.
        reading: How the predictions are read.
        fail_if_worse: The gate is not met where micro-F1 over all records falls by more than this from a to b.
        out: Where to write the comparison as JSON; null writes nothing.
        reporter: Told about warnings.

    Returns:
        The comparison.
    """
    from hkdcli.atomic import write_json
    from hkdcli.evaluation.compare import compare_tables
    from hkdcli.evaluation.metrics import Bootstrap

    _check_outputs([] if out is None else [out], [first, second, Path(data.source)])
    options = EvaluateOptions(reading or PredictionOptions(), intervals=False)
    with pause_collection():
        dataset = open_data(data, reporter)
        a, b = (_score(path, dataset, options) for path in (first, second))
    comparison = compare_tables(a.tables, b.tables, (a.results, b.results), Bootstrap())
    for warning in comparison.warnings:
        reporter.warn(warning)
    document = comparison.to_json()
    if out is not None:
        write_json(out, document)
    loss = -(comparison.scores["micro_f1"].difference or 0.0) if "micro_f1" in comparison.scores else 0.0
    failed_gate = ""
    if fail_if_worse is not None and loss > fail_if_worse:
        failed_gate = f"micro_f1 falls by {loss:.4f}, which is more than {fail_if_worse:g}"
    return Outcome(document, tables=tabulate_comparison(comparison), failed_gate=failed_gate)


def submit(
    predictions: Path,
    data: DataOptions,
    reading: PredictionOptions | None = None,
    *,
    out: Path,
    task: str | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Write the challenge's results file, and check it.

    Args:
        predictions: One legal answer for each record.
        data: The challenge's records.
        reading: How the predictions are read.
        out: The zip file to write.
        task: Only the records of this task; null takes all.
        overwrite: Replace an earlier one.
        reporter: Told about warnings.

    Returns:
        What was written.
    """
    from hkdcli.evaluation.submission import build_submission, check_submission, write_submission
    from hkdcli.runs import check_output

    check_output(out, overwrite=overwrite, inputs=[predictions, Path(data.source)])
    examples = _select(open_data(data, reporter), task).examples
    rows, _ = _read(predictions, examples, reading or PredictionOptions())
    write_submission(out, build_submission(examples, rows))
    check_submission(out, examples)
    return _tell(out, examples)


def check_submission(
    file: Path, data: DataOptions, *, task: str | None = None, reporter: Reporter = SILENT
) -> Outcome:
    """Check a results file of the challenge: each record answered once, with a legal answer.

    Args:
        file: A zip file, or results.json itself.
        data: The challenge's records.
        task: Only the records of this task; null takes all.
        reporter: Told about warnings.

    Returns:
        What it holds; DataError names everything that is wrong with it.
    """
    from hkdcli.evaluation.submission import check_submission

    examples = _select(open_data(data, reporter), task).examples
    check_submission(file, examples)
    return _tell(file, examples)


def _score(path: Path, dataset: Dataset, options: EvaluateOptions) -> _Scored:
    """Scores of a file of predictions, with what its options add to them."""
    from hkdcli.evaluation.metrics import Bootstrap, join_predictions, score_tables

    rows, parsing = _read(path, dataset.examples, options.reading)
    bootstrap = Bootstrap() if options.intervals else None
    tables = join_predictions(rows, dataset.examples)
    results = score_tables(tables, rows, dataset.examples, bootstrap)
    added: dict[str, object] = {"parsing": parsing}
    if options.blind is not None:
        from hkdcli.evaluation.blind import compare_blind

        blind = _score(options.blind, dataset, EvaluateOptions(options.reading, intervals=False))
        _check_blind(options.blind, blind, path, tables)
        added["blind"] = compare_blind(tables, blind.tables, blind.results, bootstrap)
    if options.trained_on is not None:
        added["leak"], said = _find_leak(dataset, options)
        added["warnings"] = [*results.warnings, *said]
    return _Scored(tables, _add(results, added))


def _read(
    path: Path, examples: Sequence[Example], reading: PredictionOptions
) -> tuple[Sequence[Prediction], Parsing | None]:
    from hkdcli.evaluation.columns import Columns, parse_columns
    from hkdcli.evaluation.predictions import read_predictions
    from hkdcli.evaluation.texts import read_texts

    columns = parse_columns(reading.columns) if reading.columns is not None else Columns()
    return read_texts(read_predictions(path, columns), examples, reading.parser)


def _add(results: Results, added: Mapping[str, object]) -> Results:
    """The results with further blocks, checked like the rest."""
    from hkdcli.evaluation.results import Results

    fields = {name: getattr(results, name) for name in Results.model_fields}
    return Results(**{**fields, **added})


def _check_blind(path: Path, blind: _Scored, seeing_path: Path, tables: Mapping[str, Table]) -> None:
    """Refuse a control that saw images, and a control where scores are wanted, as far as rows say so."""
    saw = sum(row is not None and row.blind is False for table in blind.tables.values() for row in table.rows)
    if saw:
        hint = "Make it with hkd infer MODEL DATA --blind --out FILE."
        raise UsageError(f"{path}: {saw} of its answers were given with images shown", hint=hint)
    if any(row is not None and row.blind for table in tables.values() for row in table.rows):
        raise UsageError(
            f"{seeing_path}: was itself made with --blind", hint=f"Give it as --blind {seeing_path}."
        )


def _find_leak(dataset: Dataset, options: EvaluateOptions) -> tuple[LeakFound, list[str]]:
    """What the records share with those of training; refused where that was asked for."""
    from hkdcli.data.leaks import compute_leak
    from hkdcli.evaluation.results import LeakFound

    train = open_data(DataOptions(options.trained_on or ""), SILENT)
    leak = compute_leak(train, dataset)
    shared = f"{len(leak.rows)} of {len(dataset.examples)} records are known from {train.name}"
    if leak.rows and options.fail_on_leak:
        raise DataError(f"{shared}, by id or by the pixels of their image", leak.rows)
    said = [f"{shared} (leak_rate {leak.leak_rate:.3f}): the scores are not of unseen records"]
    said = said if leak.rows else []
    if leak.unread:
        said.append(f"{leak.unread} images cannot be loaded, so their pixels were not looked for in {train.name}")
    found = LeakFound(
        leak_rate=leak.leak_rate, shared_ids=len(leak.shared_ids), shared_images=len(leak.shared_images)
    )
    return found, said


def _write_reports(
    options: EvaluateOptions, scored: _Scored, dataset: Dataset, title: str, reporter: Reporter
) -> None:
    from hkdcli.atomic import write_atomic
    from hkdcli.reporting.cases import build_cases
    from hkdcli.reporting.markdown import render_markdown
    from hkdcli.reporting.page import render_page
    from hkdcli.reporting.thumbnails import build_thumbnails

    document = scored.results.to_json()
    for path in options.reports:
        if path.suffix.lower() == ".md":
            text = render_markdown(document, title=title)
        else:
            gallery = build_cases(scored.tables, options.gallery)
            thumbnails = build_thumbnails(gallery.cases, lambda each: dataset.images.load(each.image).image)
            text = render_page(document, gallery, title=title, thumbnails=thumbnails)
        write_atomic(path, text.encode())
        reporter.note(f"report: {path}")


def _check_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse outputs that would overwrite inputs or each other; an earlier output may go, it is remade."""
    from hkdcli.runs import check_output

    for place, path in enumerate(outputs):
        if path.resolve() in [other.resolve() for other in outputs[:place]]:
            raise UsageError(f"{path}: two outputs of this command, and one of them would be lost")
        check_output(path, overwrite=True, inputs=[*inputs, *outputs[:place]])


def _select(dataset: Dataset, task: str | None) -> Dataset:
    """The records of one task; raises UsageError where there are none."""
    chosen = tuple(each for each in dataset.examples if task is None or each.task == task)
    if not chosen:
        raise UsageError(f"{dataset.name}: holds no records of {task}")
    return replace(dataset, examples=chosen)


def _tell(path: Path, examples: Sequence[Example]) -> Outcome:
    from hkdcli.tables import tabulate

    tasks = sorted({example.task for example in examples})
    counts = {task: sum(example.task == task for example in examples) for task in tasks}
    document = {"file": str(path), "records": len(examples), "tasks": counts}
    return Outcome(document, tables=[tabulate(f"{path}: complete and legal", {"records": len(examples), **counts})])


@contextmanager
def pause_collection() -> Iterator[None]:
    """Millions of small objects are made and none of them is garbage: looking for it takes half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
