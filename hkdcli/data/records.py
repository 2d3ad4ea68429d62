"""One record of either task: the types that the whole package shares, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Task = Literal["hallucination", "factuality"]
NO_HALLUCINATION = "No hallucination"


@dataclass(frozen=True, slots=True)
class Choice:
    """One lettered choice: its id exactly as the record writes it, and its text."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Example:
    """One question about one image, in the shape that everything after the reader works on.

    `answer` holds choice ids, None where the record has no gold. `extra` keeps every other field
    of the record (`meta` included) for the way out; nothing in it is ever shown to a model. An empty
    `instruction` is the prompt's own.
    """

    id: str
    task: Task
    image: str
    question: str
    choices: tuple[Choice, ...]
    answer: frozenset[str] | None = None
    caption: str = ""
    caption_question: str = ""
    claim: str = ""
    context: str = ""
    truncated: bool = False
    instruction: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def none_id(self) -> str | None:
        """The id of the "No hallucination" choice, None where there is none."""
        if self.task != "hallucination":
            return None
        return next((choice.id for choice in self.choices if is_none_choice(choice)), None)

    @property
    def meta(self) -> Mapping[Any, Any]:
        """The record's own `meta`; empty where it has none, or one that is no object."""
        meta = self.extra.get("meta")
        return meta if isinstance(meta, Mapping) else {}


def is_none_choice(choice: Choice) -> bool:
    """Whether a choice says "No hallucination", whatever its case or final stop."""
    return choice.text.strip().rstrip(".").casefold() == NO_HALLUCINATION.casefold()
