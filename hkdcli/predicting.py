"""The ways in which `hkd infer` works: a file, a stream, several processes; and shards put together again."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.errors import EXIT_SOME_RECORDS_FAILED, UsageError
from hkdcli.inferring import InferOptions, open_judge, store_calibration
from hkdcli.launch import launch
from hkdcli.locks import hold_lock
from hkdcli.opening import DataOptions, open_data, open_images
from hkdcli.outcome import Outcome
from hkdcli.ranks import find_place
from hkdcli.reporter import SILENT, Reporter
from hkdcli.runs import check_output
from hkdcli.tables import tabulate, tabulate_fit

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset


@dataclass(frozen=True, slots=True)
class Output:
    """A file of rows to write; what is there is gone on with, replaced, or refused."""

    path: Path
    resume: bool = False
    overwrite: bool = False

    @contextmanager
    def hold(self, *inputs: Path) -> Iterator[None]:
        """Refuse what is there unless it was said what to do with it, and keep other processes away.

        Args:
            *inputs: What is read meanwhile.

        Yields:
            None: While the file is written.
        """
        check_output(self.path, resume=self.resume, overwrite=self.overwrite, inputs=inputs)
        with hold_lock(self.path.with_name(f".{self.path.name}.lock")):
            yield


def infer(
    model: str,
    data: DataOptions,
    options: InferOptions,
    *,
    output: Output,
    shard: tuple[int, int] = (0, 1),
    reporter: Reporter = SILENT,
) -> Outcome:
    """Write a row for every record of a file, or of a share of it.

    Args:
        model: As in `open_judge`.
        data: The records.
        options: How to predict.
        output: The file of rows; one of several processes writes a part beside it instead.
        shard: (index, count): only this share of the records.
        reporter: Told about progress.

    Returns:
        Counts.
    """
    place = find_place()
    if place.size > 1:
        shard, output = (place.rank, place.size), _take_part(output, place.rank, place.size)
    from hkdcli.data.datasets import take_shard

    with output.hold(Path(data.source)):
        if place.size == 1:
            _check_parts(output, 1)
        dataset = take_shard(open_data(data, reporter), *shard)
        tasks = {example.task for example in dataset.examples}
        from hkdcli.inference.predict import predict

        with open_judge(model, options, tasks, reporter) as judge:
            if output.overwrite:
                output.path.unlink(missing_ok=True)
            summary = predict(
                dataset,
                judge,
                out=output.path,
                resume=output.resume,
                batch_size=options.batch_size,
                workers=options.choose_workers(judge.scorer),
                reporter=reporter,
            )
    counts = summary.to_json()
    return Outcome(counts, tables=[tabulate(str(output.path), counts)], failed_records=summary.failed)


def infer_in_processes(
    command: Sequence[str], count: int, data: DataOptions, *, output: Output, reporter: Reporter = SILENT
) -> Outcome:
    """Run `hkd infer` in several processes, each with a share of the records, and merge what they write.

    Args:
        command: What follows `hkd infer`, without --nproc, --resume and --overwrite.
        count: How many processes.
        data: The records.
        output: The file of rows; each process writes a hidden part beside it.
        reporter: Told about warnings.

    Returns:
        Counts, or nothing but the exit code of the process that failed first; then the parts stay, and
        `output.resume` goes on with them.
    """
    with output.hold(Path(data.source)):
        _check_parts(output, count)
        dataset = open_data(data, reporter)
        if (
            output.overwrite
        ):  # before the parts: a resume takes a file that is there for the one to go on with
            output.path.unlink(missing_ok=True)
        parts = [_take_part(output, rank, count).path for rank in range(count)]
        code = launch([sys.executable, "-m", "hkdcli", "infer", "--resume", *command], count)
        if code not in (0, EXIT_SOME_RECORDS_FAILED):
            return Outcome({}, exit_code=code)
        merged = _merge(parts, dataset, output.path)
        for part in parts:
            part.unlink()
        return merged


def merge_shards(
    data: DataOptions, shards: Sequence[Path], *, output: Output, reporter: Reporter = SILENT
) -> Outcome:
    """Merge the predictions of all shards of a file of records into one file, in its order.

    Args:
        data: The records.
        shards: What `--shard` wrote.
        output: The file to write.
        reporter: Told about warnings.

    Returns:
        Counts.
    """
    with output.hold(Path(data.source), *shards):
        return _merge(shards, open_data(data, reporter), output.path)


def infer_stream(
    model: str, data: DataOptions, options: InferOptions, reporter: Reporter = SILENT
) -> Outcome:
    """Answer records of stdin on stdout, JSONL both, as they come.

    Args:
        model: As in `open_judge`.
        data: Where the images of the records are.
        options: How to predict.
        reporter: Told how many came; stdout is for rows alone.

    Returns:
        Nothing to show but how many failed.

    Raises:
        UsageError: stdin or stdout is closed.
    """
    from hkdcli.data.line_stream import LineStream
    from hkdcli.inference.batching import FIRST_SIZE
    from hkdcli.inference.stream import answer_stream

    if sys.stdin is None or sys.__stdout__ is None:
        raise UsageError(
            "- needs stdin and stdout, and one of them is closed",
            hint="Leave both open: hkd infer MODEL - < records.jsonl > p.jsonl",
        )
    images = open_images(data)
    with open_judge(model, options, None, reporter) as judge:
        batches = LineStream(sys.stdin.fileno()).iterate_batches(options.batch_size or FIRST_SIZE)
        summary = answer_stream(batches, images, judge, out=sys.stdout.buffer, reporter=reporter)
    reporter.note(f"{summary.total} records, {summary.failed} failed")
    return Outcome({}, failed_records=summary.failed)


def calibrate(model: str, data: DataOptions, options: InferOptions, reporter: Reporter = SILENT) -> Outcome:
    """Fit the calibration of a model to labelled records and store it.

    Args:
        model: As in `open_judge`.
        data: The labelled records.
        options: How it will be asked.
        reporter: Told about progress.

    Returns:
        What was fitted.
    """
    path, fit = store_calibration(model, open_data(data, reporter), options, reporter)
    reporter.note(f"calibration: {path}")
    return Outcome({"calibration": str(path), "fit": fit.model_dump(mode="json")}, tables=tabulate_fit(fit))


def _take_part(output: Output, rank: int, count: int) -> Output:
    """The part of one of several processes: hidden, beside the file, and gone on with where it is there."""
    return Output(output.path.with_name(f".{output.path.name}.part-{rank + 1}-of-{count}"), resume=True)


def _check_parts(output: Output, count: int) -> None:
    """Refuse to leave behind, or to throw away, what several processes have done.

    Parts beside a file that is there were merged into it: a kill came before they were removed.
    """
    pattern = f".{escape(output.path.name)}.part-*"
    parts = [part for part in output.path.parent.glob(pattern) if part.is_file()]
    if output.overwrite or output.path.exists():
        for part in parts:
            part.unlink()
        return
    counts = sorted({part.name.rpartition("-of-")[2] for part in parts})
    if counts and not (output.resume and counts == [str(count)]):
        said = f", not by {count}" if output.resume else ""
        raise UsageError(
            f"{output.path}: was begun by {' and '.join(counts)} processes{said}",
            hint=f"Give --nproc {counts[0]} --resume to go on, or --overwrite to start anew.",
        )


def _merge(parts: Sequence[Path], dataset: Dataset, path: Path) -> Outcome:
    from hkdcli.inference import row_files

    counts = row_files.merge_shards(parts, row_files.list_records(dataset), path)
    failed = counts["failed"] + sum(not row.id for row in dataset.bad_rows)
    document = {"out": str(path), **counts, "failed": failed}
    return Outcome(document, tables=[tabulate(str(path), document)], failed_records=failed)
