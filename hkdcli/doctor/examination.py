"""Checks are made one after another, and none ends the others: what a check raises is what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hkdcli.doctor.checks import Check, Status
from hkdcli.errors import OfflineError
from hkdcli.explaining import explain
from hkdcli.reporter import Reporter

_MOST_CHARACTERS = 4000
_BUG = "This is a bug of ours, or of a package that we use: please report it with this line."


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at something showed.

    Attributes:
        found: In one line.
        status: How serious it is.
        hint: What to do; empty where nothing is to be done.
        value: What later checks go on with.
    """

    found: str
    status: Status = "ok"
    hint: str = ""
    value: Any = None


class Examination:
    """The checks that were made so far.

    Args:
        reporter: Told which check is being made: some take a while.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.checks: list[Check] = []

    def look(self, name: str, look: Callable[..., Finding], *args: Any, **named: Any) -> Any:
        """Make one check; whatever it raises is its failure.

        Args:
            name: Stable dotted name.
            look: Looks, and says what it found.
            *args: For it.
            **named: For it.

        Returns:
            The value of the finding; None where the look failed by an exception.
        """
        try:
            finding = look(*args, **named)
        except Exception as error:
            self.checks.append(_describe(name, error))
            return None
        self.checks.append(
            Check(name=name, status=finding.status, found=_flatten(finding.found), hint=finding.hint)
        )
        return finding.value

    def skip(self, names: Iterable[str], why: str) -> None:
        """Say of checks that they cannot be made."""
        self.checks += [Check(name=name, status="skipped", found=why) for name in names]

    def has_failed(self, name: str) -> bool:
        """Whether a check that was made has failed."""
        return any(check.name == name and check.status == "failed" for check in self.checks)


def _describe(name: str, error: Exception) -> Check:
    known = explain(error)
    if known is None:
        found = f"unexpected {type(error).__name__}: {error}"
        return Check(name=name, status="failed", found=_flatten(found), hint=_BUG)
    return Check(
        name=name,
        status="failed",
        found=_flatten(known.message),
        hint=known.hint or "",
        is_absent=isinstance(known, OfflineError),
    )


def _flatten(text: str) -> str:
    """A text of several lines as one."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())[:_MOST_CHARACTERS]
