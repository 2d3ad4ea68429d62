"""How the choices of one record look in a text: their ids, bare or dressed up, and their own words."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from hkdcli.data.answers_text import parse_ids
from hkdcli.data.records import Example

How = Literal["ids", "marked", "words", "refusal", "conflict", "empty", "unparsed"]

NONE_PHRASES = ("no hallucination", "no hallucinations", "none") + tuple(
    f"none of {each}" for each in ("the above", "these", "them", "the options", "the choices", "the phrases")
)
"""What says "No hallucination" beside the choice's own words."""

SPELLINGS = {
    "not verifiable": ("not_verifiable", "not-verifiable", "unverifiable"),
    "partially true": ("partially_true", "partially-true", "partly true"),
}
"""How labels of a claim are also spelled."""

_DRESS = " ()[]{}\"'"
_PARTS = re.compile(r"[\s,;/&|+]+")
_SAME = str.maketrans(
    "\u2018\u2019\u201c\u201d\u00ab\u00bb\u300c\u300d\u3010\u3011\u3001\u3002", '\'\'""""""[],.'
)
_EMPHASIS = re.compile(r"[*`~]+|(?<!\w)_++|(?<!_)_++(?!\w)")
_LINE_OPENING = re.compile(r"(?m)^[ ]*(?:#{1,6} |> ?|[-+\u2022\u2013] )+")
_BLANKS = re.compile(r"[^\S\n]+")
_PLAIN = re.compile(r"[ -~\n]*+")
_LINE_ENDS = re.compile(r" ?\n[ \n]*")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one text says about one record.

    Attributes:
        choices: ids of the record; never empty. None where `how` is refusal, conflict, empty or unparsed.
        how: what the ids were read from; or why there are none.
    """

    choices: frozenset[str] | None
    how: How


def clean_text(text: str) -> str:
    """Lines without blanks at their ends, Markdown or control characters; NFKC, plain quotes, one blank."""
    text = unicodedata.normalize("NFKC", text).translate(_SAME)
    if not _PLAIN.fullmatch(text):
        text = "".join(map(_clean_character, text))
    text = _EMPHASIS.sub("", text)
    text = _LINE_OPENING.sub("", text)
    return _LINE_ENDS.sub("\n", _BLANKS.sub(" ", text)).strip()


def _clean_character(character: str) -> str:
    if character in "\n\r\u2028\u2029":
        return "\n"
    category = unicodedata.category(character)
    return "" if category == "Cf" else " " if category == "Cc" else character


def fold_text(text: str) -> str:
    """Fold case and keep the length, so that a place in the folded text is one in the text."""
    folded = text.casefold()
    if len(folded) == len(text):  # no character ever folds to none
        return folded
    return "".join(one if len(one := each.casefold()) == 1 else each for each in text)


def fold_words(text: str) -> str:
    """Bring the words of a choice, or a whole text, to the form in which they are compared."""
    return fold_text(clean_text(text)).replace("\n", " ").strip(" .,;:!\"'")


class Vocabulary:
    """The ids and words of one record's choices."""

    def __init__(self, example: Example) -> None:
        self.choices = example.choices
        self.task = example.task
        self.none_id = example.none_id
        self._caption = example.caption or example.claim
        self._ids = {unicodedata.normalize("NFKC", choice.id): choice.id for choice in example.choices}
        counts = Counter(each.casefold() for each in self._ids)
        self._folded = {
            each.casefold(): id_ for each, id_ in self._ids.items() if counts[each.casefold()] == 1
        }

    @cached_property
    def words(self) -> dict[str, str | None]:
        """Folded words of each choice, longest first, and its id; None where two choices have them."""
        found: dict[str, str | None] = {}
        for choice in self.choices:
            words = fold_words(choice.text)
            found[words] = None if words in found else choice.id
        for phrase in NONE_PHRASES if self.none_id else ():
            found.setdefault(phrase, self.none_id)
        for label, spellings in SPELLINGS.items() if self.task == "factuality" else ():
            found.update({each: found[label] for each in spellings if label in found})
        found.pop("", None)
        return dict(sorted(found.items(), key=lambda pair: (-len(pair[0]), pair[0])))

    @cached_property
    def caption(self) -> str:
        """The folded caption or claim."""
        return fold_words(self._caption)

    def words_of(self, id_: str) -> str:
        """The folded words of a choice."""
        return next(fold_words(choice.text) for choice in self.choices if choice.id == id_)

    def repeats_all(self, ids: Collection[str]) -> bool:
        """Whether ids are those of all choices: whoever names all has repeated the question."""
        return len(set(ids)) == len(self.choices)

    def find_id(self, token: str) -> str | None:
        """The id that a token is: verbatim, else in another case where no two ids differ by case alone."""
        return self._ids.get(token) or self._folded.get(token.casefold())

    def find_run(self, token: str) -> list[str]:
        """Ids of one letter run together in rising order, "BC"; a word that they spell ("BAD") is none."""
        if len(token) < 2 or any(each not in self._ids for each in token):
            return []
        return [self._ids[each] for each in token] if sorted(set(token)) == list(token) else []


def read_ids(text: str, vocabulary: Vocabulary) -> Reading:
    """Read a text that is nothing but ids, of a length that can be normalized: see `text.parse_text`."""
    text = unicodedata.normalize("NFKC", text).strip()
    if not text.strip(_DRESS):
        return Reading(None, "empty")
    items = _parse_list(text)
    if items is None:
        found = parse_ids(text, vocabulary.choices) or _read_dressed(text, vocabulary)
    else:
        ids = [vocabulary.find_id(item.strip()) for item in items]
        found = frozenset(each for each in ids if each) if all(ids) else None
    if not found:
        return Reading(None, "unparsed")
    # The words of a choice may be the letters of others: "BED", or the numbers 1 to 4 in another order.
    spelled = vocabulary.words.get(fold_words(text), "")
    if spelled != "" and found != {spelled}:
        return Reading(None, "conflict")
    return Reading(found, "ids")


def _parse_list(text: str) -> list[str] | None:
    """The items of a JSON list of texts; None for another text."""
    if not text.startswith("["):
        return None
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return items if isinstance(items, list) and all(isinstance(item, str) for item in items) else None


def _read_dressed(text: str, vocabulary: Vocabulary) -> frozenset[str] | None:
    """Ids in brackets or quotes, in another case, with a full stop: "(b), (c) and [D]."."""
    whole = parse_ids(text.strip(_DRESS + ".:"), vocabulary.choices)
    if whole:
        return whole
    found = set()
    for token in _PARTS.split(text):
        id_ = vocabulary.find_id(token) or vocabulary.find_id(token.strip(_DRESS + ".:"))
        if id_ is not None:
            found.add(id_)
        elif token.strip(_DRESS + ".") and token.casefold() != "and":
            return None
    return frozenset(found)
