"""Every way `hkd` can refuse to go on, and the exit code each one ends with.

    HkdError                     1   a bug of ours unless a subclass says otherwise
    |-- UsageError               2   an option or argument cannot be used
    |   `-- RecipeError          2   the recipe cannot be used; carries every problem found
    |-- RefusedError             3   something that came in from outside is refused
    |   |-- DataError            3   records or images; carries every bad row
    |   |-- ModelError           3   a model folder, adapter or tokenizer
    |   `-- SetupError           3   a missing package, unusable device or folder
    |-- MachineLimitError        4   memory, disk or GPU ran out
    |-- GateError                6   a quality gate was not met
    |-- OfflineError             7   a needed file is absent while offline
    `-- StoppedError     130 / 143   stopped by a signal after a safe save

Exit code 5 is no exception: the work finished and some records failed. Interrupted (130 / 143) is no
Exception either: a signal that stops at once passes everything that catches failures.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

EXIT_SOME_RECORDS_FAILED = 5


class HkdError(Exception):
    """Base of every error that a user may see: what happened, and what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(HkdError):
    """An option or argument cannot be used."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a recipe: its dotted key (may be empty) and what is wrong."""

    key: str
    detail: str


class RecipeError(UsageError):
    """A recipe cannot be used; every problem found in it is reported together."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        count = f"{len(problems)} problem" + ("" if len(problems) == 1 else "s")
        width = max((len(problem.key) for problem in problems), default=0)
        lines = [f"  {problem.key:<{width}}  {problem.detail}".rstrip() for problem in problems]
        hint = "Correct the recipe, or the KEY=VALUE behind it; docs/recipes.md describes every key."
        super().__init__("\n".join([f"{source}: {count}", *lines]), hint=hint)
        self.source = source
        self.problems = tuple(problems)


class RefusedError(HkdError):
    """Something that came in from outside is refused."""

    exit_code = 3


@dataclass(frozen=True, slots=True)
class BadRow:
    """One record or image that cannot be used.

    `code` is stable (`image.truncated`, `record.unknown_answer`); `id` is the record's id or
    "" where it has none; `path` is `file`, `file:line` or `file:line:column`.
    """

    code: str
    id: str
    path: str
    detail: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.path} [{self.id}]".lstrip() if self.id else self.path
        return f"{where}: {self.code}: {self.detail}" + (f" ({self.hint})" if self.hint else "")


class DataError(RefusedError):
    """Records or images are refused; carries every bad row, prints the first 20 and counts."""

    def __init__(self, message: str, rows: Sequence[BadRow] = (), *, hint: str | None = None) -> None:
        counts: dict[str, int] = {}
        for row in rows:
            counts[row.code] = counts.get(row.code, 0) + 1
        lines = [message, *(f"  {row}" for row in rows[:20])]
        if len(rows) > 20:
            lines.append(f"  ... and {len(rows) - 20} more")
        if len(rows) > 1:
            lines.append("  counts: " + ", ".join(f"{code} {n}" for code, n in sorted(counts.items())))
        super().__init__("\n".join(lines), hint=hint)
        self.rows = tuple(rows)


class ModelError(RefusedError):
    """A model folder, adapter or tokenizer is refused."""


class SetupError(RefusedError):
    """A missing package, an unusable device or an unwritable folder."""


class MachineLimitError(HkdError):
    """Memory, disk or GPU ran out."""

    exit_code = 4


class GateError(HkdError):
    """A quality gate was not met."""

    exit_code = 6


class OfflineError(HkdError):
    """A needed file is absent while offline."""

    exit_code = 7


class StoppedError(HkdError):
    """Stopped by a signal, nothing half-done: 130 for SIGINT, 143 for SIGTERM."""

    def __init__(self, message: str, *, signal_number: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = 128 + signal_number


class Interrupted(BaseException):
    """A signal that stops at once: no Exception, lest someone on the way up takes it for a failure.

    Args:
        signal_number: SIGINT or SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped at once by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number
