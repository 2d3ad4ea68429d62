"""Answers as records come in: JSONL on one side, rows on the other, nothing in between kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO

from hkdcli.data.examples import Example
from hkdcli.data.images import ImageSource
from hkdcli.errors import BadRow
from hkdcli.inference.asking import Judge
from hkdcli.inference.batching import BatchSize
from hkdcli.inference.judging import judge_batch, load_batch, render_row
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
    hashes, size, seen = judge.compute_hashes(), BatchSize(None), set[str]()
    total = failed = 0
    for batch in batches:
        total += len(batch)
        usable: dict[str, Example] = {}  # by id: one that comes twice in a batch is asked about once
        for record in batch:
            if isinstance(record, Example) and record.id not in seen:
                usable.setdefault(record.id, record)
        loaded = load_batch(judge, images, list(usable.values()))
        said = dict(zip(usable, judge_batch(judge, loaded, size.shrink), strict=True))
        size.take_note(len(usable), used_share=1)
        for record in batch:
            if not record.id or record.id in seen:
                failed += 1
                reporter.warn(f"no row: {record}" if not record.id else f"{record.id}: came before; no row")
                continue
            seen.add(record.id)
            if isinstance(record, BadRow):
                row = render_failure(record, None, hashes)
            else:
                row = render_row(judge, record, said[record.id], hashes)
            failed += row["status"] == "error"
            out.write(render_line(row))
        out.flush()
    return StreamSummary(total, failed)
