"""Filling a signal store: every example is asked about once, and a build that was killed goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from hkdcli.data.batches import Batch
from hkdcli.data.images import ImageError
from hkdcli.data.prompts import identity_presentation
from hkdcli.data.refusals import render_first_ids
from hkdcli.distill.order import Draw
from hkdcli.distill.signal_keys import compute_record_key
from hkdcli.distill.signal_records import list_learned_rows, split_signal
from hkdcli.distill.signal_store import SignalStore, StoredRecord
from hkdcli.distill.sources import DatasetSource
from hkdcli.distill.teacher_signal import TeacherSignal
from hkdcli.errors import BadRow, MachineLimitError, StoppedError
from hkdcli.ranks import collect, find_largest, sign
from hkdcli.reporter import SILENT, Reporter
from hkdcli.runtime import is_out_of_memory
from hkdcli.stopping import listen_for_stop

Ask = Callable[[Batch, Sequence[Draw]], TeacherSignal]


def build_signals(
    store: SignalStore,
    ask: Ask,
    source: DatasetSource,
    *,
    batch_size: int,
    shard: tuple[int, int] = (0, 1),
    reporter: Reporter | None = None,
    task: str = "signals",
    pixel_hashes: dict[str, str] | None = None,
) -> int:
    """Store what an upper model says about every example, as far as it is not stored yet.

    The examples are asked about in fixed chunks, and a chunk of which anything is missing is asked about as a
    whole, though only what is missing is appended: what else is in a batch decides the last bits of a number,
    so a record must not depend on where an earlier build was killed. Every picture is loaded to see whether
    it is still the one that was stored. SIGINT and SIGTERM let the chunk finish and raise StoppedError; where
    memory or disk run out, a MachineLimitError says so. What is stored stays.

    Args:
        store: where to.
        ask: what the upper model says about a batch on the CPU, on any device; not called where nothing is
            missing.
        source: batches as the upper model reads them; examples are shown as they are.
        batch_size: examples in a chunk.
        shard: (index, count): of the chunks, in turn, those of this index alone.
        reporter: told how it goes.
        task: what the reporter calls this.
        pixel_hashes: of pictures by name, as far as they are known; what is loaded is added. Several stores
            that are built from the same data can share it.

    Returns:
        How many records were appended.
    """
    reporter = reporter or SILENT
    build = _Build(store, ask, source, {} if pixel_hashes is None else pixel_hashes, task)
    starts = range(shard[0] * batch_size, source.size, shard[1] * batch_size)
    chunks = [build.plan(range(at, min(at + batch_size, source.size))) for at in starts]
    missing = [chunk for chunk in chunks if build.lacks(chunk)]
    before, added = store.describe(), 0
    if is_missing := bool(find_largest(len(missing))):
        reporter.note(f"{task}: before, {store.folder} has {before}")
        if before.damaged:
            reporter.warn(f"{task}: {before.damaged} stored records are damaged, and count as missing")
        total = sum(len(chunk.draws) for chunk in chunks)
        reporter.start(task, total, total - sum(len(chunk.draws) for chunk in missing))
        try:
            added = _append_all(build, missing, f"{shard[0] + 1}-of-{shard[1]}", total, reporter)
        finally:
            reporter.finish()
        store.refresh()  # other processes have appended to other shards
    lost = [BadRow(**row) for rows in collect([asdict(row) for row in build.lost.values()]) for row in rows]
    if lost:
        said = "; ".join(render_first_ids(lost))
        reporter.warn(f"{task}: {len(lost)} records cannot be read, and have no signal: {said}")
    end = "now" if is_missing else "complete" if shard[1] == 1 else "this share is complete"
    reporter.note(f"{task}: {end}, {store.folder} has {store.describe()}")
    return added


def _append_all(build: _Build, missing: Sequence[_Chunk], shard: str, total: int, reporter: Reporter) -> int:
    """Ask about every chunk that still lacks something, and append what was missing; returns how much.

    Processes that share the work meet after every chunk, as in training: one that is lost is noticed, and one
    that has little to do waits for the others however long they take.
    """
    added, done = 0, total - sum(len(chunk.draws) for chunk in missing)
    with build.store.write_shard(shard) as writer, listen_for_stop() as stop:
        for turn in range(find_largest(len(missing))):
            for chunk in missing[turn : turn + 1]:
                sign(turn + 1, "asking about", [build.get_id(draw) for draw in chunk.draws])
                if build.lacks(chunk):  # else another process has stored it in the meantime
                    records = build.compute(chunk)
                    writer.append(records)
                    added += len(records)
                done += len(chunk.draws)
                reporter.advance(done)
            stop.signal_number = find_largest(stop.signal_number or 0) or None
            if stop.signal_number is not None:
                raise StoppedError(
                    f"stopped; the signals of {done} of {total} records are stored in {build.store.folder}",
                    signal_number=stop.signal_number,
                    hint="The same command goes on from there; where it has begun a run, with --resume.",
                )
    return added


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Examples that are asked about together, and the keys of their records; None: unreadable picture."""

    draws: tuple[Draw, ...]
    keys: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class _Build:
    """What the steps of a build share; `lost` has the examples that could not be read, by id."""

    store: SignalStore
    ask: Ask
    source: DatasetSource
    pixel_hashes: dict[str, str]
    task: str
    lost: dict[str, BadRow] = field(default_factory=dict)

    def get_id(self, draw: Draw) -> str:
        return self.source.dataset.examples[draw.index].id

    def plan(self, indices: range) -> _Chunk:
        draws = tuple(Draw(0, index) for index in indices)
        return _Chunk(draws, tuple(map(self._find_key, draws)))

    def lacks(self, chunk: _Chunk) -> bool:
        """Whether anything is to be computed, or to be refused because it cannot be read."""
        refuses = self.source.on_bad == "error"
        return any(refuses if key is None else key not in self.store for key in chunk.keys)

    def compute(self, chunk: _Chunk) -> list[StoredRecord]:
        """Ask about all of a chunk; only what the store lacks is returned."""
        batch = self.source.load(chunk.draws)
        self.lost.update((row.id, row) for row in batch.lost)
        rows = list_learned_rows(batch)
        parts = self._ask_in_parts(batch, chunk.draws) if rows else []
        records = []
        for row, part in zip(rows, parts, strict=True):
            # The picture may be another than the plan was made with: this is the one that was seen.
            key = self._build_key(chunk.draws[row], batch.pixel_hashes[row])
            if key not in self.store:
                records.append(StoredRecord(key, batch.ids[row], part))
        return records

    def _ask_in_parts(self, batch: Batch, draws: Sequence[Draw]) -> list[dict[str, NDArray[Any]]]:
        try:
            return split_signal(self.ask(batch, draws), batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise MachineLimitError(
                f"{self.task}: out of memory with {len(draws)} records at once: {error}",
                hint="Lower micro_batch_size, or quantize this level; what is stored stays.",
            ) from error

    def _find_key(self, draw: Draw) -> str | None:
        example = self.source.dataset.examples[draw.index]
        if example.image not in self.pixel_hashes:
            try:
                self.pixel_hashes[example.image] = self.source.dataset.images.load(example.image).pixel_hash
            except ImageError as error:
                self.lost[example.id] = replace(error.row, id=example.id)
                return None
        return self._build_key(draw, self.pixel_hashes[example.image])

    def _build_key(self, draw: Draw, pixel_hash: str) -> str:
        example = self.source.dataset.examples[draw.index]
        return compute_record_key(example, identity_presentation(example), pixel_hash)
