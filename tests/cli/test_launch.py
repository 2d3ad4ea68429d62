"""Several processes of one command: how each may end, and what the command then ends with."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from hkdcli import engine
from hkdcli.__main__ import main
from hkdcli.errors import MachineLimitError, UsageError
from hkdcli.launch import launch
from hkdcli.outcome import Outcome

BY_RANK = "import os, sys; rank = int(os.environ['RANK']); "


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((0, 0), 0), ((0, 5), 5), ((5, 0), 5), ((3, 5), 3), ((5, 4), 4), ((5, 1), 1), ((0, 2), 2)],
)
def test_a_failure_outweighs_records_that_failed_elsewhere(codes: tuple[int, int], expected: int) -> None:
    """Exit code 5 says that all was done: it must not hide a process that could not go on."""
    assert launch([sys.executable, "-c", f"{BY_RANK} sys.exit({codes}[rank])"], 2) == expected


def test_a_process_that_was_killed_is_named() -> None:
    killed = f"{BY_RANK} os.kill(os.getpid(), 9 * rank)"
    with pytest.raises(MachineLimitError, match="killed from outside: process 1 by SIGKILL"):
        launch([sys.executable, "-c", killed], 2)


def test_processes_that_were_asked_to_stop_give_that_signals_code() -> None:
    stopped = f"{BY_RANK} os.kill(os.getpid(), 15)"
    assert launch([sys.executable, "-c", stopped], 2) == 128 + signal.SIGTERM


def test_more_processes_than_cores_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(UsageError, match="--nproc 3 is more than this machine has cores"):
        launch(["none"], 3)


def test_processes_are_told_what_the_command_was_less_what_it_does_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One of them calibrates, once; each gets the records as they were named."""
    done: list[object] = []
    monkeypatch.setattr(engine, "calibrate", lambda model, data, *_: done.append(data.source) or Outcome({}))
    monkeypatch.setattr(
        engine,
        "infer_in_processes",
        lambda words, count, *_, **__: done.extend([count, words]) or Outcome({}),
    )
    words = ["infer", "m", "d", "--out", str(tmp_path / "p"), "--calibrate", "dev", "--nproc", "2", "--shift"]
    assert main([*words, "--limit", "9", "--overwrite", "--json"]) == 0
    assert done == ["dev", 2, ["--out", str(tmp_path / "p"), "--limit", "9", "--shift", "--", "m", "d"]]


def test_none_is_left_when_the_launcher_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens to it: here, an error while it waits."""
    sleep = f"{BY_RANK} open(str(rank), 'w').write(str(os.getpid())); import time; time.sleep(60)"
    monkeypatch.chdir(tmp_path)

    def fail(*_: object) -> None:
        while not all((tmp_path / name).is_file() and (tmp_path / name).read_text() for name in "01"):
            os.sched_yield()
        raise ZeroDivisionError

    monkeypatch.setattr("hkdcli.launch._wait", fail)
    begun_s = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        launch([sys.executable, "-c", sleep], 2)
    assert time.monotonic() - begun_s < 50
    assert not any(Path(f"/proc/{(tmp_path / name).read_text()}").exists() for name in "01")
