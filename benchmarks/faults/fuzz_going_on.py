"""Targets that read what is gone on with: logs, teacher checks, unfinished datasets, lock files."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from fuzz_runs import empty_folder, list_names, write_files
from fuzz_targets import Seeds, Target

from hkdcli.augment.writing import open_writer
from hkdcli.distill import teacher_check
from hkdcli.distill.log import TrainLog
from hkdcli.errors import DataError, UsageError
from hkdcli.locks import hold_lock
from hkdcli.planning.costs import read_seconds_per_step
from hkdcli.reporter import SilentReporter


class _Reporter(SilentReporter):
    """Takes no warning: whatever stood in a log, the next lines can be written."""

    def warn(self, text: str) -> None:
        raise AssertionError(text)


def read_log(variant: str, content: bytes, folder: Path) -> None:
    """A log is cut back to the step that a run goes on from, and says how long steps took."""
    path = folder / "log.jsonl"
    path.write_bytes(content)
    seconds = read_seconds_per_step(folder, "base")
    assert seconds is None or isinstance(seconds, float | int)
    log = TrainLog(path, _Reporter(), level="base")
    log.begin(20)
    log.write(21, {"loss": 0.5})
    assert json.loads(path.read_bytes().splitlines()[-1])["step"] == 21


def make_logs() -> Seeds:
    rows = [{"level": "base", "step": step, "loss": 1.5, "seconds": 0.5 * step} for step in (10, 20, 30)]
    yield "file", "".join(json.dumps(row) + "\n" for row in rows).encode()


def read_found(variant: str, content: bytes, folder: Path) -> None:
    path = folder / "teacher_check.json"
    path.write_bytes(content)
    found = teacher_check._read(path, {"split": "dev", "records": 4, "quantization": "nf4"})
    if found is None:
        raise DataError("nothing was found earlier")
    assert (found["micro_f1"] > found["constant_micro_f1"]) in (True, False)


def make_found() -> Seeds:
    asked = {"split": "dev", "records": 4, "quantization": "nf4"}
    found = {"micro_f1": 0.75, "constant_micro_f1": 0.5, "agreement_unquantized": 0.9}
    yield "file", json.dumps(asked | found).encode()


def read_unfinished(variant: str, content: bytes, folder: Path) -> None:
    """A dataset of variants that was killed, gone on with."""
    target = empty_folder(folder / "variants")
    write_files(target, dict(make_unfinished()) | {variant: content})
    with open_writer(target, {"seed": 0}, (1, 1), resume=True) as writer:
        assert 0 <= writer.done <= 2
        writer.finish()


def make_unfinished() -> Seeds:
    entry: dict[str, Any] = {"task": "factuality", "class": "True", "written": True, "applied": {"flip": {}}}
    entries = [{**entry, "copy": copy, "refused": {"hue": "colour"}} for copy in (0, 1, 0)]
    yield "manifest.partial.jsonl", "".join(json.dumps(each) + "\n" for each in entries).encode()
    yield "records.partial.jsonl", b'{"id": "1"}\n{"id": "1~1"}\n{"id": "2"}\n'
    yield "unfinished.json", b'{"seed": 0}'


def read_lock_file(variant: str, content: bytes, folder: Path) -> None:
    (folder / ".lock").write_bytes(content)
    with hold_lock(folder / ".lock"):
        pass


def make_lock_files() -> Seeds:
    yield "file", json.dumps({"pid": 1, "host": socket.gethostname()}).encode()
    yield "file", b""


TARGETS = {
    "log": Target(read_log, "read_seconds_per_step", ("file",), (), make_logs),
    "teacher check": Target(read_found, "teacher_check", ("file",), (DataError,), make_found),
    "unfinished variants": Target(
        read_unfinished,
        "open_writer",
        list_names(make_unfinished()),
        (DataError, UsageError),
        make_unfinished,
    ),
    "lock file": Target(read_lock_file, "hold_lock", ("file",), (UsageError,), make_lock_files),
}
