"""The real command line in processes of its own, and ways to watch and interrupt them.

Such a process is begun by a server that has imported torch and transformers once (multiprocessing's
forkserver), so it starts in no time; all that it inherits is modules. What `python -m hkdcli` itself does
is tested in tests/cli.
"""

from __future__ import annotations

import faulthandler
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hkdcli.__main__ import main

DEADLINE_S = 900  # generous: only a process that hangs takes this long, however busy the machine
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "PYTHONFAULTHANDLER": "1",  # a process that hangs is ended by SIGABRT, and then says where it was
    # The package as this checkout has it, whatever folder the process is started in.
    "PYTHONPATH": str(Path(__file__).parents[2]),
}


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, on stdout and stderr."""

    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@contextmanager
def on_cpu() -> Iterator[None]:
    """What `ENVIRONMENT` is to other processes, for this one: the CPU, whatever the machine has."""
    with patch("torch.cuda.is_available", return_value=False):
        yield


def call_hkd(*arguments: str | Path, code: int = 0) -> Said:
    """`hkd ARGUMENTS` in this process, which is quicker: no start of Python, no import of torch."""
    out, err = io.StringIO(), io.StringIO()
    with on_cpu(), redirect_stdout(out), redirect_stderr(err):
        ended = main(list(map(str, arguments)))
    said = Said(out.getvalue(), err.getvalue())
    assert ended == code, f"exit {ended}, not {code}\n{said.out}\n{said.err}"
    assert "Traceback" not in said.err, said.err
    return said


def run_python(
    *arguments: str | Path, folder: Path, deadline_s: float = DEADLINE_S
) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` in a folder, to its end."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=deadline_s,
    )


def run_hkd(
    *arguments: str | Path, folder: Path, code: int = 0, deadline_s: float = DEADLINE_S
) -> subprocess.CompletedProcess[str]:
    """`hkd ARGUMENTS` in a folder, to its end, which is exit code `code`."""
    with tempfile.TemporaryDirectory() as name:
        out, err = Path(name, "stdout.txt"), Path(name, "stderr.txt")
        process = start_hkd(arguments, folder, out, err)
        process.join(deadline_s)
        if process.is_alive():
            process.kill()
            raise AssertionError(f"hangs\n{err.read_text()}")
        done = subprocess.CompletedProcess(arguments, process.exitcode or 0, out.read_text(), err.read_text())
    assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


def start_hkd(arguments: Sequence[str | Path], folder: Path, out: Path, err: Path) -> BaseProcess:
    """Begin `hkd ARGUMENTS` in a folder; what it says goes to two files."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["preloaded", __name__])
    # The server looks for what it imports first where Python looks, not where this process does.
    path = os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(Path(__file__).parent)])
    with patch.dict(os.environ, ENVIRONMENT | {"PYTHONPATH": path}):
        forkserver.ensure_running()
    for path in (out, err):
        path.write_bytes(b"")
    process = context.Process(target=_be_hkd, args=([str(word) for word in arguments], folder, out, err))
    process.start()
    return process


def _be_hkd(arguments: list[str], folder: Path, out: Path, err: Path) -> None:
    os.chdir(folder)
    os.environ.update(ENVIRONMENT)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY), number)
    faulthandler.enable()
    sys.exit(main(arguments))


def run_json(*arguments: str | Path, folder: Path, code: int = 0, deadline_s: float = DEADLINE_S) -> Any:
    """The one JSON document that `hkd ARGUMENTS --json` prints; anything more on stdout fails here."""
    return json.loads(run_hkd(*arguments, "--json", folder=folder, code=code, deadline_s=deadline_s).stdout)


def interrupt(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    when: Callable[[], bool],
    number: int,
    delay_s: float = 0,
) -> tuple[int, str]:
    """Start `hkd ARGUMENTS`, send it a signal `delay_s` after `when()` first holds, and wait for its end.

    A signal that it can heed waits until it has said something: before that it may not listen yet.

    Returns:
        Its return code as subprocess gives it (negative: ended by that signal), and its stderr.
    """
    said = folder / "stderr.txt"
    with heed_interrupts():
        process = start_hkd(arguments, folder, folder / "stdout.txt", said)
    try:
        must_listen = number != signal.SIGKILL
        wait_until(
            lambda: not process.is_alive() or (when() and (not must_listen or said.stat().st_size > 0))
        )
        assert process.is_alive(), f"ended before the signal\n{said.read_text()}"
        time.sleep(delay_s)  # no synchronisation: which moment of the work is hit is meant to vary
        os.kill(process.pid or 0, number)
        wait_until(lambda: not process.is_alive())
    except TimeoutError as error:
        os.kill(process.pid or 0, signal.SIGABRT)
        process.join()
        raise AssertionError(f"hangs\n{said.read_text()}") from error
    finally:
        process.kill()
        process.join()
    return process.exitcode or 0, said.read_text()


@contextmanager
def heed_interrupts() -> Iterator[None]:
    """Let processes that are started here heed SIGINT even where ours ignores it, as in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll until `holds()`; TimeoutError at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSONL file; a line that is still being written is left out."""
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]]
