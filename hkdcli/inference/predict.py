"""Answer a dataset: rows leave for the disk batch by batch, and a killed run goes on where it stopped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import IO

from hkdcli.atomic import disk_errors
from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import Example
from hkdcli.inference.asking import Judge
from hkdcli.inference.judging import judge_batch, load_batch, render_row
from hkdcli.inference.rounds import ask_all
from hkdcli.inference.row_files import list_records, put_in_order, read_done_rows
from hkdcli.inference.rows import Row, RunHashes, render_failure, render_line
from hkdcli.reporter import SILENT, Reporter

_FLIPS = 0.5  # mean share of single orders that contradict all together, above which shifts are in doubt
_FEW = 20  # shifted records of a task of which that share says something


@dataclass(frozen=True, slots=True)
class PredictSummary:
    """How it went: rows in the file, of which failed or abstained; resumed and truncated in this run."""

    out: Path
    total: int
    failed: int
    abstained: int
    resumed: int
    truncated: int
    prompt_hash: str

    def to_json(self) -> dict[str, str | int]:
        """The counts as a JSON object."""
        return {**asdict(self), "out": str(self.out)}


def predict(
    dataset: Dataset,
    judge: Judge,
    *,
    out: Path,
    resume: bool = False,
    batch_size: int | None = 8,
    workers: int = 0,
    reporter: Reporter | None = None,
) -> PredictSummary:
    """Write one row per record: as they come while it runs, in the order of the dataset in the end.

    Bad rows of the dataset come last.

    Args:
        dataset: what to answer.
        judge: the model, how it is asked, and how it answers.
        out: the predictions, JSONL, replaced unless `resume`; its folder must exist.
        resume: go on with a file that an interrupted run left; the result is that of an uninterrupted run
            where `batch_size` is fixed, and otherwise equal up to rounding.
        batch_size: records at once; None: as many as memory holds.
        workers: processes that load images ahead.
        reporter: told of progress.

    Returns:
        Counts. `UsageError` where the rows to go on with had another prompt; `ModelError` where the model
        gives NaN, before such a row is written.
    """
    reporter, hashes = reporter or SILENT, judge.compute_hashes()
    records = list_records(dataset)
    done = read_done_rows(out, hashes, records) if resume and out.exists() else None
    counts = _Counts(dict(done.status) if done else {})
    with disk_errors(out), out.open("r+b" if done else "wb") as file:
        if done:
            file.seek(done.end)
            file.truncate()
        reporter.start("infer", len(records), len(counts.status))
        try:
            before = frozenset(counts.status)
            for rows in _answer(dataset, judge, hashes, before, batch_size, workers, reporter):
                _append(file, rows, counts)
                reporter.advance(len(counts.status), failed=counts.failed)
        finally:
            reporter.finish()  # after an interrupt too: a bar leaves the terminal as it was
    put_in_order(out, list(records))
    counts.warn_of_flips(reporter)
    nameless = [row for row in dataset.bad_rows if not row.id]
    if nameless:
        reporter.warn(
            f"{len(nameless)} records have no id of their own, and so no row (first: {nameless[0]})"
        )
    failed = counts.failed + len(nameless)
    resumed = len(done.status) if done else 0
    return PredictSummary(
        out, len(counts.status), failed, counts.abstained, resumed, counts.truncated, judge.scorer.prompt_hash
    )


def answer_examples(
    dataset: Dataset, examples: Sequence[Example], judge: Judge, hashes: RunHashes | None = None
) -> list[Row]:
    """Rows for some examples, one each and in order; a record that cannot be answered fails alone.

    Args:
        dataset: where their images are.
        examples: which to answer, all at once.
        judge: the model, how it is asked, and how it answers.
        hashes: of the run, for the rows; None computes them.

    Returns:
        Rows as `render_row` makes them.
    """
    hashes = hashes or judge.compute_hashes()
    said = judge_batch(judge, load_batch(judge, dataset.images, examples))
    return [render_row(judge, example, one, hashes) for example, one in zip(examples, said, strict=True)]


class _Counts:
    """What is in the file so far: the status of each id, and how often each came."""

    def __init__(self, status: dict[str, str]) -> None:
        self.status = status
        self.failed = sum(value == "error" for value in status.values())
        self.abstained = sum(value == "abstain" for value in status.values())
        self.truncated = 0
        self.flips: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, row: Row) -> None:
        """Count one more row."""
        self.status[row["id"]] = row["status"]
        self.failed += row["status"] == "error"
        self.abstained += row["status"] == "abstain"
        self.truncated += row["truncated"]
        if (row["shifts"] or 1) > 1:
            self.flips[row["task"]].append(row["flip_rate"])

    def warn_of_flips(self, reporter: Reporter) -> None:
        """Say of which tasks single orders of the choices mostly contradict all together."""
        for task, rates in sorted(self.flips.items()):
            if len(rates) >= _FEW and fmean(rates) > _FLIPS:
                reporter.warn(
                    f"{task}: single orders of the choices mostly contradict all together (flip rate "
                    f"{fmean(rates):.2f}): the model goes by letters or places, or met one order alone in "
                    "training; on labelled records, compare with this task in one order (--shift-task)"
                )


def _answer(
    dataset: Dataset,
    judge: Judge,
    hashes: RunHashes,
    done: frozenset[str],
    batch_size: int | None,
    workers: int,
    reporter: Reporter,
) -> Iterator[list[Row]]:
    """Rows of the records that are not done, batch by batch, then those of unreadable ones."""
    asked = ask_all(
        judge,
        dataset.examples,
        dataset.images,
        done=done,
        batch_size=batch_size,
        workers=workers,
        reporter=reporter,
    )
    for batch in asked:
        yield [render_row(judge, example, said, hashes) for example, said in batch]
    yield [render_failure(row, None, hashes) for row in dataset.bad_rows if row.id and row.id not in done]


def _append(file: IO[bytes], rows: Sequence[Row], counts: _Counts) -> None:
    file.write(b"".join(render_line(row) for row in rows))
    file.flush()
    for row in rows:
        counts.add(row)
