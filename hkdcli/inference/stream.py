"""Answers as records come in: JSONL on one side, rows on the other, nothing in between kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from hkdcli.data.examples import Example
from hkdcli.data.images import ImageSource
from hkdcli.errors import BadRow
from hkdcli.inference.asking import Judge
from hkdcli.inference.batching import LARGEST_SIZE, BatchSize, split
from hkdcli.inference.judging import Answered, judge_batch, load_batch, render_row
from hkdcli.inference.rounds import WHOLE_PASSES
from hkdcli.inference.rows import render_failure, render_line
from hkdcli.reporter import Reporter


@dataclass(frozen=True, slots=True)
class StreamSummary:
    """How many records came, and how many of them failed."""

    total: int
    failed: int


def answer_stream(
    batches: Iterable[Sequence[Example | BadRow]],
    images: ImageSource,
    judge: Judge,
    *,
    out: IO[bytes],
    reporter: Reporter,
) -> StreamSummary:
    """Write a row for each record as soon as its batch is through, in the order in which they came.

    Args:
        batches: records, and what could not be read as one.
        images: where the images are.
        judge: the model, how it is asked, and how it answers.
        out: flushed after every batch.
        reporter: told of what has no id, and so no row.

    Returns:
        Counts; every record without a row counts as failed.
    """
    hashes, seen = judge.compute_hashes(), set[str]()
    size = BatchSize(LARGEST_SIZE["cuda"], largest=LARGEST_SIZE["cuda"])  # batches come as large as was asked
    total = written = failed = 0
    told = False
    for batch in batches:
        total += len(batch)
        kept = list(_take_new(batch, seen, reporter))
        usable = [record for record in kept if isinstance(record, Example)]
        answers = iter(
            [said for part in split(usable, size.size) for said in _ask(judge, images, part, size)]
        )
        for record in kept:
            if isinstance(record, BadRow):
                row = render_failure(record, None, hashes)
            else:
                row = render_row(judge, record, next(answers), hashes)
            failed += row["status"] == "error"
            out.write(render_line(row))
        written += len(kept)
        out.flush()
        if judge.scorer.fell_back and not told:
            told = True
            reporter.warn(WHOLE_PASSES)
    return StreamSummary(total, failed + total - written)


def _ask(
    judge: Judge, images: ImageSource, examples: Sequence[Example], size: BatchSize
) -> list[Answered | BadRow]:
    return judge_batch(judge, load_batch(judge, images, examples), size)


def _take_new(
    batch: Sequence[Example | BadRow], seen: set[str], reporter: Reporter
) -> Iterator[Example | BadRow]:
    """Those with an id that has not been seen; it has been from then on."""
    for record in batch:
        if record.id and record.id not in seen:
            seen.add(record.id)
            yield record
        else:
            again = f"{record.id}: an earlier record has this id; it gets no second row"
            reporter.warn(again if record.id else f"{record}; it has no id, and so gets no row")
