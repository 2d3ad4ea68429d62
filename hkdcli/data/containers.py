"""Files and folders of records: which form one has, told from its bytes, and its raw rows."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from hkdcli.data.columns import is_arrow_folder, iterate_arrow_folder, iterate_parquet
from hkdcli.data.json_text import Row, decode_text, iterate_json
from hkdcli.data.near_misses import find_near_misses
from hkdcli.errors import BadRow, DataError

MAX_FILE_BYTES = 2 * 2**30

_PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstandard", b"BZh": "bzip2"}


def iterate_rows(path: Path, encoding: str = "utf-8") -> Iterator[Row | BadRow]:
    """Yield the raw records of a file of JSON, JSONL or Parquet, or of a `save_to_disk` folder.

    A form whose package is not installed raises SetupError.

    Args:
        path: The file or folder.
        encoding: Of JSON text; a byte order mark is read past.

    Yields:
        Row | BadRow: A Row per record, or a BadRow for one that cannot be decoded on its own.

    Raises:
        DataError: The whole file is unusable (absent, another format, a cut JSON array).
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise DataError("no records here", [_explain_missing(path, error)]) from None
    if stat.S_ISDIR(status.st_mode):
        if not is_arrow_folder(path):
            detail = "a folder, not a file of records nor a datasets.save_to_disk folder"
            raise DataError("no records here", [BadRow("data.format", "", str(path), detail)])
        yield from iterate_arrow_folder(path)
        return
    if not stat.S_ISREG(status.st_mode):
        raise DataError("no records here", [BadRow("data.not_regular", "", str(path), "not a regular file")])
    if status.st_size > MAX_FILE_BYTES:
        detail = f"{status.st_size} bytes; at most {MAX_FILE_BYTES} are read"
        raise DataError(
            "the file is too large", [BadRow("data.too_large", "", str(path), detail, "split the file")]
        )
    yield from _iterate_file(path, status.st_size, encoding)


def _iterate_file(path: Path, size: int, encoding: str) -> Iterator[Row | BadRow]:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            data = b"" if magic == b"PAR1" else magic + file.read(size)  # takes as much memory at once
    except OSError as error:
        detail = error.strerror or type(error).__name__
        raise DataError(
            "the file cannot be read", [BadRow("data.unreadable", "", str(path), detail)]
        ) from error
    if magic == b"PAR1":
        yield from iterate_parquet(path)
        return
    for opening, name in _PACKED.items():
        if magic.startswith(opening):
            row = BadRow("data.format", "", str(path), f"packed with {name}", "unpack it first")
            raise DataError("no records here", [row])
    yield from iterate_json(decode_text(data, str(path), encoding), str(path))


def _explain_missing(path: Path, error: OSError | ValueError) -> BadRow:
    if isinstance(error, FileNotFoundError):
        near = find_near_misses(path)
        hint = f"did you mean {', '.join(near)}?" if near else ""
        return BadRow("data.missing", "", str(path), "does not exist", hint)
    detail = getattr(error, "strerror", None) or "not a usable path"
    return BadRow("data.unreadable", "", ascii(str(path)), detail)
