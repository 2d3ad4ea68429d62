"""What people see, and what data cannot make them see: C09, C14, D19 and R22."""

from __future__ import annotations

import io
import json
import sys
import time

import pytest

from hkdcli.console import Console, clean_text, show_bug, show_error
from hkdcli.errors import Problem, RecipeError, UsageError
from hkdcli.outcome import Outcome, Table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> tuple[Terminal, Terminal]:
    """Pretend that a person watches; in the test itself, for pytest changes both streams before it."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    return out, err


NASTY = "[/b] [red]x[/] :smile: \x1b[31m \x07 \x9b2J \u202egnp \ud83d \r\u2028 </script>"
SAFE = "[/b] [red]x[/] :smile: \\x1b[31m \\x07 \\x9b2J \\u202egnp \\ud83d \\r\\u2028 </script>"


def test_d19_clean_text_writes_out_what_could_act() -> None:
    assert clean_text(NASTY) == SAFE
    assert clean_text("\xe9t\xe9 \u4e2d\n\tx") == "\xe9t\xe9 \u4e2d\n\tx"


def test_d19_data_is_shown_as_text_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.show(Outcome({}, [Table(NASTY, (NASTY, "n"), [(NASTY, "1")])], text=NASTY))
    console.note(NASTY)
    console.warn(NASTY)
    console.start(NASTY, 1)
    console.advance(1, **{NASTY: 1.0})
    console.finish()
    show_error(UsageError(NASTY, hint=NASTY), as_json=False)
    show_bug(RuntimeError(NASTY), as_json=False)
    said = capsys.readouterr()
    assert said.out.count(SAFE) == 4
    assert said.err.count(SAFE) >= 7
    assert "\x1b" not in said.out + said.err


def test_d19_data_is_shown_as_text_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    console = Console()
    console.start(NASTY, 2)
    console.advance(1, loss=0.5)
    console.warn(NASTY)
    console.finish()
    console.show(Outcome({}, [Table("t", ("a",), [("[/b]\x1b]0;evil\x07",)])], text=NASTY))
    out, err = (stream.getvalue() for stream in terminal)
    assert SAFE in out and SAFE in err
    assert "[/b]\\x1b]0;evil\\x07" in out
    assert "\x1b[31m \x07" not in out + err and "\u202e" not in out + err


def test_a_pipe_gets_lines_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    console = Console(clock=lambda: now_s)
    console.start("small", 100)
    for done in range(1, 101):
        now_s += 0.125
        console.advance(done, loss=1 / done, micro_f1=0.5)
    console.advance(100, loss=0.0)  # said already
    console.finish()
    assert capsys.readouterr().err.splitlines() == [
        "00:00  small  1/100  loss 1  micro_f1 0.5  eta 00:12",
        "00:05  small  41/100  loss 0.02439  micro_f1 0.5  eta 00:07",
        "00:10  small  81/100  loss 0.01235  micro_f1 0.5  eta 00:02",
        "00:12  small  100/100  loss 0.01  micro_f1 0.5",
    ]


def test_r22_what_an_earlier_process_did_says_nothing_of_the_speed_of_this_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    times = iter([0.0, 10.0])
    console = Console(clock=lambda: next(times))
    console.start("x", 100, done=90)
    console.advance(91)
    assert capsys.readouterr().err == "00:10  x  91/100  eta 01:30\n"


def test_r22_before_the_first_step_nobody_knows_how_long_it_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An evaluation before the first step, and after a resume: no time left is better than none at all."""
    times = iter([0.0, 30.0, 0.0, 30.0])
    console = Console(clock=lambda: next(times))
    for before in (0, 40):
        console.start("x", 100, done=before)
        console.advance(before, dev_micro_f1=0.5)
    said = capsys.readouterr().err.splitlines()
    assert said == ["00:30  x  0/100  dev_micro_f1 0.5", "00:30  x  40/100  dev_micro_f1 0.5"]


def test_r22_a_run_of_days_counts_hours(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 30 * 3600.0])
    console = Console(clock=lambda: next(times))
    console.start("x", 4)
    console.advance(1)
    assert capsys.readouterr().err == "30:00:00  x  1/4  eta 90:00:00\n"


def test_r22_a_clock_that_is_set_changes_no_time() -> None:
    """The console's clock is one that only grows."""
    assert Console()._clock is time.monotonic


def test_r22_long_times_have_hours(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 7265.0])
    console = Console(clock=lambda: next(times))
    console.start("x", 2)
    console.advance(1)
    assert capsys.readouterr().err == "2:01:05  x  1/2  eta 2:01:05\n"


def test_a_terminal_gets_a_bar_with_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    console = Console()
    console.start("small", 10)
    console.advance(10, loss=0.25)
    console.finish()
    assert "10/10" in terminal[1].getvalue() and "loss 0.25" in terminal[1].getvalue()
    assert terminal[0].getvalue() == ""


def test_tables_are_aligned_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Console().show(Outcome({}, [Table("Scores", ("metric", "all"), [("f1", "0.5"), ("macro_f1", "-")])]))
    assert capsys.readouterr().out == "Scores\nmetric    all\nf1        0.5\nmacro_f1  -\n"


def test_d19_a_line_break_of_the_data_makes_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    Console().show(Outcome({}, [Table("Slices", ("slice", "f1"), [("a: b\nmicro_f1\t1.000", "0.1")])]))
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3 and said[2] == r"a: b\nmicro_f1\t1.000  0.1"


def test_c14_json_is_one_document_and_all_else_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(as_json=True)
    console.warn("careful")
    console.note("so it is")
    console.start("x", 1)
    console.advance(1)
    console.finish()
    console.show(Outcome({"a": NASTY.replace("\x1b", "")}, [Table("t", ("a",), [("1",)])], text="hello"))
    said = capsys.readouterr()
    assert json.loads(said.out) == {"a": NASTY.replace("\x1b", "")}
    assert said.out.isascii()
    assert "careful" in said.err and "1/1" in said.err and "hello" not in said.err


def test_c14_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Console(as_json=True).show(Outcome({"a": float("nan")}))


def test_errors_keep_their_layout(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 200
    error = RecipeError("r.yaml", [Problem("a", long), Problem("bcd", "y")])
    show_error(error, as_json=False)
    assert capsys.readouterr().err == f"r.yaml: 2 problems\n  a    {long}\n  bcd  y\nhint: {error.hint}\n"
    assert error.hint is not None and "docs/recipes.md" in error.hint


def test_errors_are_a_document_too(capsys: pytest.CaptureFixture[str]) -> None:
    show_error(UsageError("no", hint="do"), as_json=True)
    said = capsys.readouterr()
    assert said.err == "no\nhint: do\n"
    assert json.loads(said.out) == {
        "error": {"type": "UsageError", "message": "no", "hint": "do"},
        "exit_code": 2,
    }


def test_c09_nothing_shows_a_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-secret")

    def fail(token: str) -> None:
        local = f"{token}!"
        raise RuntimeError(f"could not log in with {local}")

    try:
        fail("secret-secret")
    except RuntimeError as error:
        show_bug(error, as_json=True)
    Console().note("secret-secret")
    Console(as_json=True).show(Outcome({"token": "secret-secret"}))
    said = capsys.readouterr()
    assert "secret-secret" not in said.out + said.err
    assert "could not log in with ***!" in said.err
    assert "test_console.py" in said.err  # the traceback is there
