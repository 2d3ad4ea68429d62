"""What a record speaks of: the guard that every operation is asked through.

A guard that errs must err on the safe side: "right next to" counts as a side, an orange that is a fruit as a
colour. Text that is not recognisably English may speak of anything, so it speaks of every topic.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, get_args

from hkdcli.augment import topic_words
from hkdcli.augment.language import is_english
from hkdcli.augment.paraphrases import CAPTION_QUESTIONS, QUESTIONS, find_paraphrases
from hkdcli.augment.words import compute_stems, fold_text, read_words
from hkdcli.data.records import Choice, Example, is_none_choice

Topic = Literal["colour", "light", "side", "place", "text", "count", "size", "quality", "language"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
NOT_ENGLISH = "not English"

_Phrase = tuple[tuple[str, ...], tuple[Topic, ...]]
"""Words that follow one another, and the topics that they speak of."""

_LISTS: dict[Topic, str] = {
    "colour": topic_words.COLOUR,
    "light": topic_words.LIGHT,
    "side": topic_words.SIDE,
    "place": topic_words.PLACE,
    "text": topic_words.TEXT,
    "count": topic_words.COUNT,
    "size": topic_words.SIZE,
    "quality": topic_words.QUALITY,
}
_NOT_MEANT = frozenset(topic_words.NOT_MEANT.split())
_VERDICTS = frozenset({"true", "false", "partially true", "not verifiable"})
_QUOTES = re.compile(
    r"[\"\u201c-\u201f\u00ab\u00bb\u2039\u203a\u300c-\u300f`]|(?<!\w)['\u2018]\w[^'\u2018\u2019]*['\u2019](?!\w)"
)
_YEAR = re.compile(r"1\d{3}|20\d{2}")


def find_topics(example: Example) -> Mapping[Topic, str]:
    """The topics that a record's own texts speak of.

    Read are the caption and what it was asked for, the claim, the context, the choices and the question; not
    what says nothing of the picture: the instruction, questions of the bank of paraphrases ("Describe the
    image."), "No hallucination", verdicts.

    Args:
        example: the record.

    Returns:
        Each topic with the first word that says so, folded; every topic with `NOT_ENGLISH` where a text is
        not recognisably English.
    """
    choices = tuple(choice.text for choice in example.choices if not _is_boilerplate(example, choice))
    asked = [(example.caption_question, CAPTION_QUESTIONS), (example.question, QUESTIONS)]
    questions = (text for text, bank in asked if not find_paraphrases(bank, text))
    texts = (example.caption, *questions, example.claim, example.context)
    return _find_topics(tuple(text for text in texts if text), choices)


def _is_boilerplate(example: Example, choice: Choice) -> bool:
    if example.task == "hallucination":
        return is_none_choice(choice)
    return " ".join(read_words(fold_text(choice.text))) in _VERDICTS


@lru_cache(maxsize=1024)
def _find_topics(texts: tuple[str, ...], choices: tuple[str, ...]) -> Mapping[Topic, str]:
    """Topics of texts; cached, since every operation asks about the same record."""
    folded, folded_choices = [fold_text(text) for text in texts], [fold_text(text) for text in choices]
    if not is_english(folded, folded_choices):
        return MappingProxyType(dict.fromkeys(TOPICS, NOT_ENGLISH))
    found: dict[Topic, str] = {}
    for text in [*folded, *folded_choices]:
        for topic, word in _read_topics(text):
            found.setdefault(topic, word)
    return MappingProxyType(found)


def _read_topics(folded: str) -> Iterator[tuple[Topic, str]]:
    """Topics of one folded text, with the words that say so, in the order in which they stand."""
    if _QUOTES.search(folded):
        yield "text", "quotation marks"
    words = read_words(folded)
    for place, word in enumerate(words):
        for topic in _find_word_topics(word):
            yield topic, word
        for phrase, topics in _find_phrases(word):
            if _begins_with(words[place:], phrase):
                for topic in topics:
                    yield topic, "-".join(phrase)


@lru_cache(maxsize=65536)
def _find_word_topics(word: str) -> tuple[Topic, ...]:
    if word.isdigit():
        return ("count",) if _YEAR.fullmatch(word) else ("count", "text")
    if any(stem in _NOT_MEANT for stem in (word, word.removesuffix("s"))):
        return ()
    return tuple(dict.fromkeys(topic for stem in compute_stems(word) for topic in _WORDS.get(stem, ())))


def _find_phrases(word: str) -> Iterator[_Phrase]:
    """Phrases of the lists that begin with a form of a word."""
    for stem in compute_stems(word):
        yield from _PHRASES.get(stem, ())


def _begins_with(words: Sequence[str], phrase: Sequence[str]) -> bool:
    return len(words) >= len(phrase) and all(
        part in compute_stems(word) for part, word in zip(phrase, words, strict=False)
    )


def _index_words() -> dict[str, tuple[Topic, ...]]:
    index: dict[str, list[Topic]] = {}
    for topic, listed in _LISTS.items():
        for word in listed.split():
            if "-" not in word:
                index.setdefault(word, []).append(topic)
    return {word: tuple(topics) for word, topics in index.items()}


def _index_phrases() -> dict[str, list[_Phrase]]:
    """Phrases of several words with their topics, by their first word."""
    topics: dict[tuple[str, ...], list[Topic]] = {}
    for topic, listed in _LISTS.items():
        for phrase in (tuple(word.split("-")) for word in listed.split() if "-" in word):
            topics.setdefault(phrase, []).append(topic)
    index: dict[str, list[_Phrase]] = {}
    for phrase, each in topics.items():
        index.setdefault(phrase[0], []).append((phrase, tuple(each)))
    return index


_WORDS = _index_words()
_PHRASES = _index_phrases()
