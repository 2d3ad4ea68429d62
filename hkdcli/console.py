"""The only module that prints.

Results go to stdout; progress, notes, warnings and errors go to stderr. With `--json` stdout gets exactly
one JSON document. A terminal gets colours, tables and a bar; a pipe gets plain lines, now and then.
Text that comes from data is shown as text: it can neither style the terminal nor command it.
"""

from __future__ import annotations

import json
import math
import sys
import time
import traceback
import unicodedata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console as RichConsole
from rich.text import Text

from hkdcli.errors import HkdError
from hkdcli.masking import mask_secrets
from hkdcli.outcome import Outcome, Table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY_S = 5.0
_KEPT_CONTROLS = "\n\t"
# Control, format (bidirectional overrides among them) and surrogate characters, and line separators.
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


class Console:
    """Shows people what happens; a `reporter.Reporter`.

    Args:
        as_json: Whether stdout is kept for one JSON document.
        clock: Seconds that only grow; tests bring their own.
    """

    def __init__(self, *, as_json: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.as_json = as_json
        self._clock = clock
        self._task = ""
        self._total = self._before = 0
        self._started_s = 0.0
        self._last_line_s = -math.inf
        self._last_done = -1
        self._bar: Progress | None = None
        self._bar_task: TaskID | None = None

    def start(self, task: str, total: int, done: int = 0) -> None:
        """Begin a piece of work of `total` units, named `task`, of which `done` were done before."""
        self._task, self._total, self._before = clean_text(task), total, done
        self._started_s, self._last_line_s, self._last_done = self._clock(), -math.inf, -1
        if is_terminal(sys.stderr):
            self._bar = _build_bar(_rich(sys.stderr))
            self._bar_task = self._bar.add_task(self._task, total=total, completed=done, figures="")
            self._bar.start()

    def advance(self, done: int, **figures: float) -> None:
        """Say that `done` units of the current task are finished, with figures to show."""
        if self._bar is not None and self._bar_task is not None:
            self._bar.update(self._bar_task, completed=done, figures=_render_figures(figures))
            return
        now_s = self._clock()
        is_news = done != self._last_done
        if now_s - self._last_line_s >= LINE_EVERY_S or (done >= self._total and is_news):
            self._last_line_s, self._last_done = now_s, done
            self._say(self._render_line(done, now_s - self._started_s, figures))

    def finish(self) -> None:
        """End the current task."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._bar_task = None, None

    def note(self, text: str) -> None:
        """Say one line that a person would want to read."""
        self._say(text)

    def warn(self, text: str) -> None:
        """Say one line that a person should act upon."""
        self._say(f"warning: {text}", style="yellow")

    def show(self, outcome: Outcome) -> None:
        """Show the result of a command: one JSON document, or text and tables."""
        if self.as_json:
            _print_json(outcome.document)
            return
        if outcome.text:
            _print(sys.stdout, outcome.text)
        for table in outcome.tables:
            _show_table(table)

    def _say(self, text: str, style: str = "") -> None:
        if self._bar is not None:
            self._bar.console.print(Text(clean_text(text), style=style), soft_wrap=True)
        else:
            _print(sys.stderr, text, style)

    def _render_line(self, done: int, elapsed_s: float, figures: Mapping[str, float]) -> str:
        here = done - self._before  # what was done before took other seconds
        parts = [_render_clock(elapsed_s), self._task, f"{done}/{self._total}", _render_figures(figures)]
        if done < self._total and here > 0:
            parts.append(f"eta {_render_clock(elapsed_s * (self._total - done) / here)}")
        return "  ".join(part for part in parts if part)


def show_error(error: HkdError, *, as_json: bool) -> None:
    """Show an error that we foresaw: what happened and what to do.

    Args:
        error: The error.
        as_json: Whether stdout gets a JSON document that says the same.
    """
    _print(sys.stderr, error.message, "bold red")
    if error.hint:
        _print(sys.stderr, f"hint: {error.hint}")
    if as_json:
        show_document_of(error)


def show_document_of(error: HkdError) -> None:
    """Print an error as the one JSON document on stdout.

    Args:
        error: The error.
    """
    said = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
    _print_json({"error": said, "exit_code": error.exit_code})


def show_bug(error: BaseException, *, as_json: bool) -> None:
    """Show an error that we did not foresee: it is ours, and this is what to report.

    Args:
        error: The exception.
        as_json: Whether stdout gets a JSON document that says the same.
    """
    summary = f"{type(error).__name__}: {error}"
    lines = traceback.format_exception(error, limit=-6)
    _print(sys.stderr, "".join(lines).rstrip())
    _print(sys.stderr, f"\nhkd stopped: {summary}", "bold red")
    _print(sys.stderr, "This is a bug of ours, not of your input. Please report it with the lines above.")
    if as_json:
        _print_json({"error": {"type": "Bug", "message": summary, "hint": None}, "exit_code": 1})


def clean_text(text: str) -> str:
    """Make a text safe to show: no secrets, no control characters.

    Args:
        text: Any text, from data perhaps.

    Returns:
        The text, with everything that could act on a terminal written out by its code.
    """
    return "".join(_write_out(character) for character in mask_secrets(text))


def is_terminal(stream: TextIO) -> bool:
    """Whether a person watches this stream on something that can draw.

    Args:
        stream: stdout or stderr.

    Returns:
        Whether bars and tables make sense there.
    """
    return stream.isatty() and not _rich(stream).is_dumb_terminal


def _write_out(character: str) -> str:
    if character in _KEPT_CONTROLS or unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape").decode("ascii")


def _rich(stream: TextIO) -> RichConsole:
    """A rich console on what `stream` is now: tests and --json change it."""
    return RichConsole(file=stream, markup=False, highlight=False, emoji=False)


def _print(stream: TextIO, text: str, style: str = "") -> None:
    _rich(stream).print(Text(clean_text(text), style=style), soft_wrap=True)


def _print_json(document: Any) -> None:
    """Print ASCII alone, so that the document survives every encoding of stdout."""
    sys.stdout.write(mask_secrets(json.dumps(document, indent=2, allow_nan=False)) + "\n")


def _clean_cell(text: str) -> str:
    """A cell on one line: a line break of the data would look like a row of the table."""
    return clean_text(text).replace("\n", "\\n").replace("\t", "\\t")


def _show_table(table: Table) -> None:
    rows = [[_clean_cell(cell) for cell in row] for row in (table.header, *table.rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    if is_terminal(sys.stdout) and (table.is_text or _leaves_numbers_whole(widths)):
        _print_rich_table(table)
        return
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    _print(sys.stdout, "\n".join([table.title, *(line.rstrip() for line in lines)]))


def _leaves_numbers_whole(widths: list[int]) -> bool:
    """Whether short columns fit into the terminal beside wrapped words; rich would cut numbers short."""
    return sum(min(width, 12) + 4 for width in widths) <= _rich(sys.stdout).width


def _print_rich_table(table: Table) -> None:
    from rich import box
    from rich.table import Table as RichTable

    drawn = RichTable(title=Text(clean_text(table.title)), title_justify="left", box=box.SIMPLE_HEAD)
    for place, name in enumerate(table.header):
        drawn.add_column(Text(_clean_cell(name)), justify="left" if table.is_text or place == 0 else "right")
    for row in table.rows:
        drawn.add_row(*(Text(_clean_cell(cell)) for cell in row))
    _rich(sys.stdout).print(drawn)


def _build_bar(console: RichConsole) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeRemainingColumn(),
        console=console,
    )


def _render_figures(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{clean_text(name)} {value:.4g}" for name, value in figures.items())


def _render_clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
