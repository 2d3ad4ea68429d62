"""Plurals and articles of English, as far as swapping a word for another needs them."""

from __future__ import annotations

from collections.abc import Mapping

_VOWELS = "aeiou"
_SOUND_AS_CONSONANT = ("uni", "use", "usu", "util", "euro", "one", "once", "ukulele", "ewe", "ufo")
_SILENT_H = ("hour", "honest", "honor", "honour", "heir")


def form_plural(noun: str, irregular: Mapping[str, str]) -> str:
    """The plural of a noun or of a compound that ends in one.

    Args:
        noun: in lower case, singular.
        irregular: plurals that no rule gives, by their last word.

    Returns:
        The plural, as "traffic lights".
    """
    before, _, last = noun.rpartition(" ")
    return f"{before} {_form(last, irregular)}".strip()


def _form(noun: str, irregular: Mapping[str, str]) -> str:
    if noun in irregular:
        return irregular[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in _VOWELS:
        return noun[:-1] + "ies"
    return noun + "s"


def choose_article(word: str, article: str) -> str:
    """The indefinite article before a word.

    Args:
        word: what follows it.
        article: the one that stood there, whose case is kept.

    Returns:
        "a" or "an", in that case.
    """
    lower = word.lower()
    is_vowel = lower[:1] in _VOWELS and not lower.startswith(_SOUND_AS_CONSONANT)
    right = "an" if is_vowel or lower.startswith(_SILENT_H) else "a"
    return right.capitalize() if article[:1].isupper() else right


def match_case(word: str, model: str) -> str:
    """A word written as another is: in capitals, with a capital, or in lower case."""
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
