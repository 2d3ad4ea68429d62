"""R12: a process that may open few files answers all the same, and names the limit."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command_line import call_hkd, read_rows


@contextmanager
def room_for(files: int) -> Iterator[None]:
    """So many more files than are open now may be opened; the limit is on their numbers."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = set(map(int, os.listdir("/proc/self/fd")))
    free = [number for number in range(before[0]) if number not in taken]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[files], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the open files are counted as on Linux")
def test_r12_where_no_more_files_can_be_opened_images_are_loaded_without_workers(tmp_path: Path) -> None:
    words = ("infer", "scenes:small", "scenes:test", "--limit", 6, "--batch-size", 2)
    call_hkd(*words, "--workers", 0, "--out", tmp_path / "plain")
    with room_for(6):
        said = call_hkd(*words, "--workers", 3, "--out", tmp_path / "tight").err
    assert "going on without workers" in said and "open files (ulimit -n)" in said
    assert "Too many open files" in said
    assert (tmp_path / "tight").read_bytes() == (tmp_path / "plain").read_bytes()
    assert [row["status"] for row in read_rows(tmp_path / "tight")] == ["ok"] * 6
