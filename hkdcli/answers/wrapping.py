"""What models wrap around an answer: thoughts, tags, LaTeX boxes, code fences, JSON objects."""

from __future__ import annotations

import json
import re
from typing import Any

HEAD, TAIL = 2_000, 20_000
"""Of a longer text so many characters at its beginning and at its end are read."""

MAX_BOX = 2_000

_KEY = re.compile(
    r"(?i)\s*(?:(?:final_)?answers?|(?:correct_|hallucinated_)?choices?|prediction|label|verdict"
    r"|hallucinat(?:ed|ions))\s*"
)
_TOKEN = re.compile(r"<\|[^|<>\n]{1,40}\|>|</?s>")
_TAG = re.compile(r"(?i)</?answer>")
_ASKED = re.compile(r"(?im)^[*# ]{0,6}(?:human|user|question(?: \d+)?)\**(?::|$)")
_ANSWERED = re.compile(r"(?:\A|\s)(?:assistant|Assistant|ASSISTANT)(?::|\n)")
_FENCE = re.compile(r"(?m)^[^\S\n]*(?:```|~~~).*$")
_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathbf|mathrm|mathit|bm)\{([^{}]*)\}")
_MATH = re.compile(r"\\[()\[\],;!]|\$")


def unwrap_text(text: str) -> str:
    r"""Take the answer out of what a model wraps around it.

    What precedes the last `</think>` goes, and all from a `<think>` on that never ends. Of the rest the
    inside of the last `<answer>` stays (to the end of the text where a stop word cut it off), of that the
    inside of the last `\boxed{}`. Special tokens of chat templates go, questions before and after
    the first answer of a dialogue, and lines that open or close a code fence. JSON is `find_values`'s.

    Args:
        text: Any text.

    Returns:
        What is left.
    """
    thought, _, text = text.rpartition("</think>") if "</think>" in text else ("", "", text)
    if not thought:
        text = text.partition("<think>")[0]
    return _FENCE.sub("", _find_boxed(_find_tagged(_find_turn(_TOKEN.sub(" ", text).strip())).strip()))


def shorten_text(text: str) -> str:
    """Cut the middle out of a text of more than `HEAD` + `TAIL` characters."""
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"


def find_values(text: str) -> list[str | None] | None:
    """The answers of the JSON object that a text is or ends with, one item a line; None for no object."""
    end = text.rfind("}") + 1
    for start in dict.fromkeys((text.find("{", 0, end), text.rfind("{", 0, end))):
        pairs = _parse_pairs(text[start:end]) if start >= 0 else []
        values = [value for key, value in pairs if _KEY.fullmatch(key)]
        if values:
            return [_render_value(value) for value in values]
    return None


def _find_turn(text: str) -> str:
    """The first answer of a dialogue."""
    answered = _ANSWERED.search(text) if _ASKED.match(text) else _ANSWERED.match(text)
    text = text[answered.end() :].strip() if answered else text
    following = _ASKED.search(text, 1)
    return text[: following.start()] if following else text


def _find_tagged(text: str) -> str:
    tags = list(_TAG.finditer(text))
    opening = next((tag for tag in reversed(tags) if tag[0][1] != "/"), None)
    if opening is None:
        return text
    closing = next((tag for tag in tags if tag[0][1] == "/" and tag.start() >= opening.end()), None)
    return text[opening.end() : closing.start() if closing else len(text)]


def _find_boxed(text: str) -> str:
    start = text.rfind("\\boxed{")
    if start < 0:
        return text
    start += len("\\boxed{")
    depth = 1
    for place in range(start, min(len(text), start + MAX_BOX)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return _MATH.sub("", _COMMAND.sub(r"\1", text[start:place]))
    return text


def _parse_pairs(text: str) -> list[tuple[str, Any]]:
    """The members of a JSON object, repeated ones too; none where the text is something else."""
    try:
        value = json.loads(text, object_pairs_hook=_Members)
    except (ValueError, RecursionError):
        return []
    return value if isinstance(value, _Members) else []


class _Members(list[tuple[str, Any]]):
    """The members of one JSON object."""


def _render_value(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if value is None or value == []:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(value)
    return json.dumps(value) if isinstance(value, bool | int | float) else None
