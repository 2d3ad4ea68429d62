"""Texts of mirrored pictures: left and right exchanged, where both can mean nothing but sides.

A side is known by the words around it. "Left" may be what somebody did ("the bus left"), "right" what is
correct, or exactly there ("right at the door"); so a word that does not stand as one of the few ways to name
a side counts as something else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hkdcli.data.english import read_list

_OTHER = {"left": "right", "right": "left"}
_SIDE = re.compile(r"(?<![^\W_])(left|right)((?:-?hand|-?most|wards?|-?side)?)(?![^\W_])", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[.,;:!?()]")
_NEAR_CHARACTERS = 200
"""How much of a text is split into words on either side of a word, of which at most 12 are read."""
_TURNING = re.compile(
    r"\b(?:(?:anti|counter)?-?clockwise|(?:north|south)?-?(?:east|west)(?:ern|wards?|bound)?|port|starboard"
    r"|mirror(?:ed|s|ing)?|backwards?|l\s?[-/]\s?r|lh|rh|lefty|righty|southpaw|inverted|reversed|compass"
    r"|(?:driver|passenger|wrong)(?:['\u2019]?s)?[- ]side)\b|[(\[][lr][)\]]",
    re.IGNORECASE,
)
"""What a mirrored picture shows otherwise, or may, and what exchanging left and right does not put right."""


_DETERMINERS = read_list("the its his her their my your our")
_TO = read_list("to on at towards toward along near")
_HEIGHTS = read_list("top bottom upper lower far")
_DEPTHS = read_list("front back rear middle mid centre center near")
"""The people in the middle left; a shape at middle left did not."""
_MOVING = read_list(
    """facing turned turning looking pointing heading leaning moving walking running driving bending tilted
    from"""
)
_PARTS = read_list(
    """side sides hand hands corner corners half edge end part portion third quarter arm arms leg legs feet
    eye eyes ear ears shoulder shoulders knee knees wrist elbow cheek thigh paw paws lane lanes panel border
    margin wall window column wheel"""
)
_BEFORE_PARTS = _DETERMINERS | _TO | _HEIGHTS | _DEPTHS | read_list("a an in from with of by closer")
_IDIOMS = {"hand": read_list("man men"), "side": read_list("up out dish dishes")}
"""What makes a part no part: "right hand man", "right side up"."""
_VIEWS = read_list(
    """party parties politics political politically politician politicians spectrum wing wings winger law
    history fabric cloth country countries england britain japan australia heart sun"""
)
_REMAINS = read_list(
    """nothing anything something everything little much what that all none some any lot one bit more most
    half piece pieces slice slices bite bites crumb crumbs portion portions"""
)
_NO_PLACES = read_list(
    "it them him us me its his her their my our your way passage entry refusal which what centre center"
)
_ENDS = read_list(". , ; : ! ? ( ) and or is are has have with in on at") | {""}
_STOPS = read_list(". , ; : ! ? ) and or") | {""}


def exchange_sides(text: str) -> str | None:
    """Say of a mirrored picture what a text says of the picture.

    Args:
        text: in English.

    Returns:
        The text with left and right exchanged, letter cases kept; the same text where it speaks of no side.
        None where a word may mean something else ("right now", "left the room"), or where mirroring changes
        what no exchange of words puts right ("clockwise", "east"). Exchanging twice gives the text again.
    """
    if _TURNING.search(text):
        return None
    if not all(_is_side(text, match) for match in _SIDE.finditer(text)):
        return None
    return _SIDE.sub(lambda match: _exchange(match[1]) + match[2], text)


def hide_sides(text: str) -> str:
    """The text without the words that `exchange_sides` exchanges, so that other words of side stand out."""
    return _SIDE.sub("other", text)


def _is_side(text: str, match: re.Match[str]) -> bool:
    """Whether "left" or "right" stands where it can only be a side."""
    if match[1] not in (match[1].lower(), match[1].upper(), match[1].capitalize()) or not match[1].isascii():
        return False
    start, end = match.span()
    sentence = re.split(r"[.;:!?\n]", text[max(0, start - _NEAR_CHARACTERS) : start])[-1]
    before = [word.lower() for word in _WORD.findall(sentence)][-12:]
    after = [word.lower() for word in _WORD.findall(text[end : end + _NEAR_CHARACTERS])[:6]]
    if _VIEWS.intersection(after) or _VIEWS.intersection(before):
        return False
    last, coming, then = (before or [""])[-1], *(after + ["", ""])[:2]
    if match[2]:
        return coming not in _IDIOMS.get(match[2].lower().strip("-"), ())
    if coming in ("and", "or", "to") and then in _OTHER:
        return True
    if last in ("and", "or", "to") and before[-2:-1] and before[-2] in _OTHER:
        return _ends(coming, then)
    if coming == "of":
        return _is_beside(before, then)
    if _is_part(coming, then):
        return last in _BEFORE_PARTS or _owns(last) or (not last and then in _ENDS | {"of"})
    return _is_direction(before, coming)


def _is_beside(before: Sequence[str], then: str) -> bool:
    """Whether "left of" says where something is, as "what is left of" and "the right of way" do not."""
    last = (before or [""])[-1]
    if _is_named(before) or last in _HEIGHTS:
        return True
    if last in _DETERMINERS or then in _NO_PLACES:
        return False
    return not _REMAINS.intersection(before)


def _is_direction(before: Sequence[str], coming: str) -> bool:
    """Whether a word that no noun follows is a side: "on the left", "top left", "facing left"."""
    last, second = (["", "", *before])[-1], (["", "", *before])[-2]
    if last in _MOVING:
        return coming in _STOPS
    if last in _DEPTHS:
        return coming in _ENDS and second not in _DETERMINERS | {"in"}
    return coming in _ENDS and (last in _HEIGHTS or _is_named(before))


def _is_named(before: Sequence[str]) -> bool:
    """Whether "on the", "to his far" or the like comes before."""
    words = [word for word in before[-3:] if word not in _HEIGHTS]
    return len(words) > 1 and words[-1] in _DETERMINERS and words[-2] in _TO


def _owns(word: str) -> bool:
    """Whether a word is a possessive, as in "the dog's left ear"."""
    return word.endswith(("'s", "\u2019s"))


def _is_part(coming: str, then: str) -> bool:
    """Whether a part of something follows: not in "right hand man", nor in "the right door for" a thing."""
    return coming in _PARTS and then != "for" and then not in _IDIOMS.get(coming, ())


def _ends(coming: str, then: str) -> bool:
    return coming in _ENDS | {"of"} or _is_part(coming, then)


def _exchange(word: str) -> str:
    other = _OTHER[word.lower()]
    return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other
