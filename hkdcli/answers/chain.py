"""A chain of marked ids in a text: "B", "(B), (C)", "Option B: its words", one a line or several in a row."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hkdcli.answers.choices import Vocabulary, fold_text

_ITEM = re.compile(
    r"(?P<prefix>(?:the )?(?:(?:correct|right|best|hallucinated) )?(?:options?|choices?|letters?):? )?"
    r"(?P<open>[(\[\"']{0,3})(?P<id>\w++(?:-\w+)*+)(?P<close>[)\]\"']{0,3})"
    r"(?P<mark>\.\)|[.:)]| [:\-\u2013\u2014=](?= ))?",
    re.IGNORECASE,
)
_BEFORE_WORDS = re.compile(r"[ (\[\"':\-\u2013\u2014]{0,6}")
_AFTER_WORDS = re.compile(r"[)\]\"'.]{0,4}")
_BOUNDARY = re.compile(r"(?:(?<!\w)|(?![-']?\w))(?:(?<!\w[-'])|(?!\w))")
_ID_IN_BRACKETS = re.compile(r"[\"']{0,2} ?[(\[](\w+)[)\]]")
_EXACT_END = re.compile(r"[)\]\"']*(?:$|[.,;\n]| and )")
_SEPARATOR = re.compile(r"(?:[ ,;/&|+\n]{1,6}(?:and )?(?:also )?|\.[ \n])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Item:
    """One marked id.

    `start` is its place behind "option", `end` the place behind it and its words; `own`: its own words
    follow; `conflict`: exactly another choice's words follow; `dressed`: "option", brackets or a mark tell
    it from a letter of prose; `article`: it is bare, and as prose has it: "A", "I", a small letter, a number.
    """

    ids: tuple[str, ...]
    start: int
    end: int
    own: bool
    conflict: bool
    dressed: bool
    article: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """Marked ids one after another, and the places where the first begins and the last ends."""

    items: tuple[Item, ...]
    start: int
    end: int

    @property
    def ids(self) -> frozenset[str]:
        """All of them."""
        return frozenset(id_ for item in self.items for id_ in item.ids)

    @property
    def conflict(self) -> bool:
        """Whether exactly another choice's words follow an id."""
        return any(item.conflict for item in self.items)


class Line:
    """A cleaned text, also folded; places are the same in both."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.folded = fold_text(text)


def find_words(vocabulary: Vocabulary, folded: str, start: int) -> tuple[str | None, int] | None:
    """The longest words of a choice at a place: their id and end; None for two choices or another's "(C)"."""
    for words, id_ in vocabulary.words.items():
        end = start + len(words)
        if folded.startswith(words, start) and is_boundary(folded, end):
            bracketed = _ID_IN_BRACKETS.match(folded, end)
            beside = vocabulary.find_id(bracketed[1]) if bracketed else None
            if bracketed and beside:
                return (id_ if id_ == beside else None), bracketed.end()
            return id_, end
    return None


def is_boundary(text: str, place: int) -> bool:
    """Whether no word goes across a place; a hyphen or apostrophe inside a word is part of it."""
    return _BOUNDARY.match(text, place) is not None


def read_chain(vocabulary: Vocabulary, line: Line, start: int, *, bare: bool) -> Chain | None:
    """Read the ids in a row at a place; a new line has to be an item, and behind a full stop its words."""
    items: list[Item] = []
    end = place = start
    while (item := _read_item(vocabulary, line, place)) is not None:
        if items and not _follows(line, items, item, line.text[end:place]):
            break
        if not (items or bare or item.dressed):
            break
        items.append(item)
        end = item.end
        separator = _SEPARATOR.match(line.text, end)
        if separator is None:
            break
        place = separator.end()
    return Chain(tuple(items), items[0].start, end) if items else None


def _follows(line: Line, items: list[Item], item: Item, separator: str) -> bool:
    """Whether an item goes on with a chain: behind a full stop or on a new line only in a list."""
    last = items[-1]
    if "\n" in separator:
        whole = item.end == len(line.text) or line.text[item.end] == "\n"
        alike = item.dressed or not last.dressed
        return whole and alike and (item.own or item.conflict or not last.own)
    return "." not in separator or (item.dressed and (item.own or item.conflict))


def _read_item(vocabulary: Vocabulary, line: Line, start: int) -> Item | None:
    match = _ITEM.match(line.text, start)
    if match is None:
        return None
    token = match["id"]
    id_ = vocabulary.find_id(token)
    ids = vocabulary.find_run(token) if id_ is None else [id_]
    if not ids:
        return None
    brackets = any(each in "()[]" for each in match["open"] + match["close"])
    dressed = bool(match["prefix"] or brackets or match["mark"])
    own, conflict, end = _read_own_words(vocabulary, line, match.end(), ids)
    glued = match.end() < len(line.text) and line.text[match.end()].isalnum()
    if glued and not (own or conflict):
        return None  # "I'm", "A.M.", "B.Sc."
    if end == match.end() and match["mark"] == ".":
        end -= 1  # a full stop, which may end the sentence
    small = token.isdigit() or (len(token) == 1 and token.islower())
    article = not dressed and (small or token in ("A", "I"))
    return Item(tuple(ids), match.start("open"), end, own, conflict, dressed, article)


def _read_own_words(vocabulary: Vocabulary, line: Line, start: int, ids: list[str]) -> tuple[bool, bool, int]:
    """Whether the id's own words follow, or exactly another choice's, and the place behind them."""
    before = _skip(_BEFORE_WORDS, line.text, start)
    found = find_words(vocabulary, line.folded, before)
    if found is None:
        return False, False, start
    id_, end = found
    behind = _skip(_AFTER_WORDS, line.text, end)
    if [id_] == ids or (id_ is None and vocabulary.words_of(ids[0]) == line.folded[before:end]):
        return True, False, behind
    exact = _EXACT_END.match(line.folded, end) is not None
    return False, exact, behind if exact else start


def _skip(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    return match.end() if match else place
