"""Proposed phrases: laws that hold for any text, and what the rule finds in captions as people write them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkdcli.data.phrases import MAX_PHRASES, propose_phrases

WORDS = [
    *("a", "the", "two", "red", "large", "cat", "dogs", "mat", "table", "people", "group", "picture"),
    *("of", "on", "in", "front", "next", "to", "is", "are", "sitting", "holds", "parked", "brightly"),
    *("and", "it", "which", "isn't", "man's", ",", ".", "\n", "7", "\u2019", "-", "e\u0301t\u00e9"),
    *("\U0001f600", "\u732b", "\u092c\u093f\u0932\u094d\u0932\u0940", "\u202e", "\x00", "\ud83d"),
]
captions = st.one_of(
    st.text(max_size=200),
    st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join),
    st.text(alphabet=st.characters(), max_size=60),
)


@given(captions, st.integers(0, 30))
def test_each_phrase_is_a_part_of_the_caption_in_order_and_none_comes_twice(caption, most):
    phrases = propose_phrases(caption, most=most)
    assert len(phrases) <= most
    assert len({phrase.casefold() for phrase in phrases}) == len(phrases)
    place = -1
    for phrase in phrases:
        assert phrase.strip() == phrase != ""
        assert "\n" not in phrase
        place = caption.find(phrase, max(place, 0))
        assert place >= 0


@given(captions, st.integers(0, 12))
def test_fewer_phrases_are_some_of_the_more(caption, most):
    fewer, more = propose_phrases(caption, most=most), propose_phrases(caption, most=most + 1)
    assert [phrase for phrase in more if phrase in fewer] == list(fewer)
    assert len(more) - len(fewer) in (0, 1)


@given(captions, captions)
def test_sentences_do_not_look_at_each_other(first, second):
    together = propose_phrases(f"{first}.\n{second}", most=1000)
    apart = (*propose_phrases(first, most=1000), *propose_phrases(second, most=1000))
    assert {phrase.casefold() for phrase in together} == {phrase.casefold() for phrase in apart}


@given(captions)
def test_no_word_is_cut_and_blanks_around_change_nothing(caption):
    phrases = propose_phrases(caption)
    assert propose_phrases(f"  {caption} ") == phrases
    for phrase in phrases:
        assert any(
            not (before.isalnum() or after.isalnum()) for before, after in _neighbours(caption, phrase)
        )


def _neighbours(caption: str, phrase: str) -> Iterator[tuple[str, str]]:
    """The characters before and after each place where the phrase stands."""
    place = caption.find(phrase)
    while place >= 0:
        end = place + len(phrase)
        yield caption[place - 1 : place] if place else "", caption[end : end + 1]
        place = caption.find(phrase, place + 1)


CAPTIONS = {
    "A cat on the red mat.": ("cat", "cat on the red mat", "red mat"),
    "The car is red.": ("car", "car is red"),
    "Some people are smiling": ("people", "people are smiling"),
    "a man riding a motorcycle down the street": (
        "man",
        "man riding a motorcycle",
        "motorcycle",
        "motorcycle down the street",
        "street",
    ),
    "A group of people in front of the old church": (
        "group of people",
        "group of people in front of the old church",
        "old church",
    ),
    "The image features two goats and a smiling man.": ("two goats", "smiling man"),
    "A red and green bucket, an orange and a banana": ("green bucket", "orange", "banana"),
    "A young boy who is holding a transparent kite": (
        "young boy",
        "young boy who is holding a transparent kite",
        "transparent kite",
    ),
    "red shape left of blue shape, circle in green": (
        "red shape",
        "red shape left of blue shape",
        "blue shape",
        "circle",
        "circle in green",
    ),
    "It isn't there. He has it.": (),
    "A Dog. a dog. THE DOG": ("Dog",),
    "A boat has 3 sails\nand the captain's hat": ("boat", "boat has 3 sails", "3 sails", "captain's hat"),
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_objects_and_what_is_said_of_them_are_found(caption):
    assert propose_phrases(caption) == CAPTIONS[caption]


def test_where_there_are_too_many_objects_come_before_relations():
    caption = "A cat on a mat beside a dog under a table"
    assert propose_phrases(caption, most=4) == ("cat", "mat", "dog", "table")
    assert propose_phrases(caption, most=2) == ("cat", "mat")
    assert len(propose_phrases(", ".join(f"a thing{i}x" for i in range(99)))) == MAX_PHRASES


@pytest.mark.parametrize(
    "caption", ["", " \n\t", "\U0001f600\U0001f468\u200d\U0001f469", "...", "\0", "\ud83d"]
)
def test_a_caption_that_names_nothing_gives_nothing(caption):
    assert propose_phrases(caption) == ()


def test_other_scripts_are_cut_at_their_punctuation_and_never_inside_a_word():
    chinese, hindi = "\u732b\u5728\u57ab\u5b50\u4e0a", "\u092f\u0939 \u092c\u093f\u0932\u094d\u0932\u0940"
    assert propose_phrases(f"{chinese}\uff0c{chinese[::-1]}\u3002") == (chinese, chinese[::-1])
    assert propose_phrases(f"{hindi}\u0964") == (hindi,)


@pytest.mark.parametrize(
    "unit", ["blue wire shelf of ", "x", "a-", "of the ", "is ", "a cat on ", "'", "e\u0301 "]
)
def test_time_is_linear_in_the_caption(unit):
    start = time.process_time()
    propose_phrases(unit * (200_000 // len(unit)))
    assert time.process_time() - start < 4  # about 0.5; where each word looked at all others, many minutes


@settings(max_examples=30)
@given(st.text(min_size=1, max_size=80))
def test_ten_thousand_characters_of_anything_are_read(piece):
    assert len(propose_phrases((piece * 10_000)[:10_000])) <= MAX_PHRASES


def test_a_word_of_shape_may_end_a_thing() -> None:
    assert propose_phrases("square in yellow, purple square.") == (
        "square",
        "square in yellow",
        "purple square",
    )


@pytest.mark.parametrize(
    "between",
    [". ", ", ", " (", " - ", " \u2013 ", "; ", ": ", "\n", "\t", "\r\n", "/", "\nand a\t", " and "],
)
@pytest.mark.parametrize("article", ["a ", ""])
def test_two_things_are_both_proposed_whatever_divides_them(between, article):
    caption = f"{article}red circle{between}{article}blue square"
    assert propose_phrases(caption) == ("red circle", "blue square")


@pytest.mark.parametrize("blank", ["\n", "\t", "\r\n"])
def test_no_word_of_a_thing_is_lost_where_each_has_a_line(blank):
    words = ["a", "red", "circle", "and", "a", "blue", "square"]
    assert propose_phrases(blank.join(words)) == ("red", "circle", "blue", "square")


APART = {
    "a red circle, blue": ("red circle", "blue"),
    "A red circle; orange.": ("red circle", "orange"),
    "a red circle and blue": ("red circle", "blue"),
    "Red.": ("Red",),
    "The car is red, wet and big.": ("car", "car is red", "wet", "big"),
    "orange and banana": ("orange", "banana"),
    "Umbrellas: green, purple, and yellow": ("Umbrellas", "green", "purple", "yellow"),
    "A red. And green bucket": ("red", "green bucket"),
}


@pytest.mark.parametrize("caption", APART)
def test_adjectives_that_stand_apart_are_not_dropped(caption):
    assert propose_phrases(caption) == APART[caption]


@pytest.mark.parametrize("caption", ["It is red.", "It's red", "one, two and 3", "He looks happy"])
def test_what_is_said_of_nothing_named_and_bare_numbers_are_no_things(caption):
    assert propose_phrases(caption) == ()


def test_an_adjective_after_a_noun_may_be_the_thing() -> None:
    assert propose_phrases("a traffic light, a juicy orange") == ("traffic light", "juicy orange")
