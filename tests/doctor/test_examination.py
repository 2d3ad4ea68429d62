"""What a check raises is what it found; what all checks come to is the exit code."""

from __future__ import annotations

from typing import Any

import pytest
from looking import look

from hkdcli.doctor.checks import Check, build_diagnosis
from hkdcli.doctor.examination import Examination, Finding
from hkdcli.errors import DataError, Interrupted, ModelError, OfflineError
from hkdcli.reporter import SilentReporter


def throw(error: BaseException) -> Any:
    raise error


def test_an_error_of_ours_is_found_in_one_line_with_its_hint() -> None:
    check = look(throw, DataError("two things:\n  one\n  two", hint="do this"))
    assert (check.status, check.found, check.hint) == ("failed", "two things:; one; two", "do this")
    assert not check.is_absent and look(throw, OfflineError("x")).is_absent


def test_an_unexpected_error_is_named_as_such_and_a_missing_package_says_what_to_install() -> None:
    check = look(throw, ZeroDivisionError("oh"))
    assert check.status == "failed" and check.found == "unexpected ZeroDivisionError: oh"
    assert "bug of ours" in check.hint
    missing = look(throw, ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow"))
    assert missing.found == "the package pyarrow is missing" and missing.hint == 'pip install "hkd[parquet]"'
    assert look(throw, MemoryError()).found.startswith("out of memory")


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted(15)])
def test_who_stops_the_command_stops_it(stop: BaseException) -> None:
    with pytest.raises(type(stop)):
        look(throw, stop)


def test_every_look_is_made_whatever_the_others_find() -> None:
    examination = Examination(SilentReporter())
    assert examination.look("a", throw, ModelError("no")) is None
    assert examination.look("b", lambda: Finding("yes", value=3)) == 3
    examination.skip(["c", "d"], "because")
    assert [each.status for each in examination.checks] == ["failed", "ok", "skipped", "skipped"]
    assert examination.has_failed("a") and not examination.has_failed("b")


def make(status: Any, *, is_absent: bool = False) -> Check:
    return Check(name="x", status=status, found="", is_absent=is_absent)


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        ([], 0),
        ([make("ok"), make("warning"), make("skipped")], 0),
        ([make("ok"), make("failed")], 3),
        ([make("failed", is_absent=True), make("warning")], 7),
        ([make("failed", is_absent=True), make("failed")], 3),
    ],
)
def test_the_exit_code_is_that_of_the_worst(checks: list[Check], code: int) -> None:
    diagnosis = build_diagnosis(None, None, checks)
    assert diagnosis.exit_code == code
    assert sum(diagnosis.counts.values()) == len(checks)
