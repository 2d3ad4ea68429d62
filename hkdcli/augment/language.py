"""Whether texts are recognisably English: what every word list of this package takes for granted.

The words of a text are looked up in lists of English, of words that many languages write alike, which say
nothing, and of words that betray another language. A text is English where a quarter of the words that say
something is English, and no sentence holds as many words of other languages as of English.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from hkdcli.augment import language_words, topic_words
from hkdcli.augment.words import compute_stems, read_words
from hkdcli.data import english

LEAST_SHARE = 0.25
"""Of the words of a text that say something about its language, how many must be English."""

_SENTENCE_END = re.compile(r"[.!?;:\n]+")
_OTHER_SCRIPTS = frozenset(("So", "Sm", "Co", "Cn", "Cs"))
_SYMBOLS = frozenset("\u00b0\u00b1\u00d7\u00f7\u00a9\u00ae\u2044\u2212\u221a\u2248\u2264\u2265")

_SHARED = frozenset(language_words.SHARED.split())
_FOREIGN = frozenset(language_words.FOREIGN.split())
_TOPICS = "-".join(
    getattr(topic_words, name) for name in dir(topic_words) if name.isupper() and name != "NOT_MEANT"
)
_ENGLISH = (
    frozenset(language_words.ENGLISH.split())
    | frozenset(re.split(r"[\s-]+", _TOPICS))
    | english.DETERMINERS
    | english.NUMBERS
    | english.PREPOSITIONS
    | english.AUXILIARIES
    | english.ADVERBS
    | english.STOPS
    | english.RELATIVES
    | english.PLACES
    | english.FRAMES
    | english.ADJECTIVES
    | english.VERBS
    | english.NOUNS_LIKE_VERBS
) - _SHARED


def is_english(texts: Sequence[str], phrases: Sequence[str] = ()) -> bool:
    """Whether all texts are recognisably English.

    Args:
        texts: folded; each is judged by itself.
        phrases: folded and short, judged together; words of theirs that a text holds are judged there.

    Returns:
        False where one is not, which may be English of unusual words.
    """
    if any(_holds_other_script(text) for text in (*texts, *phrases)):
        return False
    known = {word for text in texts for word in read_words(text)}
    said = [" ".join(word for word in read_words(text) if word not in known) for text in phrases]
    return all(_is_english(text) for text in (*texts, "\n".join(said)))


def _is_english(text: str) -> bool:
    counts = [_count_words(sentence) for sentence in _SENTENCE_END.split(text)]
    if any(foreign >= ours for ours, foreign, _ in counts if foreign):
        return False
    return sum(ours for ours, _, _ in counts) >= LEAST_SHARE * sum(telling for _, _, telling in counts)


def _count_words(sentence: str) -> tuple[int, int, int]:
    """Words of English, of other languages, and all that say something about the language."""
    words = [
        word for word in read_words(sentence) if len(word) > 1 and word.isalpha() and word not in _SHARED
    ]
    foreign = sum(word in _FOREIGN for word in words)
    ours = sum(
        word not in _FOREIGN and any(stem in _ENGLISH for stem in compute_stems(word)) for word in words
    )
    return ours, foreign, len(words)


def _holds_other_script(folded: str) -> bool:
    """Whether letters, digits or pictographs are left that folding did not turn into a-z and 0-9."""
    if folded.isascii():
        return False
    return any(
        not char.isascii() and char not in _SYMBOLS and _is_telling(unicodedata.category(char))
        for char in folded
    )


def _is_telling(category: str) -> bool:
    return category[0] in "LN" or category in _OTHER_SCRIPTS
