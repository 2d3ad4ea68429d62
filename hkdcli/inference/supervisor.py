"""Runs an engine that dies with the process that asked for it: `supervisor.py PARENT_PID COMMAND ...`.

Who starts it holds the other end of its standard input and writes nothing there: the end of that file means
that nobody wants the engine any more. The engine is the leader of a process group of its own, so that its
children end with it, and so that Ctrl-C in the terminal reaches neither.

It is run as a file and imports nothing of hkdcli: it starts at once, whatever the import path. Linux, macOS.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

TICK_S = 0.2
GRACE_S = 10.0  # between SIGTERM and SIGKILL
CANNOT_RUN = 127
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: Sequence[str]) -> int:
    """Run a command until it ends or nobody wants it, and leave none of its process group behind.

    Args:
        arguments: process id of the parent, then the command with its arguments.

    Returns:
        The exit code of the command, 128 + signal where one ended it, 127 where it cannot be run.
    """
    parent, command = int(arguments[0]), arguments[1:]
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: _note(told, number, frame))
    _adopt_orphans()
    try:
        engine = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    except OSError as error:
        print(f"{command[0]}: cannot be run: {error}", file=sys.stderr)
        return CANNOT_RUN
    while engine.poll() is None and not told and not _is_abandoned(parent):
        pass
    _end_group(engine)
    code = engine.wait()
    return code if code >= 0 else 128 - code


def _note(told: list[int], number: int, frame: FrameType | None) -> None:
    told.append(number)


def _adopt_orphans() -> None:
    """Have what the engine leaves behind (Linux): in a container often nobody else would take it away."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _is_abandoned(parent: int) -> bool:
    """Wait a moment; whether the parent has let go or is gone."""
    readable, _, _ = select.select([0], [], [], TICK_S)
    # A worker that the parent has forked holds the pipe too, and may live a little longer.
    return bool(readable and not os.read(0, 1)) or os.getppid() != parent


def _end_group(engine: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the engine's group, SIGKILL to what is left of it after `GRACE_S`."""
    deadline = time.monotonic() + GRACE_S
    alive = _signal_group(engine, signal.SIGTERM)
    while alive and time.monotonic() < deadline:
        time.sleep(0.05)
        _reap(engine)
        alive = _signal_group(engine, 0)
    if alive:
        _signal_group(engine, signal.SIGKILL)


def _reap(engine: subprocess.Popen[bytes]) -> None:
    if engine.poll() is not None:
        with suppress(ChildProcessError):
            while os.waitpid(-engine.pid, os.WNOHANG)[0]:
                pass


def _signal_group(engine: subprocess.Popen[bytes], number: int) -> bool:
    """Whether there was anybody to take the signal."""
    try:
        os.killpg(engine.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS: a group of nothing but zombies
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
