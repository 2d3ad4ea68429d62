"""One process at a time in a folder: a lock that names its owner and dies with it."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hkdcli.atomic import disk_errors
from hkdcli.errors import UsageError


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock file at `path`, which says who owns it.

    The kernel's own lock on the file decides, so the lock of a killed process on this host is free at
    once and two processes cannot both take it over. A lock written on another host cannot be judged
    from here and is respected.

    Args:
        path: The lock file; its folder exists. It is removed at the end.

    Yields:
        None: While the lock is held.
    """
    with disk_errors(path):
        descriptor = _take(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _describe_owner(descriptor)
            os.close(descriptor)
            raise UsageError(
                f"{_name_held(path)}: in use by {owner}", hint="Wait for it to end, or choose another place."
            ) from None
        if not _is_still_there(path, descriptor):  # its last owner removed it between our two calls
            os.close(descriptor)
            continue
        _refuse_other_host(path, descriptor)
        return descriptor


def _name_held(path: Path) -> Path:
    """What a lock is of: `.NAME.lock` of NAME beside it, `.lock` of its folder."""
    return path.with_name(path.name[1 : -len(".lock")]) if path.name != ".lock" else path.parent


def _is_still_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _refuse_other_host(path: Path, descriptor: int) -> None:
    host = _read_owner(descriptor).get("host", socket.gethostname())
    if host != socket.gethostname():
        owner = _describe_owner(descriptor)
        os.close(descriptor)
        raise UsageError(
            f"{_name_held(path)}: in use by {owner}", hint=f"If that process is gone, delete {path}."
        )


def _describe_owner(descriptor: int) -> str:
    owner = _read_owner(descriptor)
    return f"process {owner.get('pid', 'unknown')} on host {owner.get('host', 'unknown')}"


def _read_owner(descriptor: int) -> dict[str, object]:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
    except (ValueError, RecursionError):
        return {}
    return owner if isinstance(owner, dict) else {}
