"""The place of an export: refused, replaced, and whole whenever the process ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hkdcli.checkpoints import is_complete
from hkdcli.errors import UsageError
from hkdcli.exporting.replacing import check_place, hold_place, publish_export

HANGS = """
import sys, time
from pathlib import Path
from hkdcli.exporting.replacing import publish_export
def write(folder):
    (folder / "half").write_text("x")
    print("writing", flush=True)
    time.sleep(600)
publish_export(Path(sys.argv[1]), write)
"""


def write_card(text: str):
    return lambda folder: (folder / "README.md").write_text(text)


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def check(out: Path, *sources: Path, overwrite: bool = False) -> None:
    check_place(out, sources, card="README.md", overwrite=overwrite)


def test_what_is_there_stays_unless_it_is_an_export_and_overwrite_is_given(tmp_path):
    out = tmp_path / "out"
    check(out)
    publish_export(out, write_card("one"))
    assert is_complete(out)
    with pytest.raises(UsageError, match="exists already"):
        check(out)
    check(out, tmp_path, overwrite=True)
    publish_export(out, write_card("two"))
    assert (out / "README.md").read_text() == "two" and list_names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["file", "folder", "unsealed", "link"])
def test_what_is_no_export_is_never_replaced(tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        publish_export(tmp_path / "there", write_card("x"))
        out.symlink_to(tmp_path / "there")
    else:
        out.mkdir()
        (out / ("README.md" if kind == "unsealed" else "thesis.txt")).write_text("mine")
    with pytest.raises(UsageError, match="no exported folder"):
        check(out, overwrite=True)


@pytest.mark.parametrize("source", ["out", "out/student"])
def test_the_source_is_never_replaced_by_its_own_export(tmp_path, source):
    publish_export(tmp_path / "out", write_card("x"))
    with pytest.raises(UsageError, match="comes from there itself"):
        check(tmp_path / "out", tmp_path / "elsewhere", tmp_path / source, overwrite=True)


def test_a_killed_export_leaves_no_folder_and_the_next_one_clears_what_it_left(tmp_path):
    out = tmp_path / "out"
    child = subprocess.Popen([sys.executable, "-c", HANGS, str(out)], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert not out.exists() and list_names(tmp_path) != []
    publish_export(out, write_card("whole"))
    assert list_names(tmp_path) == ["out"] and list_names(out) == ["MANIFEST.json", "README.md"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_export_leaves_what_was_there(tmp_path, error):
    out = tmp_path / "out"
    publish_export(out, write_card("old"))

    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise error

    with pytest.raises(error):
        publish_export(out, fail)
    assert (out / "README.md").read_text() == "old" and list_names(tmp_path) == ["out"]


@pytest.mark.parametrize("survives", [0, 1])
def test_a_kill_between_the_two_renames_loses_neither_folder(tmp_path, monkeypatch, survives):
    out, real, calls = tmp_path / "out", Path.rename, []
    publish_export(out, write_card("old"))

    def rename(self: Path, target: Path) -> Path:
        if self.name in ("out", ".new-out"):
            if len(calls) == survives:
                raise KeyboardInterrupt
            calls.append(self)
        return real(self, target)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", rename)
        publish_export(out, write_card("new"))
    kept = {(path / "README.md").read_text() for path in tmp_path.iterdir() if is_complete(path)}
    assert kept == {"old", "new"} and out.exists() == (survives == 0)
    publish_export(out, write_card("newer"))
    assert (out / "README.md").read_text() == "newer" and list_names(tmp_path) == ["out"]


@pytest.mark.parametrize("place", ["/", "/x/.."])
def test_a_place_without_a_name_is_refused(place):
    with pytest.raises(UsageError, match="no place for a folder"), hold_place(Path(place)):
        pass


def test_two_exports_to_one_place_do_not_meet(tmp_path):
    out = tmp_path / "new" / "out"
    with hold_place(out), pytest.raises(UsageError, match="in use by"), hold_place(out):
        time.sleep(0)
    assert list_names(out.parent) == []
