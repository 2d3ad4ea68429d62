"""R06: `hkd infer` killed at any moment and resumed ends in the bytes of a run that nothing interrupted."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from command_line import ENVIRONMENT, call_hkd, on_cpu, read_rows

from hkdcli.__main__ import main
from hkdcli.inference import predict, row_files

RECORDS = 40
KILLS = 12


def infer(out: Path, *options: str, records: int = RECORDS) -> list[str]:
    words = ["infer", "scenes:small", "scenes:test", "--limit", str(records), "--shift", "--batch-size", "2"]
    return [*words, "--out", str(out), *options]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What nothing interrupted; read only."""
    out = tmp_path_factory.mktemp("whole") / "p.jsonl"
    call_hkd(*infer(out))
    assert len(read_rows(out)) == RECORDS
    return out


def run_and_die(out: Path, prepare: Callable[[pytest.MonkeyPatch], None], *options: str) -> None:
    """`hkd infer` in a copy of this process, which is made to be killed somewhere on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork: this one needs no other thread
        pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        prepare(pytest.MonkeyPatch())
        with on_cpu():
            os._exit(main(infer(out, *options)))
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_written(patch: pytest.MonkeyPatch) -> None:
    """The file in order is written to the half."""

    def cut(descriptor: int) -> None:
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
        die()

    patch.setattr(row_files.os, "fsync", cut)


def die_before_replacing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Path, "replace", die)


def die_after_replacing(patch: pytest.MonkeyPatch) -> None:
    def replace(path: Path, target: Path) -> None:
        os.replace(path, target)
        die()

    patch.setattr(Path, "replace", replace)


@pytest.mark.parametrize("when", [die_half_written, die_before_replacing, die_after_replacing])
def test_r06_killed_while_rows_are_put_in_order(
    whole: Path, tmp_path: Path, when: Callable[[pytest.MonkeyPatch], None]
) -> None:
    out = tmp_path / "p.jsonl"
    run_and_die(out, when)
    ids = [row["id"] for row in read_rows(out)]
    assert len(set(ids)) == len(ids) == RECORDS
    assert (ids == [row["id"] for row in read_rows(whole)]) == (when is die_after_replacing)
    resumed = call_hkd(*infer(out, "--resume"), "--json").document["resumed"]
    assert resumed == RECORDS and out.read_bytes() == whole.read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def die_in_batch(number: int, cut: int) -> Callable[[pytest.MonkeyPatch], None]:
    """When so many batches are written, the last of them without its last `cut` bytes."""

    def prepare(patch: pytest.MonkeyPatch) -> None:
        append, left = predict._append, [number]

        def write(file: IO[bytes], *given: Any) -> None:
            append(file, *given)
            left[0] -= 1
            if not left[0]:
                os.ftruncate(file.fileno(), file.tell() - cut)
                die()

        patch.setattr(predict, "_append", write)

    return prepare


def test_r06_killed_again_and_again_while_rows_are_written(whole: Path, tmp_path: Path) -> None:
    """Wherever in a row that is; what one life has written whole, no later one loses."""
    out, chance, seen = tmp_path / "p.jsonl", random.Random(6), [0]
    for _ in range(5):
        run_and_die(out, die_in_batch(chance.randrange(1, 4), chance.randrange(900)), "--resume")
        seen.append(len(read_rows(out)))
    assert seen == sorted(seen) and 0 < seen[-1] < RECORDS
    counts = call_hkd(*infer(out, "--resume"), "--json").document
    assert counts["resumed"] == seen[-1] and out.read_bytes() == whole.read_bytes()


@pytest.mark.slow
def test_r06_killed_at_any_moment_of_its_life(tmp_path: Path) -> None:
    """Twelve kills, spread over the time that a whole run takes: its start, its work and its end."""
    whole, out, chance = tmp_path / "whole.jsonl", tmp_path / "p.jsonl", random.Random(66)

    def start(path: Path, *options: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "hkdcli", *infer(path, *options, records=300)]
        return subprocess.Popen(
            words, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    begun_s = time.monotonic()
    assert start(whole).wait() == 0
    life_s = time.monotonic() - begun_s
    killed, seen = 0, []
    while killed < KILLS:
        process = start(out, "--resume")
        time.sleep(chance.uniform(0, 1.1 * life_s))  # no synchronisation: any moment is meant
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        seen.append(len(read_rows(out)))
        if process.returncode == 0:  # it was through before: the next one begins anew
            assert out.read_bytes() == whole.read_bytes()
            out.unlink()
    assert max(seen) > 0
    assert start(out, "--resume").wait() == 0
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(tmp_path.iterdir()) == [out, whole]
