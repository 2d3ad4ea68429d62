"""Phrases of a caption that a picture can bear out or contradict, proposed by a simple rule for English.

Words are told apart by the lists of `english.py` and by their endings; a word that no list knows counts as a
noun. Then:

    object     neighbouring adjectives and nouns, without their determiner   "red mat", "two goats"
               joined across "of"                                           "group of people"
               adjectives alone, said of nothing before them                "orange", "a ball, red"
    relation   an object, words that link (verbs, prepositions), and what    "cat on the red mat"
               follows them                                                 "man riding a motorcycle"
    attribute  the same, where an adjective follows                          "car is red"
    action     an object and a verb that nothing follows                     "people are smiling"

Nothing crosses punctuation, a conjunction, a pronoun or the end of a line. Text in other languages is cut at
its punctuation, and what stands between counts as an object, its last `MAX_OBJECT_WORDS` words at most.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from hkdcli.data import english

MAX_PHRASES = 25
"""As many as one question holds beside "No hallucination"."""
MAX_OBJECT_WORDS = 6
MAX_LINK_WORDS = 6

Part = Literal["determiner", "preposition", "link", "verb", "modifier", "noun", "stop"]

# A letter or digit of any script, or a mark that combines with one, which \w lacks.
_MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0dff\u0e00-\u0eff\u1ab0-\u1dff"
)
_LETTERS = rf"(?:[^\W_]|[{_MARKS}])+"
_WORD = re.compile(rf"{_LETTERS}(?:['\u2019-]{_LETTERS})*")
_LINKING = ("determiner", "preposition", "link", "verb")


@dataclass(frozen=True, slots=True)
class Word:
    """A word in lower case, where it stands, its part; `follows`: only blanks part it from the one before."""

    start: int
    end: int
    text: str
    part: Part
    follows: bool


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Words first to last, both included; `is_object`: a picture can show the thing by itself."""

    first: int
    last: int
    is_object: bool


def propose_phrases(caption: str, *, most: int = MAX_PHRASES) -> tuple[str, ...]:
    """Propose what to check in a caption: its objects, and what it says of them.

    Takes time linear in the caption, whatever it holds. The rule is measured by `benchmarks/phrases.py`.

    Args:
        caption: Any text.
        most: How many phrases at most. Where there are more, objects go before what is said of them, and
            the beginning of the caption before its end.

    Returns:
        Phrases in order of appearance, each a part of the caption as it stands there; none twice, whatever
        its case. Empty where the caption names nothing.
    """
    words = read_words(caption)
    chunks = _join_of(words, _find_chunks(words))
    objects = [(chunk.first, chunk.last) for chunk in chunks if chunk.is_object]
    spans = dict.fromkeys([*objects, *_find_relations(words, chunks)])
    kept: dict[str, tuple[int, int]] = {}
    for first, last in spans:
        place = words[first].start, words[last].end
        kept.setdefault(caption[slice(*place)].casefold(), place)
    return tuple(caption[slice(*place)] for place in sorted(list(kept.values())[:most]))


def read_words(caption: str) -> list[Word]:
    """The words of a text in order, each with the part that it plays."""
    found = list(_WORD.finditer(caption))
    words: list[Word] = []
    end = 0
    for match, after in itertools.zip_longest(found, found[1:]):
        gap = caption[end : match.start()]
        follows = bool(words) and not gap.strip(" ")
        text, coming = match.group().lower(), after.group().lower() if after else ""
        part = _classify(text, words[-1].part if follows else "stop", coming)
        words.append(Word(match.start(), match.end(), text, part, follows))
        end = match.end()
    return words


def _classify(word: str, before: Part, coming: str) -> Part:
    """The part that a word plays after one that plays `before`, in front of the word `coming`."""
    if word in english.RELATIVES or (word in english.PLACES and coming == "of"):
        return "link"
    if word in english.ADJECTIVES_LIKE_NOUNS and before == "noun":
        return "noun"
    for part, known in _KNOWN.items():
        if word in known:
            return part
    if word.isdecimal():
        return "modifier"
    if word.endswith(("n't", "n\u2019t")) or (word.endswith("ly") and len(word) > 4):
        return "link"
    is_modified = before in ("determiner", "modifier")
    if word in english.VERBS:
        return "noun" if is_modified else "verb"
    if word.endswith("ing") and len(word) > 4:
        return "modifier" if is_modified else "verb"
    if word.endswith("ed") and len(word) > 4:
        return "modifier" if is_modified or before == "preposition" else "verb"
    return "noun"


_KNOWN: dict[Part, frozenset[str]] = {
    "noun": english.NOUNS_LIKE_VERBS,
    "stop": english.STOPS,
    "determiner": english.DETERMINERS,
    "preposition": english.PREPOSITIONS,
    "link": english.AUXILIARIES | english.ADVERBS,
    "modifier": english.ADJECTIVES | english.NUMBERS,
}


def _find_chunks(words: Sequence[Word]) -> list[_Chunk]:
    """Runs of modifiers and nouns, up to their last noun."""
    chunks = []
    index = 0
    while index < len(words):
        end = index
        while end < len(words) and words[end].part in ("modifier", "noun"):
            if end > index and not words[end].follows:
                break
            end += 1
        if end > index:
            chunks.append(_build_chunk(words, index, end))
        index = max(end, index + 1)
    return chunks


def _build_chunk(words: Sequence[Word], first: int, end: int) -> _Chunk:
    last = next((i for i in range(end - 1, first - 1, -1) if words[i].part == "noun"), None)
    if last is not None:
        is_object = words[last].text not in english.FRAMES
        return _Chunk(max(first, last + 1 - MAX_OBJECT_WORDS), last, is_object)
    return _Chunk(max(first, end - MAX_OBJECT_WORDS), end - 1, _stands_alone(words, first, end))


def _stands_alone(words: Sequence[Word], first: int, end: int) -> bool:
    """Whether modifiers are a thing ("an orange", "a ball, red"), not said of one before or after them.

    What is said of a thing before them is in its relation ("is orange"); numbers alone show nothing.
    """
    texts, before = [word.text for word in words[first:end]], words[first - 1]
    if _is_half(words, end):
        return False
    if words[first].follows and before.part == "determiner":
        return not all(text in english.NUMBERS or text.isdecimal() for text in texts)
    is_apart = not words[first].follows or before.text in english.CONJUNCTIONS
    return is_apart and not english.ADJECTIVES.isdisjoint(texts)


def _is_half(words: Sequence[Word], end: int) -> bool:
    """Whether a chunk goes on after its end: "red" in "a red and green bucket", not in "red and wet"."""
    coming = words[end : end + 3]
    parts = [word.part for word in coming[1:]]
    joined = len(parts) == 2 and coming[0].text in ("and", "or") and all(word.follows for word in coming)
    return joined and parts in (["modifier", "noun"], ["noun", "noun"])


def _join_of(words: Sequence[Word], chunks: Sequence[_Chunk]) -> list[_Chunk]:
    """One chunk of two that "of" joins, with or without a determiner after it."""
    joined: list[_Chunk] = []
    for chunk in chunks:
        between = [] if not joined else words[joined[-1].last + 1 : chunk.first + 1]
        is_of = len(between) in (2, 3) and between[0].text == "of" and all(word.follows for word in between)
        if is_of and (len(between) == 2 or between[1].part == "determiner"):
            before = joined[-1]
            if chunk.last - before.first < 2 * MAX_OBJECT_WORDS:
                joined[-1] = _Chunk(before.first, chunk.last, before.is_object or chunk.is_object)
                continue
        joined.append(chunk)
    return joined


def _find_relations(words: Sequence[Word], chunks: Sequence[_Chunk]) -> Iterator[tuple[int, int]]:
    """Words first to last of what is said of each object: up to the next chunk, or to a last verb."""
    following = {chunk.first: chunk for chunk in chunks}
    for chunk in chunks:
        if not chunk.is_object:
            continue
        end = chunk.last + 1
        limit = min(len(words), end + MAX_LINK_WORDS)
        while end < limit and words[end].follows and words[end].part in _LINKING:
            end += 1
        links = [i for i in range(chunk.last + 1, end) if words[i].part != "determiner"]
        verbs = [i for i in links if words[i].part == "verb"]
        if links and end in following and words[end].follows:
            yield chunk.first, following[end].last
        elif verbs:
            yield chunk.first, verbs[-1]
