"""Which fields of another system's file hold the id, the prediction and the confidence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from hkdcli.errors import BadRow, UsageError

MAX_LISTED = 30

STATUSES = ("ok", "error", "abstain")

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of fields or columns; the default ones are those of hkd's own rows.

    Attributes:
        id: the id of the record.
        prediction: the answer.
        confidence: how sure it is, from 0 to 1; None where none is named.
    """

    id: str = "id"
    prediction: str = "prediction"
    confidence: str | None = None

    @property
    def is_default(self) -> bool:
        """Whether they are those of hkd's own rows, whose further fields mean something too."""
        return self == HKD_COLUMNS

    @property
    def has_status(self) -> bool:
        """Whether a column called status is one: not where it is named as another."""
        return "status" not in self.named.values()

    @property
    def named(self) -> dict[str, str]:
        """What each of our names is called in the file."""
        names = {each.name: getattr(self, each.name) for each in fields(self)}
        return {ours: theirs for ours, theirs in names.items() if theirs is not None}


HKD_COLUMNS = Columns()


def parse_columns(text: str) -> Columns:
    """Parse `id=question_id,prediction=response,confidence=score`; what is left out keeps its name.

    Args:
        text: Pairs of our name and the file's, parted by commas.

    Returns:
        The columns.

    Raises:
        UsageError: A part has no "=" or no name, or one of our names is unknown or stands twice; every such
            part is named.
    """
    known = [each.name for each in fields(Columns)]
    found: dict[str, str] = {}
    problems = []
    for part in text.split(","):
        ours, equals, theirs = (piece.strip() for piece in part.partition("="))
        if not equals or not theirs:
            problems.append(f'"{part.strip()}" is no pair of names such as prediction=response')
        elif ours not in known:
            problems.append(f'unknown name "{ours}"{suggest(ours, known)}')
        elif ours in found:
            problems.append(f"{ours} stands twice")
        else:
            found[ours] = theirs
    if problems:
        raise UsageError(f"--columns: {'; '.join(problems)}", hint=f"The names are {', '.join(known)}.")
    return Columns(**found)


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Render the name that was meant, if one is near."""
    near = difflib.get_close_matches(wrong, list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def take_fields(value: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """Take the named fields out of a row, and its `status`, under our own names.

    Args:
        value: A row. A name with dots that is no field itself reaches into the objects of the row.
        columns: The names.

    Returns:
        Those of id, prediction, confidence and status that are there.
    """
    taken = {ours: _find(value, theirs) for ours, theirs in columns.named.items()}
    if columns.has_status and value.get("status") in STATUSES:  # any other says something of its own
        taken["status"] = value["status"]
    return {ours: item for ours, item in taken.items() if item is not _ABSENT}


def explain_unknown(name: str, known: Iterable[str], path: str) -> BadRow:
    """Say that a file has no such column, and which ones it has.

    Args:
        name: The one that is asked for.
        known: Those that are there.
        path: The file.

    Returns:
        A BadRow, `prediction.unknown_column`.
    """
    listed = list(dict.fromkeys(known))
    more = f" and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    there = ", ".join(map(_shorten, listed[:MAX_LISTED])) + more
    detail = f'no column "{_shorten(name)}"{suggest(name, listed)}'
    return BadRow("prediction.unknown_column", "", path, detail, f"there are: {there}; see --columns")


def list_fields(value: Mapping[str, Any]) -> list[str]:
    """The names of a row's fields, those inside objects with dots."""
    names: list[str] = []
    waiting: list[tuple[str, Any]] = [*value.items()][::-1]
    while waiting and len(names) <= MAX_LISTED * 4:
        name, item = waiting.pop()
        if isinstance(item, dict) and item:
            waiting += [(f"{name}.{key}", inner) for key, inner in item.items()][::-1]
        else:
            names.append(name)
    return names


def _shorten(name: str) -> str:
    return ascii(name[:50])[1:-1]


def _find(value: Mapping[str, Any], name: str) -> Any:
    if name in value:
        return value[name]
    first, dot, rest = name.partition(".")
    inner = value.get(first)
    return _find(inner, rest) if dot and isinstance(inner, dict) else _ABSENT
