"""Files of examples: read in every form the challenge and its users write, written in one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hkdcli.data.records import NO_HALLUCINATION, Choice, Example, Task
from hkdcli.errors import BadRow

__all__ = [
    "NO_HALLUCINATION",
    "Choice",
    "Example",
    "ReadResult",
    "Task",
    "read_examples",
    "write_examples",
]


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a file held: the usable examples, the rows that are not, and what to warn about."""

    examples: tuple[Example, ...]
    bad_rows: tuple[BadRow, ...]
    warnings: tuple[str, ...]


def read_examples(path: str | Path, *, encoding: str = "utf-8") -> ReadResult:
    """Read the plain case; every other form arrives with the next commit."""
    examples = []
    for row in json.loads(Path(path).read_text(encoding)):
        raw = {**row, **row.get("metadata", {})}
        hallucination = "system1_answer" in raw
        gold = raw.get("correct_choice")
        examples.append(
            Example(
                id=raw["id"],
                task="hallucination" if hallucination else "factuality",
                image=raw["image_id"],
                question=raw["system2_question" if hallucination else "question"],
                choices=tuple(Choice(item["id"], item["choice"]) for item in raw["choices"]),
                answer=None if gold is None else frozenset(gold.split(",")),
                caption=raw.get("system1_answer", ""),
                caption_question=raw.get("system1_question", ""),
                claim=raw.get("claim", ""),
                context=raw.get("context", ""),
                extra={"meta": raw.get("meta")},
            )
        )
    return ReadResult(tuple(examples), (), ())


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Write examples as JSONL, or as a JSON array where the name ends in .json."""
    raise NotImplementedError
