"""The words of a text as every check of this package reads them, whatever their case, marks and endings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_WORD = re.compile(r"[a-z]+|[0-9]+")
_CLITIC = re.compile(r"(?<=[a-z])['\u2018\u2019\u02bc](?:s|t|d|m|re|ve|ll)(?![a-z])")
_SUFFIXES = ("s", "es", "er", "est", "ish", "ly", "ed", "ing", "ness")
_LEAST_STEM = 3


def fold_text(text: str) -> str:
    """Text without case, full-width forms, ligatures, combining marks and invisible characters.

    Args:
        text: any text.

    Returns:
        The folded text, in which "L\u00c9FT", a soft hyphen inside it and full-width letters all give "left".
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join(char for char in decomposed if unicodedata.category(char) not in ("Mn", "Cf"))


def read_words(folded: str) -> tuple[str, ...]:
    """Runs of the letters a-z and of digits in a folded text; 's, 't and the like are left out."""
    return tuple(_WORD.findall(_CLITIC.sub("", folded)))


@lru_cache(maxsize=65536)
def compute_stems(word: str) -> tuple[str, ...]:
    """What a word may be a form of: itself, and what is left without one or two English endings.

    Rather too many than too few: "reddish" gives "redd", "red" and "redde", "letters" also "lett".

    Args:
        word: folded, of a-z.

    Returns:
        The word first, none twice.
    """
    found = dict.fromkeys([word])
    for _ in range(2):
        for each in list(found):
            found.update(dict.fromkeys(_strip_endings(each)))
    return tuple(found)


def _strip_endings(word: str) -> Iterable[str]:
    for suffix in _SUFFIXES:
        stem = word.removesuffix(suffix)
        if stem == word or len(stem) < 2:
            continue
        forms = [stem, stem + "e"]
        if stem[-1] == "i" and suffix[0] == "e":
            forms.append(stem[:-1] + "y")
        if stem[-1] == stem[-2]:
            forms.append(stem[:-1])
        least = 2 if suffix == "s" else _LEAST_STEM
        yield from (form for form in forms if len(form) >= least)
