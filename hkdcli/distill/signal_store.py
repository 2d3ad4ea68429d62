"""The signal store: what one upper model said, in a folder that several processes may fill at once.

FOLDER/  key.json        what every signal in it depends on; written first
         NAME.records    a shard: records that are appended, each the safetensors bytes of one example

A shard has one writer at a time; readers see all shards, also those that are being written.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hkdcli.atomic import disk_errors, write_json
from hkdcli.differences import render_differences
from hkdcli.distill.record_file import Appender, RecordFile, check_regular, make_record_file
from hkdcli.errors import DataError, UsageError
from hkdcli.locks import hold_lock

_SUFFIX = ".records"
_MOST_KEY_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One record on its way into the store: its key (sha256 hex), the example's id, its arrays."""

    key: str
    example_id: str
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class StoreSize:
    """What a store holds: records that can be read, bytes of all its shards, damaged records."""

    records: int
    bytes: int
    damaged: int

    def __str__(self) -> str:
        return f"{self.records} records, {self.bytes / 2**20:.1f} MiB"


class SignalStore:
    """The signals of one upper model; `SignalStore.open` makes one."""

    def __init__(self, folder: Path, seed: bytes) -> None:
        self.folder = folder
        self._seed = seed
        self._files: dict[str, RecordFile] = {}
        self.refresh()

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, Any]) -> SignalStore:
        """Open a store, made if absent; every checksum in it is verified.

        Args:
            folder: where it is.
            key: what its signals depend on, as `build_store_key` gives it.

        Returns:
            The store; where it exists nothing was written. `check_store` says which signals are refused.

        Raises:
            DataError: what it holds cannot be read, or its key is gone.
        """
        folder, path = Path(folder), Path(folder) / "key.json"
        if not path.exists():
            if any(folder.glob(f"*{_SUFFIX}")):
                hint = "Put the file back, or delete the folder: its signals are then computed again."
                raise DataError(f"{folder}: holds signals, but no key.json that says whose", hint=hint)
            write_json(path, key)
        check_store(folder, key)
        text = json.dumps(key, sort_keys=True, allow_nan=False)
        return cls(folder, hashlib.sha256(text.encode()).digest())

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def keys(self) -> set[str]:
        """The keys of all records."""
        return {key.hex() for file in self._files.values() for key in file}

    def read(self, key: str) -> dict[str, NDArray[Any]]:
        """Read a record.

        Args:
            key: one that the store has.

        Returns:
            Its arrays.

        Raises:
            KeyError: the store has no such record.
            DataError: it has become unreadable, or holds no tensors.
        """
        file = self._find(key)
        if file is None:
            raise KeyError(key)
        payload = file.read(bytes.fromhex(key))
        try:
            arrays: dict[str, NDArray[Any]] = load(payload)
        except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise DataError(
                f"{file.path}: record {key} holds no arrays: {ascii(str(error))[:200]}",
                hint="Delete the file: its signals are then computed again.",
            ) from error
        return arrays

    def describe(self) -> StoreSize:
        """Count what the store holds, as far as this process has looked."""
        files = self._files.values()
        return StoreSize(
            len(self.keys()), sum(file.end for file in files), sum(file.damaged for file in files)
        )

    def refresh(self) -> None:
        """Look for what other processes have appended."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if path.name in self._files:
                self._files[path.name].scan()
            else:
                self._files[path.name] = RecordFile(path, self._seed)

    @contextmanager
    def write_shard(self, name: str) -> Iterator[ShardWriter]:
        """Append to one shard, made if absent; what a killed writer left half-written is cut off.

        Args:
            name: of letters, digits and hyphens.

        Yields:
            ShardWriter: While the shard's lock is held.

        Raises:
            ValueError: it is no such name.
        """
        if not re.fullmatch(r"[A-Za-z0-9-]+", name):
            raise ValueError(f"{name!r} cannot name a shard")
        path = self.folder / f"{name}{_SUFFIX}"
        with hold_lock(self.folder / f".{name}.lock"):
            make_record_file(path)
            self.refresh()
            with self._files[path.name].open_for_append() as appender:
                yield ShardWriter(appender)

    def _find(self, key: str) -> RecordFile | None:
        raw = bytes.fromhex(key)
        return next((file for file in self._files.values() if raw in file), None)


def check_store(folder: Path, key: Mapping[str, Any]) -> None:
    """Check that a folder holds the signals of a key, or none; nothing is written.

    Args:
        folder: where they are; may be absent.
        key: what they should depend on.

    Raises:
        UsageError: it holds others; the message lists every difference.
    """
    path = folder / "key.json"
    if path.exists() and (lines := _compare_keys(path, key)):
        raise UsageError(
            "\n".join([f"{folder}: holds signals that are not those asked for; these differ", *lines]),
            hint="Give another folder with refine.store, or delete this one.",
        )


def drop_stale_store(folder: Path, key: Mapping[str, Any]) -> bool:
    """Remove a store that holds the signals of another key, or cannot be told to hold any.

    Args:
        folder: where it is; may be absent.
        key: what its signals should depend on.

    Returns:
        Whether there was one.

    Raises:
        DataError: it cannot be read at the moment, so nothing is removed.
    """
    if not folder.exists():
        return False
    try:
        if not _compare_keys(folder / "key.json", key):
            return False
    except DataError as error:
        # What cannot be read now may be read later; what is absent or no JSON never will.
        if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
            raise
    with disk_errors(folder):
        shutil.rmtree(folder)
    return True


class ShardWriter:
    """Appends to one shard of a `SignalStore`."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender

    def append(self, records: Sequence[StoredRecord]) -> None:
        """Append records; when this returns they are on the disk, and the store has them.

        Args:
            records: any number. A full disk is a MachineLimitError, and leaves the shard as it was.
        """
        self._appender.append([(bytes.fromhex(record.key), _encode(record)) for record in records])


def _encode(record: StoredRecord) -> bytes:
    # One entry of metadata alone: the order of several differs from process to process.
    said = {"id": record.example_id.encode("utf-8", "replace").decode()}
    data: bytes = save(dict(record.arrays), said)
    return data


def _compare_keys(path: Path, key: Mapping[str, Any]) -> list[str]:
    """What differs between the key on disk and this one, a line each."""
    hint = "Delete the folder: its signals are then computed again."
    check_regular(path)
    try:
        with path.open("rb") as file:
            stored = json.loads(file.read(_MOST_KEY_BYTES))
        if not isinstance(stored, dict):
            raise ValueError("it holds no JSON object")
        return render_differences(stored, key)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}", hint="Check the file and its disk."
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is damaged: {ascii(str(error))[:200]}", hint=hint) from error
