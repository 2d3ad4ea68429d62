"""Results files of the challenge: `hkd submit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.errors import UsageError
from hkdcli.opening import DataOptions, open_data
from hkdcli.outcome import Outcome
from hkdcli.reporter import SILENT, Reporter
from hkdcli.scored_files import PredictionOptions, read_rows
from hkdcli.tables import tabulate

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset
    from hkdcli.data.records import Example


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

    check_output(out, overwrite=overwrite, resumable=False, inputs=[predictions, Path(data.source)])
    examples = _select(open_data(data, reporter), task).examples
    rows, _ = read_rows(predictions, examples, reading or PredictionOptions())
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


def _select(dataset: Dataset, task: str | None) -> Dataset:
    """The records of one task; raises UsageError where there are none."""
    chosen = tuple(each for each in dataset.examples if task is None or each.task == task)
    if not chosen:
        raise UsageError(f"{dataset.name}: holds no records of {task}", hint="Name records of that task.")
    return replace(dataset, examples=chosen)


def _tell(path: Path, examples: Sequence[Example]) -> Outcome:
    tasks = sorted({example.task for example in examples})
    counts = {str(task): sum(example.task == task for example in examples) for task in tasks}
    document = {"file": str(path), "records": len(examples), "tasks": counts}
    table = tabulate(f"{path}: complete and legal", {"records": len(examples), **counts})
    return Outcome(document, tables=[table])
