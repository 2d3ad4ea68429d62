"""From the name that a record gives its image to the bytes of a file, or to the reason why not."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from pathlib import Path

from hkdcli.data.near_misses import find_near_misses
from hkdcli.data.refusals import RefusedRowError

RETRY_WAITS_S = (0.05, 0.2, 0.8)
# What a network file system says when asking again may help.
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR}

_OPT_OUT = "--allow-outside-root permits it"
_URL = re.compile(r"(?:[a-z][a-z0-9+.-]+:)?//|(?:data|file|https?|ftp|s3|gs|blob|javascript):", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:", re.IGNORECASE)


def resolve_image(root: Path, name: str, *, allow_outside_root: bool = False) -> Path:
    """Find the real path of an image, symbolic links followed.

    Args:
        root: The folder that images must lie in.
        name: What the record calls the image: a path below `root`, with "/" between its parts.
        allow_outside_root: Let "..", absolute paths and links lead out of `root`.

    Returns:
        The real path; it need not exist.

    Raises:
        RefusedRowError: `image.url` for anything to fetch, `image.path_escape` for a way out of `root`.
    """
    shown = ascii(name[:200])
    if _URL.match(name.strip()):
        raise RefusedRowError("image.url", f"{shown} is an address; images are read from files only")
    if "\0" in name:
        raise RefusedRowError("image.path_escape", f"{shown} holds a NUL character")
    if not allow_outside_root:
        _check_inside(name, shown)
    try:
        path = Path(os.path.realpath(root / name))
        inside = path.is_relative_to(os.path.realpath(root))
    except (OSError, ValueError) as error:
        raise RefusedRowError("image.unreadable", f"{shown} is not a usable path") from error
    if not (inside or allow_outside_root):
        raise RefusedRowError("image.path_escape", f"{shown} leads out of the image folder", _OPT_OUT)
    return path


def _check_inside(name: str, shown: str) -> None:
    if "\\" in name:
        raise RefusedRowError("image.path_escape", f"{shown} holds a backslash", 'write "/" between folders')
    if name.startswith("/") or _DRIVE.match(name):
        raise RefusedRowError("image.path_escape", f"{shown} is an absolute path", _OPT_OUT)
    if ".." in name.split("/"):
        raise RefusedRowError("image.path_escape", f"{shown} leads out of the image folder", _OPT_OUT)


def read_image_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a regular file; errors of a flaky file system are tried again three times.

    Args:
        path: A real path, as `resolve_image` gives it.
        max_bytes: The largest file that is read.

    Returns:
        The content.

    Raises:
        RefusedRowError: `image.missing`, `image.not_regular`, `image.too_large`, `image.unreadable`.
    """
    waits_s = iter(RETRY_WAITS_S)
    while True:
        try:
            return _read_once(path, max_bytes)
        except FileNotFoundError:
            near = find_near_misses(path)
            hint = f"did you mean {', '.join(near)}?" if near else ""
            raise RefusedRowError("image.missing", "no such file", hint) from None
        except (OSError, ValueError) as error:
            wait_s = next(waits_s, None) if getattr(error, "errno", None) in _PASSING else None
            if wait_s is None:
                detail = getattr(error, "strerror", None) or "not a usable path"
                raise RefusedRowError("image.unreadable", detail) from error
            time.sleep(wait_s)


def _read_once(path: Path, max_bytes: int) -> bytes:
    # Asked before opening, since opening a FIFO waits for its writer; asked again on the open file,
    # which may be another by then.
    _check_regular(os.stat(path), max_bytes)
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        _check_regular(status, max_bytes)
        return file.read(status.st_size)  # takes as much memory at once


def _check_regular(status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
        raise RefusedRowError("image.not_regular", f"{kind}, not a file")
    if status.st_size > max_bytes:
        raise RefusedRowError("image.too_large", f"{status.st_size} bytes; at most {max_bytes} are read")
