"""Commands of hkd in processes that are copies of this one, so that a life is work and not the start of Python."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

DEADLINE_S = 600.0  # far beyond any of these commands: only one that hangs is still alive then
ORPHANS_S = 10.0  # how long workers of a killed process may take to notice


class HungError(RuntimeError):
    """A command did not end."""


@dataclass(frozen=True, slots=True)
class Life:
    """How one process ended: its exit code (negative: the signal), after how long, and what it said."""

    code: int
    seconds: float
    said: str


def live(
    arguments: Sequence[str],
    said: Path,
    *,
    kill_after_s: float | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> Life:
    """Run `hkd ARGUMENTS` in a copy of this process.

    Args:
        arguments: The words after hkd.
        said: A file for what it says on stdout and stderr.
        kill_after_s: SIGKILL it after so many seconds; null lets it end.
        prepare: Called in the copy before the command.

    Raises:
        HungError: it, or a process that it started, did not end in time.
    """
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _be_command(arguments, said, prepare)
    code = _await(pid, kill_after_s)
    seconds = time.monotonic() - started
    _await_orphans(pid)
    return Life(code, seconds, said.read_text(errors="replace"))


def _be_command(arguments: Sequence[str], said: Path, prepare: Callable[[], None]) -> None:
    os.setsid()
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    # The files of the process that this is a copy of may be captured, and hold what it has not written yet.
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
    code = 1
    try:
        from hkdcli.__main__ import main

        prepare()
        code = main(list(arguments))
    finally:
        os._exit(code)


def _await(pid: int, kill_after_s: float | None) -> int:
    started = time.monotonic()
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        lived_s = time.monotonic() - started
        if kill_after_s is not None and lived_s >= kill_after_s:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            return os.waitstatus_to_exitcode(status)
        if lived_s > DEADLINE_S:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise HungError(f"not ended after {DEADLINE_S:g} s")
        time.sleep(0.001)


def _await_orphans(session: int) -> None:
    """Processes that the command started must end with it, however it ended."""
    until = time.monotonic() + ORPHANS_S
    while orphans := _list_session(session):
        if time.monotonic() > until:
            os.killpg(session, signal.SIGKILL)
            raise HungError(f"{len(orphans)} processes outlive the command that started them")
        time.sleep(0.01)


def _list_session(session: int) -> list[int]:
    found = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found
