"""One of two processes fails: all end, soon, with its exit code, and one of them tells why."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hkdcli.__main__ import main
from hkdcli.errors import UsageError
from hkdcli.launch import launch
from hkdcli.rank_faults import TIMEOUT_VARIABLE

PROGRAM = Path(__file__).parent / "rank_program.py"
MODULE = [sys.executable, str(PROGRAM)]


def check_one_error(said: str, *words: str) -> None:
    assert "Traceback" not in said and said.count("hint: ") <= 1, said
    for word in words:
        assert said.count(word) == 1, (word, said)


def test_r17_a_killed_process_ends_the_others_with_word_of_what_all_were_at(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch([*MODULE, "killed", str(tmp_path)], 2) == 4
    said = capfd.readouterr().err
    check_one_error(
        said, "process 0 of 2 has lost another", "process 0: step 2, ", "process 1: step 2, reading "
    )
    ids = said.partition("process 1: step 2, reading ")[2].splitlines()[0].split(", ")
    assert len(ids) == 4 and all(name.isdigit() for name in ids)


def test_a_process_that_refuses_gives_all_its_exit_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch([*MODULE, "refuses", str(tmp_path)], 2) == 3
    check_one_error(capfd.readouterr().err, "record 7 is refused")


@pytest.mark.slow
def test_r17_a_process_that_hangs_is_given_up(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIMEOUT_VARIABLE, "15")
    monkeypatch.setattr("hkdcli.launch.GRACE_S", 1.0)
    assert launch([*MODULE, "hangs", str(tmp_path)], 2) == 4
    check_one_error(capfd.readouterr().err, "has given no sign for 15 s", "process 1: step 2, reading ")


@pytest.mark.slow
def test_r01_memory_that_runs_out_in_one_process_ends_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch([*MODULE, "too-large", str(tmp_path)], 2) == 4
    check_one_error(capfd.readouterr().err, "step 2: out of memory", "hint: Lower micro_batch_size")


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["refuses", "killed"])
def test_under_torchrun_one_process_tells_too(scenario: str, tmp_path: Path) -> None:
    """Its own exit code is always 1, and it adds a report of its own."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, str(PROGRAM), scenario, str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    told = {"refuses": "record 7 is refused", "killed": "process 0 of 2 has lost another"}[scenario]
    assert done.stderr.count(told) == 1, done.stderr


def test_a_launcher_tells_of_a_process_that_nobody_else_could_miss(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are killed at once: no process is left to tell."""
    code = "import os; os.kill(os.getpid(), 9)"
    monkeypatch.setattr(
        "hkdcli.cli.launch", lambda command, count: launch([sys.executable, "-c", code], count)
    )
    monkeypatch.setattr("hkdcli.recipe_file.read_recipe", lambda path, kind, overrides: None)
    assert main(["distill-online", "recipe.yaml", "--nproc", "2"]) == 4
    check_one_error(capfd.readouterr().err, "process 0 by SIGKILL, process 1 by SIGKILL", "hint: ")


def test_a_process_that_does_not_notice_is_killed_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hkdcli.launch.GRACE_S", 0.5)
    code = "import os, sys, time; sys.exit(7) if os.environ['RANK'] == '1' else time.sleep(600)"
    started = time.monotonic()
    assert launch([sys.executable, "-c", code], 2) == 7
    assert time.monotonic() - started < 60


def test_more_processes_than_cores_are_refused_before_any_is_started() -> None:
    with pytest.raises(UsageError, match="--nproc 100000 is more than this machine has cores"):
        launch([sys.executable, "-c", "raise SystemExit(9)"], 100_000)


def test_a_wrong_recipe_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hkdcli.cli.launch", lambda command, count: pytest.fail("was started"))
    assert main(["distill-online", str(tmp_path / "absent.yaml"), "--nproc", "2"]) == 2
