"""What a command found out: one document for programs, a few tables and lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """Figures for people; a cell is shown as it stands. `is_text`: cells are words, and begin alike."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a command.

    Attributes:
        document: All of it, as JSON holds it.
        tables: The part that a person looks at.
        text: Lines to show before the tables.
        failed_records: How many records failed; the exit code is then 5.
        failed_gate: Why a quality gate that was asked for is not met; the exit code is then 6.
        verdict: What a command that judges something says last.
        verdict_code: Its exit code, once all of it was shown.
        exit_code: Of processes that worked in this one's place and have said what happened; else 0.
    """

    document: Mapping[str, Any]
    tables: Sequence[Table] = field(default_factory=tuple)
    text: str = ""
    failed_records: int = 0
    exit_code: int = 0
    failed_gate: str = ""
    verdict: str = ""
    verdict_code: int = 0
