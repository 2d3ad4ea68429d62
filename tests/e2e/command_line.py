"""The real command line in processes of its own, and ways to watch and interrupt them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
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
    done = run_python("-m", "hkdcli", *arguments, folder=folder, deadline_s=deadline_s)
    assert done.returncode == code, f"exit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


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

    Returns:
        Its return code as subprocess gives it (negative: ended by that signal), and its stderr.
    """
    said = folder / "stderr.txt"
    with said.open("w") as file, heed_interrupts():
        process = subprocess.Popen(
            [sys.executable, "-m", "hkdcli", *map(str, arguments)],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=file,
        )
    try:
        wait_until(lambda: process.poll() is not None or when())
        assert process.poll() is None, f"ended before the signal\n{said.read_text()}"
        time.sleep(delay_s)  # no synchronisation: which moment of the work is hit is meant to vary
        process.send_signal(number)
        wait_until(lambda: process.poll() is not None)
    except TimeoutError as error:
        process.send_signal(signal.SIGABRT)
        process.wait()
        raise AssertionError(f"hangs\n{said.read_text()}") from error
    finally:
        process.kill()
        process.wait()
    return process.returncode, said.read_text()


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
        time.sleep(0.002)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSONL file; a line that is still being written is left out."""
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]]
