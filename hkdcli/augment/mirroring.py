"""Texts of mirrored pictures: left and right exchanged, where both can mean nothing but sides."""

from __future__ import annotations

import re
from collections.abc import Sequence

_OTHER = {"left": "right", "right": "left"}
_SIDE = re.compile(
    r"(?<![^\W_])(left|right)((?:-?hand(?:ed)?|-?most|wards?|-?side)?)(?![^\W_])", re.IGNORECASE
)
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[.,;:!?()]")
_TURNING = re.compile(
    r"\b(?:(?:anti|counter)?-?clockwise|(?:north|south)?-?(?:east|west)(?:ern|wards?|bound)?|port|starboard"
    r"|mirror(?:ed|s|ing)?|backwards?|l/r|lh|rh|lefty|righty|southpaw|inverted|reversed|compass"
    r"|(?:driver|passenger|wrong)(?:['\u2019]?s)?[- ]side)\b",
    re.IGNORECASE,
)
"""What a mirrored picture shows otherwise, or may, and what exchanging left and right does not put right."""


def _read(words: str) -> frozenset[str]:
    return frozenset(words.split())


_BEFORE = _read(
    """top bottom upper lower middle centre center far front back rear mid near facing faces face turned
    turning turns looking looks look pointing points point heading heads leaning leans going goes moving moves
    walking running driving bending bends tilted tilting from"""
)
_AFTER = _read(
    """side sides hand hands corner corners half edge end part portion third quarter arm arms leg legs foot
    feet eye eyes ear ears shoulder shoulders knee knees wrist elbow cheek thigh wing wings paw paws lane
    lanes panel border margin wall window door page column wheel of"""
)
_REMAINS = _read("nothing anything something little much what that all none some any lot one bit more")
_TO = _read("to on at in from towards toward along near")
_DETERMINERS = _read("the its his her their my your our")
_ENDS = _read(". , ; : ! ? ( ) and or is are has have with of in on at") | {""}


def exchange_sides(text: str) -> str | None:
    """Say of a mirrored picture what a text says of the picture.

    Args:
        text: in English.

    Returns:
        The text with left and right exchanged, letter cases kept; the same text where it speaks of no side.
        None where a word may mean something else ("right now", "left the room"), or where mirroring changes
        what no exchange of words puts right ("clockwise", "east").
    """
    if _TURNING.search(text):
        return None
    if not all(_is_side(text, match) for match in _SIDE.finditer(text)):
        return None
    return _SIDE.sub(lambda match: _exchange(match[1]) + match[2], text)


def _is_side(text: str, match: re.Match[str]) -> bool:
    """Whether "left" or "right" stands where it can only be a side."""
    if match[2]:
        return True
    before = [word.lower() for word in _WORD.findall(text[: match.start()])[-3:]]
    after = [word.lower() for word in _WORD.findall(text[match.end() : match.end() + 40])[:2]]
    last, coming = (before or [""])[-1], (after or [""])[0]
    if coming == "of" and last in _REMAINS:
        return False
    if coming in _AFTER or last in _BEFORE:
        return coming in _AFTER or _ends(coming)
    if coming in ("and", "or", "to") and after[1:] and after[1] in _OTHER:
        return True
    if last in ("and", "or", "to") and len(before) > 1 and before[-2] in _OTHER:
        return _ends(coming)
    return _is_named(before) and _ends(coming)


def _is_named(before: Sequence[str]) -> bool:
    """Whether "on the", "to his far" or the like comes before."""
    words = [word for word in before if word not in _BEFORE]
    return len(words) > 1 and words[-1] in _DETERMINERS and words[-2] in _TO


def _ends(coming: str) -> bool:
    return coming in _ENDS


def _exchange(word: str) -> str:
    other = _OTHER[word.lower()]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
