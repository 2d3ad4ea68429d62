"""The entry point: runs the command line and turns every way to end into an exit code."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from hkdcli.errors import (
    Interrupted,
    MachineLimitError,
    SetupError,
    StoppedError,
    UsageError,
)
from hkdcli.explaining import explain

OLDEST_PYTHON = (3, 11)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: What follows `hkd`; null takes it from the process.

    Returns:
        The exit code, as errors.py lists them.
    """
    is_whole_process = arguments is None
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a letter that the terminal's encoding lacks is no reason to die
            stream.reconfigure(errors="backslashreplace")
    try:
        with _interrupt_on_signals(is_last=is_whole_process):
            code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        code = 128 + signal.SIGPIPE  # as a program ends whom the signal itself ends
        _leave_stdout()
    except OSError as error:
        _leave_stdout()
        code = _end_with(_explain_output(error), as_json=False)
    return code


def _run(arguments: Sequence[str]) -> int:
    """Run one command; only trouble with stdout itself gets out."""
    as_json = "--json" in arguments
    try:
        check_python()
        from hkdcli.cli import app

        app(args=list(arguments), prog_name="hkd")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # of which typer makes an exit code of its own
            raise end.__context__ from None
        return _end_typer(end, as_json)
    except KeyboardInterrupt:
        return 130
    except Interrupted as stop:
        hint = "What was written stays; give --resume to go on, where the command has it."
        return _end_with(
            StoppedError(str(stop), signal_number=stop.signal_number, hint=hint), as_json=as_json
        )
    except BrokenPipeError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        return _end_with(error, as_json=as_json)
    return 0


@contextmanager
def _interrupt_on_signals(*, is_last: bool) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the command by an exception, so that locks and files are put in order.

    Where the command is the last thing that the process does, another one ends it at once from then on:
    Python goes on to clear up in code of others, which would say where it was interrupted.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows no handler there
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):  # another one would disturb the clearing up
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if is_last else handler)


def _open_closed_streams() -> None:
    """Let what is said on a closed stdout or stderr be lost, and no file that is opened later get its number.

    `sys.__stdout__` goes on to say that it is closed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (as long as the process)


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:2])) -> None:
    """Check that Python is new enough.

    Args:
        version: Its first two numbers.

    Raises:
        SetupError: It is too old.
    """
    if version < OLDEST_PYTHON:
        found, wanted = (".".join(map(str, numbers)) for numbers in (version, OLDEST_PYTHON))
        raise SetupError(
            f"Python {found} is too old; hkd needs {wanted} or newer",
            hint=f"Make an environment with it: python{wanted} -m venv .venv",
        )


def _end_typer(end: SystemExit, as_json: bool) -> int:
    """The code that typer ends with; it has told people about a wrong option, but no program."""
    code = end.code if isinstance(end.code, int) else int(bool(end.code))
    explain = getattr(end.__context__, "format_message", None)
    if as_json and explain is not None:
        from hkdcli.console import show_document_of

        show_document_of(UsageError(explain()))
    return code


def _end_with(error: BaseException, *, as_json: bool) -> int:
    from hkdcli.console import show_bug, show_error

    known = explain(error)
    if known is None:
        show_bug(error, as_json=as_json)
        return 1
    show_error(known, as_json=as_json)
    return known.exit_code


def _explain_output(error: OSError) -> BaseException:
    if error.errno == errno.ENOSPC:
        return MachineLimitError("no space left to write", hint="Free some space; the output is incomplete.")
    return error


def _leave_stdout() -> None:
    """Point stdout at nothing, so that Python does not stumble over it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
