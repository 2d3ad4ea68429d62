"""Answer a dataset: rows leave for the disk batch by batch, and a killed run goes on where it stopped."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import Example
from hkdcli.data.images import ImageError, LoadedImage
from hkdcli.data.prompts import build_legal_answers
from hkdcli.errors import BadRow, DataError
from hkdcli.inference.decode import Decoding, decode
from hkdcli.inference.rows import (
    Row,
    RunHashes,
    read_done_rows,
    render_failure,
    render_line,
    render_prediction,
)
from hkdcli.inference.scoring import Scorer
from hkdcli.inference.shift import Combination, ShiftWhat, combine, shifted_presentations
from hkdcli.models.fingerprints import compute_weights_hash
from hkdcli.reporter import Reporter, SilentReporter


@dataclass(frozen=True, slots=True)
class PredictSummary:
    """How it went: rows in the file, of which failed; how many were there already, and truncated now."""

    out: Path
    total: int
    failed: int
    resumed: int
    truncated: int
    prompt_hash: str

    def to_json(self) -> dict[str, str | int]:
        """The counts as a JSON object."""
        return {**asdict(self), "out": str(self.out)}


@dataclass(frozen=True, slots=True)
class Asking:
    """How each record is asked and its answer chosen; see `shift` and `decode`."""

    shifts: int | None = 1
    what: ShiftWhat = "both"
    move_none: bool = True
    combination: Combination = "log_mean"
    decoding: Decoding = "map"


def predict(
    dataset: Dataset,
    scorer: Scorer,
    *,
    out: Path,
    shifts: int | None = 1,
    resume: bool = False,
    batch_size: int = 8,
    asking: Asking | None = None,
    reporter: Reporter | None = None,
) -> PredictSummary:
    """Write one row per record, in the order of the dataset; bad rows of the dataset come last.

    Args:
        dataset: what to answer.
        scorer: model and prompt.
        out: the predictions, JSONL, replaced unless `resume`; its folder must exist.
        shifts: presentations to average per record; None: a full cycle.
        resume: go on with a file that an interrupted run left; the result is that of an uninterrupted run.
        batch_size: records at once.
        asking: everything about asking at once, instead of `shifts`.
        reporter: told of progress.

    Returns:
        Counts. `UsageError` where the rows to go on with had another prompt; `ModelError` where the model
        gives NaN, before such a row is written.
    """
    asking, reporter = asking or Asking(shifts=shifts), reporter or SilentReporter()
    hashes = _compute_hashes(scorer, asking)
    done = read_done_rows(out, hashes) if resume and out.exists() else None
    status = dict(done.status) if done else {}
    with out.open("r+b" if done else "wb") as file:
        if done:
            file.seek(done.end)
            file.truncate()
        unread = [row for row in dataset.bad_rows if row.id and row.id not in status]
        reporter.start("infer", len(dataset.examples) + len(dataset.bad_rows), len(status))
        batches = _answer_all(dataset, frozenset(status), scorer, asking, hashes, batch_size)
        failures = [render_failure(row, None, hashes) for row in unread]
        try:
            truncated = _write(file, itertools.chain(batches, [failures]), status, reporter)
        finally:
            reporter.finish()  # after an interrupt too: a bar leaves the terminal as it was
    failed = sum(value == "error" for value in status.values())
    failed += sum(not row.id for row in dataset.bad_rows)
    resumed = len(done.status) if done else 0
    return PredictSummary(out, len(status), failed, resumed, truncated, scorer.prompt_hash)


def answer_examples(
    dataset: Dataset,
    examples: Sequence[Example],
    scorer: Scorer,
    asking: Asking,
    hashes: RunHashes | None = None,
) -> list[Row]:
    """Rows for some examples, one each and in order; a record that cannot be answered fails alone.

    Args:
        dataset: where their images are.
        examples: which to answer.
        scorer: model and prompt.
        asking: how.
        hashes: of the run, for the rows; None computes them.

    Returns:
        Rows as `render_prediction` and `render_failure` make them.
    """
    hashes = hashes or _compute_hashes(scorer, asking)
    rows: dict[str, Row] = {}
    usable: list[Example] = []
    images: list[LoadedImage] = []
    for example in examples:
        try:
            images.append(dataset.images.load(example.image))
            usable.append(example)
        except ImageError as error:
            rows[example.id] = render_failure(error.row, example, hashes)
    for example, row in zip(usable, _answer(usable, images, scorer, asking, hashes), strict=True):
        rows[example.id] = row
    return [rows[example.id] for example in examples]


def _answer(
    examples: Sequence[Example],
    images: Sequence[LoadedImage],
    scorer: Scorer,
    asking: Asking,
    hashes: RunHashes,
) -> list[Row]:
    if not examples:
        return []
    shown = [
        shifted_presentations(example, asking.shifts, what=asking.what, move_none=asking.move_none)
        for example in examples
    ]
    try:
        scored = scorer.score(examples, images, shown)
    except DataError as error:
        if len(examples) == 1:
            bad = error.rows[0] if error.rows else BadRow("record.refused", examples[0].id, "", str(error))
            return [render_failure(bad, examples[0], hashes)]
        # One of them is at fault: ask them one by one, so that it fails alone.
        pairs = zip(examples, images, strict=True)
        return [row for e, image in pairs for row in _answer([e], [image], scorer, asking, hashes)]
    rows = []
    for example, orders, result in zip(examples, shown, scored, strict=True):
        combined = combine(build_legal_answers(example), result.log_probs, asking.combination)
        answer = decode(combined.posterior, asking.decoding)
        row = render_prediction(
            example,
            combined,
            answer,
            shifts=len(orders),
            truncated=result.truncated,
            hashes=hashes,
        )
        rows.append(row)
    return rows


def _answer_all(
    dataset: Dataset, done: frozenset[str], scorer: Scorer, asking: Asking, hashes: RunHashes, batch_size: int
) -> Iterator[list[Row]]:
    """Rows of the records that are not done, batch by batch.

    Batches are the same whatever is done already: the last digits depend on what is computed together, and a
    resumed run must end in the same file.
    """
    for start in range(0, len(dataset.examples), batch_size):
        batch = dataset.examples[start : start + batch_size]
        if any(example.id not in done for example in batch):
            rows = answer_examples(dataset, batch, scorer, asking, hashes)
            yield [row for row in rows if row["id"] not in done]


def _compute_hashes(scorer: Scorer, asking: Asking) -> RunHashes:
    parts = [
        compute_weights_hash(scorer.model),
        scorer.prompt_hash,
        scorer.collator.max_length,
        asdict(asking),
    ]
    run = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return RunHashes(scorer.prompt_hash, run)


def _write(file: IO[bytes], batches: Iterable[list[Row]], status: dict[str, str], reporter: Reporter) -> int:
    """Append the rows batch by batch and note their status; returns how many were truncated."""
    truncated = 0
    for rows in batches:
        file.write(b"".join(render_line(row) for row in rows))
        file.flush()
        status.update((row["id"], row["status"]) for row in rows)
        truncated += sum(row["truncated"] for row in rows)
        failed = sum(value == "error" for value in status.values())
        reporter.advance(len(status), failed=failed)
    return truncated
