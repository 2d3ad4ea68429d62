"""`hkd --nproc N`: the same command in N processes, which train one model or share the records of a file.

torch's elastic launcher would do, but for three things: it ends the other processes as soon as one has
failed, before they can say what they were at; it turns every exit code into 1; and it reports only the first
to fail. What is left of it here is its environment, and a store that outlives every process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from hkdcli.errors import EXIT_SOME_RECORDS_FAILED, MachineLimitError, UsageError
from hkdcli.rank_faults import CLAIM, describe_signs

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

LAUNCHER_VARIABLE = "HKD_LAUNCHER"
GRACE_S = 30.0  # between the first process's failure and the end of those that do not notice
_PR_SET_PDEATHSIG = 1

Children = Sequence[subprocess.Popen[bytes]]


def launch(command: Sequence[str], count: int) -> int:
    """Run a command in processes that find each other, and wait for all of them.

    SIGINT and SIGTERM are handed on to each, once: a terminal does not reach the sessions they run in.

    Args:
        command: Program and arguments.
        count: How many processes.

    Returns:
        The exit code of the process that failed first; 0 where none has. `MachineLimitError` where a process
        was killed and none of the others could tell of it.

    Raises:
        UsageError: there are more processes than cores; each would wait for the others, and hold a copy of
            every model.
    """
    if count > (cores := os.cpu_count() or 1):
        raise UsageError(
            f"--nproc {count} is more than this machine has cores ({cores})",
            hint="Give one process to a GPU; without one, a single process uses every core.",
        )
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    children = [_start(command, rank, count, store.port) for rank in range(count)]
    try:
        with _handing_on(children):
            codes = _wait(children)
    finally:
        for child in children:
            child.kill()
            child.wait()
    return _find_code(codes, store)


def follow_launcher() -> None:
    """End, with a last checkpoint, when the launcher that started this process is killed (Linux)."""
    launcher = os.environ.get(LAUNCHER_VARIABLE)
    if launcher is not None and sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(launcher):  # it was gone before we asked
            raise SystemExit(128 + signal.SIGTERM)


def _start(command: Sequence[str], rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    environment = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count)),
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is ours: no process opens another
        LAUNCHER_VARIABLE: str(os.getpid()),
    }
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)


@contextmanager
def _handing_on(children: Children) -> Iterator[None]:
    def hand_on(number: int, frame: FrameType | None) -> None:
        for child in children:
            child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(children: Children) -> list[int | None]:
    """Exit codes, once all have ended, or one has failed and the others had time to notice."""
    failed_s = None
    while None in (codes := [child.poll() for child in children]):
        if failed_s is None and any(code not in (None, 0, EXIT_SOME_RECORDS_FAILED) for code in codes):
            failed_s = time.monotonic()
        if failed_s is not None and time.monotonic() - failed_s > GRACE_S:
            break
        time.sleep(0.05)
    return codes


def _find_code(codes: Sequence[int | None], store: Store) -> int:
    if store.check([CLAIM]):
        return int(store.get(CLAIM).decode().partition(":")[2])
    killed = {rank: -code for rank, code in enumerate(codes) if code is not None and code < 0}
    asked = set(killed.values()) & {signal.SIGINT, signal.SIGTERM}
    if asked:
        return 128 + asked.pop()
    if killed:
        names = [f"process {rank} by {signal.Signals(number).name}" for rank, number in killed.items()]
        raise MachineLimitError(
            f"killed from outside: {', '.join(names)}\n{describe_signs(store, len(codes))}",
            hint="This is often a want of memory: use smaller batches or fewer processes.",
        )
    ended = [code or 0 for code in codes]
    # Some records that failed in one process are nothing beside another that could not go on.
    return next((code for code in ended if code not in (0, EXIT_SOME_RECORDS_FAILED)), max(ended))
