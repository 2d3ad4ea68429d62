"""Scores of one system's predictions, with what is looked at and written beside them: `hkd evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.errors import DataError, UsageError
from hkdcli.opening import DataOptions, open_data
from hkdcli.outcome import Outcome
from hkdcli.reporter import SILENT, Reporter
from hkdcli.result_tables import tabulate_results
from hkdcli.scored_files import PredictionOptions, Scored, check_outputs, pause_collection, score_file

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset
    from hkdcli.evaluation.results import LeakFound


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
        overwrite: Replace files that are there.
    """

    reading: PredictionOptions = field(default_factory=PredictionOptions)
    intervals: bool = True
    blind: Path | None = None
    trained_on: str | None = None
    fail_on_leak: bool = False
    reports: Sequence[Path] = ()
    gallery: int = 200
    per_record: Path | None = None
    overwrite: bool = False


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
    from hkdcli.atomic import write_atomic, write_json
    from hkdcli.evaluation.record_table import write_record_table

    options = options or EvaluateOptions()
    controls = [Path(path) for path in (options.blind, options.trained_on) if path is not None]
    written = [path for path in (out, options.per_record, *options.reports) if path is not None]
    check_outputs(written, [predictions, *controls, Path(data.source)], overwrite=options.overwrite)
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
        from hkdcli.reporting.report import render_report
    for path in options.reports:
        title = f"{predictions.name} on {dataset.name}"
        text = render_report(path, scored.results, scored.tables, dataset, title=title, shown=options.gallery)
        write_atomic(path, text.encode())
        reporter.note(f"report: {path}")
    return Outcome(document, tables=tabulate_results(scored.results))


def _score(path: Path, dataset: Dataset, options: EvaluateOptions) -> Scored:
    """Scores of a file of predictions, with the blocks that its controls add to the results."""
    from hkdcli.evaluation.resampling import Bootstrap

    bootstrap = Bootstrap() if options.intervals else None
    scored = score_file(path, dataset.examples, options.reading, bootstrap)
    results = scored.results
    if options.blind is not None:
        from hkdcli.evaluation.blind import compare_blind

        blind = score_file(options.blind, dataset.examples, options.reading)
        _check_blind(options.blind, blind, path, scored)
        control = compare_blind(scored.tables, blind.tables, blind.results, bootstrap)
        said = _warn_of_gaps(blind)
        results = results.model_copy(update={"blind": control, "warnings": [*results.warnings, *said]})
    if options.trained_on is not None:
        leak, said = _find_leak(dataset, options)
        results = results.model_copy(update={"leak": leak, "warnings": [*results.warnings, *said]})
    return Scored(scored.tables, results)


def _check_blind(path: Path, blind: Scored, seeing_path: Path, seeing: Scored) -> None:
    """Refuse a control that saw images, and a control where scores are wanted, as far as rows say so."""
    saw = sum(row is not None and row.blind is False for table in blind.tables.values() for row in table.rows)
    if saw:
        hint = "Make it with hkd infer MODEL DATA --blind --out FILE."
        raise UsageError(f"{path}: {saw} of its answers were given with images shown", hint=hint)
    if any(row is not None and row.blind for table in seeing.tables.values() for row in table.rows):
        raise UsageError(
            f"{seeing_path}: was itself made with --blind", hint=f"Give it as --blind {seeing_path}."
        )


def _warn_of_gaps(blind: Scored) -> list[str]:
    """Say that a control without answers makes the gain look larger than it is."""
    counts = blind.results.counts
    lost = sum(counts[name] for name in ("missing", "error", "abstained", "invalid"))
    records = f"{lost} of {counts['records']} records have no legal answer in the blind control"
    return [f"{records}, so the gain may be too high"] if lost else []


def _find_leak(dataset: Dataset, options: EvaluateOptions) -> tuple[LeakFound, list[str]]:
    """What the records share with those of training; refused where that was asked for."""
    from hkdcli.data.leaks import compute_leak
    from hkdcli.evaluation.results import LeakFound

    train = open_data(DataOptions(options.trained_on or ""), SILENT)
    leak = compute_leak(train, dataset)
    both = f"{len(leak.shared_ids)} by id, {len(leak.shared_images)} by the pixels of their image"
    shared = f"{len(leak.rows)} of {len(dataset.examples)} records are known from {train.name} ({both})"
    if leak.rows and options.fail_on_leak:
        hint = "Leave them out of one of the two; without --fail-on-leak they are a warning."
        raise DataError(shared, leak.rows, hint=hint)
    said = [f"{shared}: the scores are not of unseen records"]
    said = said if leak.rows else []
    if leak.unread:
        said.append(
            f"{leak.unread} images cannot be loaded, so their pixels were not looked for in {train.name}"
        )
    found = LeakFound(
        leak_rate=leak.leak_rate, shared_ids=len(leak.shared_ids), shared_images=len(leak.shared_images)
    )
    return found, said
