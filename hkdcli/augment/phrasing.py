"""A choice as a phrase of its caption: where it stands, which words can be swapped, how one is put in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hkdcli.augment.inflection import choose_article, match_case
from hkdcli.augment.lexicon import Entry
from hkdcli.augment.words import fold_text
from hkdcli.augment.words import read_words as split_words
from hkdcli.data.english import RELATIVES
from hkdcli.data.phrases import Word, read_words
from hkdcli.data.records import Choice, Example, is_none_choice

LONGEST = 3
"""Words of the longest entry."""
_SENTENCE_END = frozenset('.!?:;\n"\u201c')
_SUBJECTS = frozenset(("i", "you", "he", "she", "it", "we", "they", *RELATIVES))


@dataclass(frozen=True, slots=True)
class Span:
    """A choice, and where in the caption it stands: characters `start` to `end`."""

    choice: Choice
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Found:
    """An entry of the lexicon in a caption: words `first` to `last`, both included."""

    entry: Entry
    first: int
    last: int
    is_plural: bool


def find_span(example: Example, choice: Choice) -> Span | None:
    """Where a choice stands in its caption.

    Args:
        example: the record.
        choice: of it.

    Returns:
        The place; None where the choice stands there more than once, not letter by letter, or where another
        choice speaks of a part of it.
    """
    places = list(_occurrences(example.caption, choice.text))
    if len(places) != 1 or example.caption[slice(*places[0])] != choice.text:
        return None
    start, end = places[0]
    for other in example.choices:
        if other.id != choice.id and not is_none_choice(other):
            for first, last in _occurrences(example.caption, other.text):
                if first < end and start < last:
                    return None
    return Span(choice, start, end)


def _occurrences(caption: str, phrase: str) -> Iterator[tuple[int, int]]:
    pattern = rf"(?<!\w){re.escape(phrase)}(?!\w)"
    for match in re.finditer(pattern, caption, re.IGNORECASE):
        yield match.span()


def find_entries(caption: str, span: Span, entries: Mapping[str, Entry]) -> Iterator[Found]:
    """Every entry in a phrase; of several that begin with one word the longest, be it longer than the phrase.

    Args:
        caption: the caption.
        span: the phrase.
        entries: by the forms that they are found by.

    Yields:
        Found: Each that lies in the phrase, in the caption's words as `read_words` gives them.
    """
    words = read_words(caption)
    index = 0
    while index < len(words):
        length, entry = _find_longest(words[index : index + LONGEST], entries)
        last = index + max(length, 1) - 1
        if entry is not None and span.start <= words[index].start and words[last].end <= span.end:
            form = " ".join(word.text for word in words[index : last + 1])
            yield Found(entry, index, last, form not in entry.singulars)
        index = last + 1


def _find_longest(words: Sequence[Word], entries: Mapping[str, Entry]) -> tuple[int, Entry | None]:
    """How many of the words are the longest entry, and which; 0 and None where they are none."""
    for length in range(len(words), 0, -1):
        form = " ".join(word.text for word in words[:length])
        if form in entries and all(word.follows for word in words[1:length]):
            return length, entries[form]
    return 0, None


def put_in(example: Example, span: Span, found: tuple[int, int], word: str) -> Example:
    """Write a word in place of others in a phrase, with the article before it put right.

    Args:
        example: the record.
        span: the phrase.
        found: first and last of the words in the caption.
        word: what is written, in lower case; it takes the case of what stood there.

    Returns:
        The example with its new caption and choice; its answer is as it was.
    """
    words = read_words(example.caption)
    first, last = words[found[0]], words[found[1]]
    new = match_case(word, example.caption[first.start : last.end])
    edits = [(first.start, last.end, new)]
    before = words[found[0] - 1] if found[0] else None
    if before is not None and first.follows and before.text in ("a", "an"):
        article = choose_article(word, example.caption[before.start : before.end])
        is_loud = example.caption.isupper()
        edits.insert(0, (before.start, before.end, article.upper() if is_loud else article))
    return rewrite(example, span, edits)


def rewrite(example: Example, span: Span, edits: Sequence[tuple[int, int, str]]) -> Example:
    """Put texts in place of parts of the caption; the choice is what stands in its place afterwards.

    Args:
        example: the record.
        span: the phrase.
        edits: (start, end, text), in the order of the caption, none across the border of the phrase.

    Returns:
        The example with its new caption and choice.
    """
    caption, start, end = example.caption, span.start, span.end
    for first, last, text in reversed(edits):
        caption = caption[:first] + text + caption[last:]
        more = len(text) - (last - first)
        start += more if first < span.start else 0
        end += more if first < span.end else 0
    new = replace(span.choice, text=caption[start:end])
    choices = tuple(new if choice.id == new.id else choice for choice in example.choices)
    return replace(example, caption=caption, choices=choices)


def read_grams(texts: Iterable[str]) -> frozenset[str]:
    """All runs of one to three words of texts, folded, 's left out."""
    grams: set[str] = set()
    for text in texts:
        words = split_words(fold_text(text))
        for length in range(1, LONGEST + 1):
            grams.update(" ".join(words[i : i + length]) for i in range(len(words) - length + 1))
    return frozenset(grams)


def read_elsewhere(example: Example, span: Span) -> frozenset[str]:
    """The words of a record but for those of one phrase: caption, what it was asked for, other choices."""
    others = [choice.text for choice in example.choices if choice.id != span.choice.id]
    caption = (example.caption[: span.start], example.caption[span.end :])
    return read_grams([*caption, example.caption_question, *others])


def is_noun(words: Sequence[Word], found: Found) -> bool:
    """Whether words name a thing, neither verb ("who watches a parade") nor adjective ("is remote")."""
    before = words[found.first - 1] if found.first and words[found.first].follows else None
    after = words[found.last + 1] if found.last + 1 < len(words) else None
    if after is not None and after.follows and after.part == "determiner":
        return False
    if before is None:
        return True
    if words[found.last].part != "noun" or before.text in _SUBJECTS:
        return False
    return found.is_plural or not (before.part == "link" or before.text == "to")


def is_name(caption: str, words: Sequence[Word], found: Found) -> bool:
    """Whether words may be of a name: they, or the word after them, have a capital inside a sentence."""
    if caption.isupper():
        return False
    last = found.last + 1
    goes_on = last < len(words) and words[last].follows
    for index in range(max(found.first, 1), last + goes_on):
        gap = caption[words[index - 1].end : words[index].start]
        if caption[words[index].start].isupper() and _SENTENCE_END.isdisjoint(gap):
            return True
    return False


def has_determiner(words: Sequence[Word], found: Found) -> bool:
    """Whether an article or the like stands before words, with nothing but modifiers between."""
    index = found.first
    while index and words[index].follows and words[index - 1].part == "modifier":
        index -= 1
    return index > 0 and words[index].follows and words[index - 1].part == "determiner"


def is_half(words: Sequence[Word], found: Found) -> bool:
    """Whether words may be half of an expression: beside a noun ("dog house"), beside "of" ("cup of tea").

    After "of" several things stand by themselves ("group of dogs").
    """
    before = words[found.first - 1] if found.first else None
    after = words[found.last + 1] if found.last + 1 < len(words) else None
    is_second = before is not None and words[found.first].follows
    if before and is_second and (before.part == "noun" or (before.text == "of" and not found.is_plural)):
        return True
    return after is not None and after.follows and (after.part in ("noun", "modifier") or after.text == "of")
