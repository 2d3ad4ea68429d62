"""Files that are whole or absent, whatever happens in the middle of writing."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hkdcli.errors import MachineLimitError, SetupError

_ELSEWHERE = "Give another place with --out."
_REFUSALS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL),
)


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new.

    Args:
        path: The file; its folder is made if absent.
        content: All of it.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically; NaN and infinity are refused.

    Args:
        path: The file.
        value: Anything that JSON holds.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(path, text.encode())


def read_object(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; null where the file is absent, unreadable, damaged or holds anything else."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def check_writable(folder: Path, *, hint: str = _ELSEWHERE) -> None:
    """Check that a folder can be written to, or made, and leave nothing there.

    Args:
        folder: The folder, there or not.
        hint: What to do where it cannot, which `disk_errors` raises.
    """
    import tempfile  # not for `hkd --help`

    there = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    with disk_errors(folder, hint=hint), tempfile.TemporaryFile(dir=there) as file:
        file.write(b"x")
        file.flush()


def measure_free(folder: Path) -> int:
    """Free bytes on the disk where a folder is, or would be."""
    import shutil

    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


@contextmanager
def disk_errors(path: Path, *, hint: str = _ELSEWHERE) -> Iterator[None]:
    """Turn what a disk refuses into errors that say so: full (exit 4), not writable (exit 3).

    Args:
        path: What is being written.
        hint: What to do where the place cannot be written to.

    Yields:
        None: While it is written.

    Raises:
        MachineLimitError: The disk, the quota or the largest file size is reached.
        SetupError: The place cannot be written to.
        Exception: Anything else, as it came.
    """
    try:
        yield
    except Exception as error:
        number = _find_errno(error)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise MachineLimitError(
                f"{path}: no space left to write",
                hint="Free some space and try again, with --resume where the command has it.",
            ) from error
        if number in _REFUSALS:
            raise SetupError(f"{path}: cannot be written: {os.strerror(number)}", hint=hint) from error
        raise


def sync_folder(folder: Path) -> None:
    """Make sure that a rename in a folder outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _find_errno(error: Exception) -> int | None:
    """What the system said: libraries in Rust (safetensors) wrap it in an exception of their own."""
    if isinstance(error, OSError):
        return error.errno
    said = re.search(r"\(os error (\d+)\)", str(error))
    return int(said.group(1)) if said else None
