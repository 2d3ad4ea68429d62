"""`hkd infer --nproc 2`: one file in the end as from one process, and no row lost, whoever is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import ENVIRONMENT, call_hkd, read_rows, wait_until

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one process to a core")
MODEL = "scenes:small"
RECORDS = 300
LONG = ("infer", MODEL, "scenes:test", "--limit", str(RECORDS), "--shift", "--batch-size", "1")


def list_parts(out: Path) -> list[Path]:
    """What is hidden beside a file, less the locks that a kill leaves: they are free."""
    return [path for path in sorted(out.parent.glob(f".{out.name}*")) if path.suffix != ".lock"]


@pytest.fixture
def broken(scenes_files: Path, tmp_path: Path) -> Path:
    """The 40 records, one with an image that is empty."""
    folder = Path(shutil.copytree(scenes_files, tmp_path / "broken"))
    (folder / "images" / "f-test-0-000005.png").write_bytes(b"")
    return folder / "records.json"


def test_two_processes_write_what_one_does_and_a_broken_image_costs_nothing_else(
    broken: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    call_hkd("infer", MODEL, broken, "--out", one, code=5)
    said = call_hkd("infer", MODEL, broken, "--out", two, "--nproc", "2", "--json", code=5)
    assert said.document == {"out": str(two), "total": 40, "failed": 1, "abstained": 0}
    rows, alone = read_rows(two), read_rows(one)
    for name in ("id", "prediction", "status", "error", "extra", "run_hash"):
        assert [row[name] for row in rows] == [row[name] for row in alone], name
    assert [row["id"] for row in rows if row["status"] == "error"] == ["f-test-0-000005"]
    assert list_parts(two) == []
    said = call_hkd("infer", MODEL, broken, "--out", two, "--nproc", "2", code=2)  # it is there
    assert "--resume" in said.err
    counts = call_hkd("infer", MODEL, broken, "--out", two, "--nproc", "2", "--resume", "--json", code=5)
    assert counts.document["resumed"] == 40 and read_rows(two) == rows


def list_children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Running, that is: one that has ended but that nobody has waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def start_long(out: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """Two processes in the middle of their work: the one that started them, and their pids."""
    words = [*map(str, LONG), "--out", str(out), "--nproc", "2"]
    with (out.parent / "stderr.txt").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "hkdcli", *words],
            cwd=out.parent,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
    parts = [out.with_name(f".{out.name}.part-{i}-of-2") for i in (1, 2)]
    children: list[int] = []
    try:
        wait_until(lambda: process.poll() is not None or all(len(read_rows(part)) > 5 for part in parts))
        assert process.poll() is None, (out.parent / "stderr.txt").read_text()
        children += list_children(process.pid)
        assert len(children) == 2
        yield process, children
        assert not any(map(is_alive, children))
    finally:
        for pid in filter(is_alive, [process.pid, *children]):
            os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What one process answers, in the order of the data."""
    out = tmp_path_factory.mktemp("alone") / "p.jsonl"
    call_hkd(*LONG, "--out", out)
    return {row["id"]: row["prediction"] for row in read_rows(out)}


def check_resumed(out: Path, alone: dict[str, list[str]]) -> None:
    """The rows that are there stay, the others come, and it ends as if nothing had been."""
    assert 10 < sum(len(read_rows(part)) for part in list_parts(out)) < RECORDS and not out.exists()
    said = call_hkd(*LONG, "--out", out, "--nproc", "2", "--resume", "--json")
    assert said.document["total"] == RECORDS and list_parts(out) == []
    rows = read_rows(out)
    assert [row["id"] for row in rows] == list(alone)
    assert {row["id"]: row["prediction"] for row in rows} == alone


@pytest.mark.slow
def test_r10_processes_end_with_the_one_that_started_them_and_are_gone_on_with(
    tmp_path: Path, alone: dict[str, list[str]]
) -> None:
    out = tmp_path / "p.jsonl"
    with start_long(out) as (process, children):
        process.kill()
        process.wait()
        wait_until(lambda: not any(map(is_alive, children)))
    check_resumed(out, alone)


@pytest.mark.slow
def test_r06_one_of_the_processes_is_killed_and_the_rest_is_kept(
    tmp_path: Path, alone: dict[str, list[str]]
) -> None:
    out = tmp_path / "p.jsonl"
    with start_long(out) as (process, children):
        os.kill(children[1], signal.SIGKILL)
        wait_until(lambda: process.poll() is not None)
    said = (tmp_path / "stderr.txt").read_text()
    assert process.returncode == 4 and "killed from outside: process 1 by SIGKILL" in said
    assert "Traceback" not in said
    check_resumed(out, alone)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_r05_a_signal_to_the_one_that_started_them_stops_all(
    tmp_path: Path, alone: dict[str, list[str]], number: signal.Signals
) -> None:
    out = tmp_path / "p.jsonl"
    with start_long(out) as (process, _):
        process.send_signal(number)
        wait_until(lambda: process.poll() is not None)
    said = (tmp_path / "stderr.txt").read_text()
    assert process.returncode == 128 + number and "Traceback" not in said, said
    check_resumed(out, alone)
