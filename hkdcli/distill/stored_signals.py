"""What the upper models of stage two say, read from stores: they need not be in memory to teach."""

from __future__ import annotations

from collections.abc import Sequence

from hkdcli.data.batches import Batch
from hkdcli.data.prompts import identity_presentation
from hkdcli.distill.order import Draw
from hkdcli.distill.signal_keys import combine_record_key, compute_content_hash
from hkdcli.distill.signal_records import SignalRecord, cut_to_nothing, join_signals, list_learned_rows
from hkdcli.distill.signal_store import SignalStore
from hkdcli.distill.sources import DatasetSource
from hkdcli.distill.teacher_signal import TeacherSignal
from hkdcli.errors import BadRow, DataError


class StoredSignals:
    """Signals of stage two that were stored before.

    Args:
        stores: one per upper model.
        source: where the student's batches come from; it shows examples as they are.
    """

    def __init__(self, stores: Sequence[SignalStore], source: DatasetSource) -> None:
        self.stores, self.source = stores, source
        self._contents: dict[int, bytes] = {}

    def __call__(self, batch: Batch, draws: Sequence[Draw]) -> list[TeacherSignal]:
        """What each upper model says, examples in the order of `Batch.first`.

        Args:
            batch: the student's; its device is where the signals are wanted.
            draws: what it holds.

        Returns:
            In the order of the stores. A record that is absent, because its picture, text or order of choices
            is another than was stored, is a DataError.
        """
        rows = list_learned_rows(batch)
        keys = [self._compute_key(draws[row], batch.pixel_hashes[row]) for row in rows]
        ids = [batch.ids[row] for row in rows]
        return [join_signals(_read_all(store, keys, ids), batch) for store in self.stores]

    def _compute_key(self, draw: Draw, pixel_hash: str) -> str:
        example = self.source.dataset.examples[draw.index]
        if draw.index not in self._contents:
            self._contents[draw.index] = compute_content_hash(example)
        return combine_record_key(self._contents[draw.index], identity_presentation(example), pixel_hash)


def _read_all(store: SignalStore, keys: Sequence[str], ids: Sequence[str]) -> list[SignalRecord]:
    """The records of these keys; without keys an empty one, which says what a signal looks like."""
    absent = [name for key, name in zip(keys, ids, strict=True) if key not in store]
    if absent:
        detail = (
            "its picture, text, answer or order of choices is another than when signals were stored, or "
            "could not be read then"
        )
        raise DataError(
            f"record {absent[0]!r}: {store.folder} has no signal for it",
            [BadRow("signal.missing", name, str(store.folder), detail) for name in absent],
            hint="Undo the change, or store what is missing with --only-signals; then --resume.",
        )
    if keys:
        return [store.read(key) for key in keys]
    if not (there := store.keys()):
        hint = "Store signals with --only-signals; then --resume."
        raise DataError(f"{store.folder}: has no signals at all", hint=hint)
    return [cut_to_nothing(store.read(next(iter(there))))]
