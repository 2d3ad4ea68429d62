"""Gold answers as people write them: "C", "B,C", "B, C", "BC", "B and C", or a list of ids."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from hkdcli.data.records import Choice, Example, is_none_choice
from hkdcli.data.refusals import RefusedRowError

_SEPARATORS = re.compile(r"\s*(?:[,;/&|+]|\s(?:and|AND|And)\s|\s)\s*")


def parse_answer(value: object, choices: Sequence[Choice]) -> frozenset[str] | None:
    """Turn a gold answer into choice ids.

    Args:
        value: What the record holds: a string, a list of strings, or None.
        choices: The record's choices; their ids are the only legal letters.

    Returns:
        The ids as the record writes them; None where there is no gold (absent, empty).

    Raises:
        RefusedRowError: `record.wrong_type`, `record.unknown_answer`, or `record.contradiction`
            ("No hallucination" together with another choice).
    """
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        return None
    ids = {unicodedata.normalize("NFKC", choice.id): choice.id for choice in choices}
    if isinstance(value, str):
        letters = _split(value, {choice.id for choice in choices}, ids)
    elif isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        letters = [_find(item.strip(), ids) for item in value]
    else:
        raise RefusedRowError(
            "record.wrong_type",
            f"correct_choice is a {type(value).__name__}, not a string or a list of strings",
        )
    answer = frozenset(letters)
    if len(answer) > 1 and any(is_none_choice(choice) for choice in choices if choice.id in answer):
        raise RefusedRowError(
            "record.contradiction", f'"No hallucination" is gold together with others: {sorted(answer)}'
        )
    return answer


def parse_ids(text: str, choices: Sequence[Choice]) -> frozenset[str] | None:
    """Read a text that holds choice ids and what parts them, by the grammar of gold answers.

    Args:
        text: Any text.
        choices: The record's choices.

    Returns:
        The ids as the record writes them, contradictory or not; None where the text holds anything else.
    """
    ids = {unicodedata.normalize("NFKC", choice.id): choice.id for choice in choices}
    try:
        return frozenset(_split(text, {choice.id for choice in choices}, ids))
    except RefusedRowError:
        return None


def _split(text: str, verbatim: set[str], ids: dict[str, str]) -> list[str]:
    """Read one string: as an id, else as separated ids, else as ids of one letter run together."""
    if text in verbatim:
        return [text]
    text = unicodedata.normalize("NFKC", text).strip()
    if text in ids:
        return [ids[text]]
    tokens = [token for token in _SEPARATORS.split(text) if token]
    if len(tokens) == 1 and all(letter in ids for letter in text):
        tokens = list(text)
    return [_find(token, ids) for token in tokens] or [_find(text, ids)]


def _find(letter: str, ids: dict[str, str]) -> str:
    found = ids.get(unicodedata.normalize("NFKC", letter))
    if found is None:
        legal = ", ".join(ascii(each).strip("'") for each in ids)
        raise RefusedRowError(
            "record.unknown_answer", f"gold {describe_letters(letter)} is none of the choices {legal}"
        )
    return found


def describe_letters(text: str) -> str:
    """Quote a short text in ASCII, naming each character that only looks like a Latin letter."""
    shown = text if len(text) <= 20 else text[:20] + "..."
    foreign = [
        f"U+{ord(char):04X} {unicodedata.name(char, 'unnamed')}" for char in shown if not char.isascii()
    ]
    return ascii(shown) + (f" ({', '.join(foreign)})" if foreign else "")


def is_lookalike(text: str) -> bool:
    """Whether a choice id holds Cyrillic or Greek letters, which a reader takes for Latin ones."""
    if text.isascii():
        return False
    return any(unicodedata.name(char, "").startswith(("CYRILLIC", "GREEK")) for char in text)


def render_answer_text(choices: Sequence[Choice], answer: frozenset[str]) -> str:
    """Join the texts of the gold choices in record order, as `correct_answer` holds them."""
    return ", ".join(choice.text for choice in choices if choice.id in answer)


def is_contradicted(example: Example) -> bool:
    """Whether the record's own `correct_answer` names other choices than its gold letters do."""
    text = example.extra.get("correct_answer")
    if example.answer is None or text is None or text == "" or text == []:
        return False
    texts = [choice.text for choice in example.choices if choice.id in example.answer]
    if isinstance(text, list):
        return sorted(map(str, text)) != sorted(texts)
    rest = _fold(str(text))
    for each in sorted(map(_fold, texts), key=len, reverse=True):
        if each not in rest:
            return True
        rest = rest.replace(each, "", 1)
    return bool(re.sub(r"\band\b|[\s,;.&]", "", rest))


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
