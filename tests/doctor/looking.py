"""One look, and examinations as tests read them."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hkdcli.doctor import environment
from hkdcli.doctor.checks import Check
from hkdcli.doctor.examination import Examination, Finding
from hkdcli.reporter import SilentReporter


def look(function: Callable[..., Finding], *given: Any, **named: Any) -> Check:
    """What a look comes to, exceptions included."""
    examination = Examination(SilentReporter())
    examination.look("x", function, *given, **named)
    return examination.checks[0]


def examine(function: Callable[..., Any], *given: Any, **named: Any) -> Mapping[str, Check]:
    """The checks of an examination by name; each name once."""
    examination = Examination(SilentReporter())
    function(examination, *given, **named)
    checks = {check.name: check for check in examination.checks}
    assert len(checks) == len(examination.checks)
    return checks


def list_wrong(checks: Mapping[str, Check]) -> dict[str, str]:
    """Name -> status of what is neither ok nor skipped."""
    return {name: each.status for name, each in checks.items() if each.status in ("warning", "failed")}


@contextmanager
def unwritable_folder() -> Iterator[Path]:
    """A folder that this process may read and not write; root may write whatever the mode says."""
    before = os.geteuid()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "readonly"
        folder.mkdir()
        Path(place).chmod(0o755)
        folder.chmod(0o555)
        try:
            if before == 0:
                os.seteuid(65534)
            yield folder
        finally:
            os.seteuid(before)
            folder.chmod(0o755)


def break_import(monkeypatch: pytest.MonkeyPatch, package: str, error: Exception) -> None:
    """Let a package be there and fail when the doctor imports it."""

    def import_module(name: str) -> object:
        if name == package:
            raise error
        return importlib.import_module(name)

    broken = SimpleNamespace(import_module=import_module, util=importlib.util)
    monkeypatch.setattr(environment, "importlib", broken)
