"""One append-only file of records that survives whatever happens while it is written.

FILE    header | payload | header | payload | ...
header  magic [8], crc32 of the rest of the header [4], payload bytes [8], key [32], sha256 [32]

The sha256 is over seed, length, key and payload; the seed says what all records of a file depend on, so that
records of another origin never count. Whatever stands in a file, reading ends in records whose sha256 holds
or in a DataError, and holds no more in memory at once than one record.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
import weakref
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hkdcli.atomic import disk_errors, sync_folder
from hkdcli.errors import DataError

KEY_BYTES = 32

_MAGIC = b"hkdsig1\n"
_CORE = struct.Struct(f"<Q{KEY_BYTES}s")  # payload bytes, key
_HEADER_BYTES = len(_MAGIC) + 4 + _CORE.size + 32
_PIECE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class _Header:
    length: int
    key: bytes
    checksum: bytes


class RecordFile:
    """A file of records, open for reading; another process may be appending to it.

    Args:
        path: the file; it exists.
        seed: what all its records depend on.

    Attributes:
        end: where the whole records end, in bytes.
        damaged: records in the middle whose checksum does not hold, and stretches that are no records.
    """

    def __init__(self, path: Path, seed: bytes) -> None:
        self.path, self.seed = path, seed
        self.end = self.damaged = 0
        self._places: dict[bytes, tuple[int, int]] = {}  # key -> offset of the header, bytes with the header
        check_regular(path)
        with _read_errors(path):
            self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        self.scan()

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._places)

    def scan(self) -> None:
        """Find the records that were appended since the last scan; of two with one key the last counts."""
        with _read_errors(self.path), self.path.open("rb", buffering=_PIECE_BYTES) as file:
            size = os.fstat(file.fileno()).st_size
            self._scan_run(file, size)
            while (start := self._find_record(file, size)) is not None:
                self.damaged, self.end = self.damaged + 1, start
                self._scan_run(file, size)

    def read(self, key: bytes) -> bytes:
        """Read the payload of a record.

        Args:
            key: one that the file has.

        Returns:
            The payload.

        Raises:
            DataError: the record is no longer as it was when it was found.
        """
        offset, size = self._places[key]
        with _read_errors(self.path):
            data = os.pread(self._descriptor, size, offset)
        header, payload = _parse_header(data[:_HEADER_BYTES]), data[_HEADER_BYTES:]
        if header is None or header.key != key or header.checksum != _hash(self.seed, header, [payload]):
            raise DataError(
                f"{self.path}: the record at byte {offset} was damaged while the file was in use",
                hint="Check the disk, then store what is missing again.",
            )
        return payload

    def _scan_run(self, file: BinaryIO, size: int) -> None:
        """Read on from `end`, record by record, to the first place that is none."""
        file.seek(self.end)
        while (header := _parse_header(file.read(_HEADER_BYTES))) is not None:
            after = self.end + _HEADER_BYTES + header.length
            if after > size:
                return
            holds = _hash_payload(file, header, self.seed) == header.checksum
            if not holds and after == size:  # half written, or half on the disk when the power went
                return
            self._count(header.key, after, holds)

    def _find_record(self, file: BinaryIO, size: int) -> int | None:
        """Where the next whole record begins behind a damaged header; None: there is no more."""
        if self.end + _HEADER_BYTES >= size:
            return None
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as view:
            start = view.find(_MAGIC, self.end + 1)
            while start >= 0:
                header = _parse_header(view[start : start + _HEADER_BYTES])
                after = start + 1
                if header is not None and start + _HEADER_BYTES + header.length <= size:
                    file.seek(start + _HEADER_BYTES)
                    if _hash_payload(file, header, self.seed) == header.checksum:
                        return start
                    after = start + _HEADER_BYTES + header.length  # as in a run: so no byte is hashed twice
                start = view.find(_MAGIC, after)
        return None

    def _count(self, key: bytes, after: int, holds: bool) -> None:
        if holds:
            self._places[key] = (self.end, after - self.end)
        else:
            self.damaged += 1
        self.end = after

    @contextmanager
    def open_for_append(self) -> Iterator[Appender]:
        """Open for appending, which only the holder of the file's lock may do; what is torn goes first.

        Yields:
            Appender: Appends to the file; what it appended can be read here at once.
        """
        with disk_errors(self.path):
            descriptor = os.open(self.path, os.O_WRONLY)
        try:
            self.scan()
            with disk_errors(self.path):
                os.ftruncate(descriptor, self.end)
            yield Appender(self, descriptor)
        finally:
            os.close(descriptor)


class Appender:
    """Appends records to a `RecordFile`."""

    def __init__(self, file: RecordFile, descriptor: int) -> None:
        self._file, self._descriptor = file, descriptor

    def append(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Append records; when this returns they are on the disk.

        When it fails, the file is cut back to what it was.

        Args:
            records: (key, payload) pairs.

        Raises:
            BaseException: What went wrong; a full disk is a MachineLimitError.
        """
        file = self._file
        blocks = [_build_block(key, payload, file.seed) for key, payload in records]
        try:
            with disk_errors(file.path):
                _write_all(self._descriptor, b"".join(blocks), file.end)
                os.fsync(self._descriptor)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._descriptor, file.end)
            raise
        for (key, _), block in zip(records, blocks, strict=True):
            file._count(key, file.end + len(block), holds=True)


def check_regular(path: Path) -> None:
    """Refuse what is there and no regular file: to open a pipe waits for ever; raises DataError."""
    with _read_errors(path):
        if path.exists() and not path.is_file():
            raise DataError(
                f"{path}: is no regular file", hint="Remove it: its signals are then computed again."
            )


def make_record_file(path: Path) -> None:
    """Make an empty file of records, unless there is one."""
    with disk_errors(path):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644))
        sync_folder(path.parent)


def _build_block(key: bytes, payload: bytes, seed: bytes) -> bytes:
    core = _CORE.pack(len(payload), key)
    rest = core + _hash(seed, _Header(len(payload), key, b""), [payload])
    return _MAGIC + struct.pack("<I", zlib.crc32(rest)) + rest + payload


def _parse_header(data: bytes) -> _Header | None:
    """None where these bytes are no header: too few, or damaged."""
    rest = data[len(_MAGIC) + 4 :]
    if len(data) != _HEADER_BYTES or data[: -len(rest)] != _MAGIC + struct.pack("<I", zlib.crc32(rest)):
        return None
    length, key = _CORE.unpack(rest[: _CORE.size])
    return _Header(length, key, rest[_CORE.size :])


def _hash_payload(file: BinaryIO, header: _Header, seed: bytes) -> bytes:
    """Read past a payload, piece by piece, however long its header says that it is."""

    def read_pieces() -> Iterator[bytes]:
        left = header.length
        while left and (piece := file.read(min(left, _PIECE_BYTES))):
            left -= len(piece)
            yield piece

    return _hash(seed, header, read_pieces())


def _hash(seed: bytes, header: _Header, pieces: Iterator[bytes] | Sequence[bytes]) -> bytes:
    digest = hashlib.sha256(seed + _CORE.pack(header.length, header.key))
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}", hint="Check the file and its disk."
        ) from error
