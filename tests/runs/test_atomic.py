"""Files are whole or absent."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hkdcli.atomic import disk_errors, write_atomic, write_json
from hkdcli.errors import MachineLimitError, SetupError


def test_write_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "x", b"old")
    write_atomic(tmp_path / "a" / "x", b"new")
    assert (tmp_path / "a" / "x").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


def test_a_failed_write_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic(tmp_path / "x", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MachineLimitError, match="no space left"):
        write_atomic(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_an_unwritable_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "x", b"")
    with pytest.raises(SetupError, match="cannot be written"), disk_errors(Path("/proc/nope")):
        Path("/proc/nope").mkdir()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_r03_a_full_disk_is_known_behind_the_exception_of_a_library(number: int) -> None:
    class SafetensorError(Exception):
        pass

    said = f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})"
    with pytest.raises(MachineLimitError, match="no space left"), disk_errors(Path("x")):
        raise SafetensorError(said)
    with pytest.raises(SafetensorError, match="other"), disk_errors(Path("x")):
        raise SafetensorError("other")


def test_other_disk_errors_pass() -> None:
    with pytest.raises(OSError, match="strange"), disk_errors(Path("x")):
        raise OSError(errno.EIO, "strange")


def test_json_has_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"\xe9t\xe9": 1})
    assert (tmp_path / "x.json").read_text("utf-8") == '{\n  "\xe9t\xe9": 1\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", float("nan"))
