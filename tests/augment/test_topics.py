"""The guard: what a record speaks of, however it is written; other languages do not slip through."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_records import make_choices, make_factuality, make_hallucination

from hkdcli.augment.topics import NOT_ENGLISH, TOPICS, find_topics
from hkdcli.augment.words import compute_stems, fold_text, read_words
from hkdcli.data.records import Choice
from hkdcli.scenes.records import FACTUALITY_QUESTION as QUESTION
from hkdcli.scenes.records import build_record


def topics_of(caption: str) -> dict[str, str]:
    """Topics of a record that says nothing else."""
    return dict(
        find_topics(
            make_hallucination(
                caption=caption, caption_question="", choices=make_choices("No hallucination", caption)
            )
        )
    )


SAID = [
    ("a red bus", "colour", "red"),
    ("a black and white cat", "colour", "black"),
    ("a black and white photo", "quality", "black-and-white"),
    ("a reddish-brown horse", "colour", "reddish"),
    ("bluish water in the lake", "colour", "bluish"),
    ("a blonde woman", "colour", "blonde"),
    ("ripe bananas on a table", "colour", "ripe"),
    ("a dark room", "light", "dark"),
    ("a dimly lit kitchen", "light", "dimly"),
    ("a street at night", "light", "night"),
    ("the sunniest beach", "light", "sunniest"),
    ("a dog on the left", "side", "left"),
    ("a cup right next to a plate", "side", "right"),
    ("the left-hand window", "side", "left"),
    ("the leftmost horse", "side", "leftmost"),
    ("birds flying west", "side", "west"),
    ("a wheel that turns clockwise", "side", "clockwise"),
    ("a dog at the top", "place", "top"),
    ("a lamp in the corner", "place", "corner"),
    ("trees in the background", "place", "background"),
    ("a truck that is cut off", "place", "cut-off"),
    ("a stop sign", "text", "sign"),
    ("two license plates", "text", "license"),
    ("a shirt that says hello", "text", "says"),
    ("a clock on a tower", "text", "clock"),
    ("a man wearing a watch", "text", "watch"),
    ("a bus with the number 7", "text", "number"),
    ("bus No. 7 in a street", "text", "7"),
    ('a shirt with "hello" on it', "text", "quotation marks"),
    ("a shirt with \u2018hello\u2019 on it", "text", "quotation marks"),
    ("a French flag on a pole", "text", "flag"),
    ("two dogs", "count", "two"),
    ("three's a crowd of people", "count", "three"),
    ("no people in the street", "count", "no"),
    ("a house without windows", "count", "without"),
    ("a dog and another dog", "count", "another"),
    ("built in 1889", "count", "1889"),
    ("a large dog", "size", "large"),
    ("the tallest building", "size", "tallest"),
    ("a close-up of a cat", "size", "close-up"),
    ("a close up of a cat", "size", "close-up"),
    ("two close-ups of a cat", "size", "close-up"),
    ("a blurry dog", "quality", "blurry"),
    ("the dog is out of focus", "quality", "focus"),
    ("a faded photo of a dog", "quality", "faded"),
]


@pytest.mark.parametrize(("caption", "topic", "word"), SAID)
def test_a_word_that_speaks_of_a_topic_is_found(caption, topic, word):
    assert topics_of(caption)[topic] == word


@pytest.mark.parametrize(
    "caption",
    [
        "a dog watching a cat in a park",
        "a woman at the kitchen counter with a pizza",
        "a man in shorts with topped pancakes",
        "a cat and a dog on a sofa",
        "people at a party in a house",
    ],
)
def test_words_that_only_look_alike_are_not_taken_for_topics(caption):
    assert topics_of(caption) == {}


def test_a_year_counts_but_is_no_text_to_read():
    assert "text" not in topics_of("The tower was built in 1889")


_FRAMES = st.tuples(
    st.text("([-,;:!?. \n\t\u00a0\u2026\u2014", max_size=4), st.text(")]-,;:!?. \n\t\u2014", max_size=4)
)
_CASES = st.sampled_from([str.upper, str.lower, str.title, str.capitalize, str.swapcase])


@given(st.sampled_from(SAID), _FRAMES, _CASES, st.booleans())
def test_case_and_punctuation_around_hide_no_word(said, frame, change_case, widen):
    caption, topic, _ = said
    written = change_case(caption)
    if widen:  # full-width letters, as people paste them
        written = "".join(
            chr(ord(char) + 0xFEE0) if char.isascii() and char.isalpha() else char for char in written
        )
    assert set(topics_of(frame[0] + written + frame[1])) >= set(topics_of(caption))
    assert topic in topics_of(frame[0] + written + frame[1])


@given(
    st.sampled_from(["left", "red", "sign", "two", "large"]),
    st.sampled_from(["'s", "\u2019s", "-", "/", "_", "\u00ad", "\u200b"]),
)
def test_possessives_hyphens_and_invisible_characters_hide_no_word(word, mark):
    inside, joined = word[:2] + mark + word[2:], f"dog{mark}{word}{mark}dog"
    written = inside if mark in "\u00ad\u200b" else word + mark if "s" in mark else joined
    assert topics_of(word).keys() <= topics_of(f"the dog and the {written} of a house").keys()


@given(st.text(max_size=80))
def test_any_text_can_be_read_and_folding_twice_changes_nothing(text):
    folded = fold_text(text)
    assert all(word.isascii() for word in read_words(folded))
    assert read_words(fold_text(folded)) == read_words(folded)
    assert set(topics_of(text or "x")) <= set(TOPICS)


@given(st.from_regex(r"[a-z]{1,12}", fullmatch=True))
def test_stems_are_parts_of_their_word_and_begin_with_it(word):
    stems = compute_stems(word)
    assert stems[0] == word
    assert len(set(stems)) == len(stems)
    assert all(stem[:2] == word[:2] for stem in stems)


def test_every_text_of_a_record_is_read_and_the_first_word_is_told():
    plain = make_factuality(claim="A dog sleeps.", context="It is in a house. A cat sleeps, too.")
    assert find_topics(plain) == {}
    assert find_topics(replace(plain, claim="A red dog sleeps.")) == {"colour": "red"}
    assert find_topics(replace(plain, context="A blue house. A red dog.")) == {"colour": "blue"}
    assert find_topics(replace(plain, question="Is the dog on the left?")) == {"side": "left"}
    captioned = make_hallucination(
        caption="a dog", caption_question="", choices=make_choices("No hallucination", "dog")
    )
    assert find_topics(captioned) == {}
    assert find_topics(replace(captioned, caption_question="Is the dog on the left?")) == {"side": "left"}
    assert find_topics(replace(captioned, choices=make_choices("dog", "two cats"))) == {"count": "two"}


def test_what_every_record_says_is_no_topic():
    factual = make_factuality(claim="A dog sleeps.", context="", question=QUESTION.upper())
    assert find_topics(factual) == {}
    assert find_topics(replace(factual, instruction="Answer with one letter.")) == {}
    asked = make_hallucination(
        caption="a dog",
        caption_question="Describe the image in one sentence.",
        choices=make_choices("No hallucination", "dog"),
    )
    assert find_topics(asked) == {}
    # In a record of facts "No hallucination" is a choice as any other.
    odd = replace(factual, choices=(Choice("A", "No hallucination"), Choice("B", "True")))
    assert find_topics(odd) == {"count": "no"}


FOREIGN = [
    "Un chien court dans le parc avec un ballon jaune.",
    "\u00c0 gauche, une femme tient un parapluie.",
    "chien noir",
    "Un chat sur un lit",
    "Ein roter Hund l\u00e4uft \u00fcber die Stra\u00dfe.",
    "Links steht eine Frau mit Regenschirm.",
    "Ein Mann in einem Boot",
    "Mann mit Hut",
    "Un perro rojo corre por el parque.",
    "A la izquierda hay una mujer con un paraguas.",
    "coche rojo",
    "la red social no es original",
    "Un cane rosso corre nel parco.",
    "A sinistra c'\u00e8 una donna con un ombrello.",
    "Cane in acqua",
    "Um cachorro vermelho corre no parque.",
    "De man is in het water",
    "Een warm bed in de kamer",
    "En r\u00f6d hund springer i parken.",
    "To m\u00e6nd sidder p\u00e5 en b\u00e6nk",
    "Czerwony pies biegnie w parku.",
    "Seekor anjing merah berlari di taman.",
    "Masada bir kedi",
    "\u043a\u0440\u0430\u0441\u043d\u044b\u0439 \u043f\u0451\u0441 \u0441\u043b\u0435\u0432\u0430",
    "\u5de6\u8fb9\u6709\u4e00\u53ea\u7ea2\u8272\u7684\u72d7",
    "\u0643\u0644\u0628 \u0623\u062d\u0645\u0631",
    "a dog \u2b05",
    "a dog and \U0001f534",
    "\u0663 dogs in a park",
    "A man on a bench. \u00c0 gauche, un chien noir.",
    "A man on a bench, hombre a la izquierda con perro rojo",
]


@pytest.mark.parametrize("text", FOREIGN)
def test_what_is_not_english_speaks_of_every_topic(text):
    everything = dict.fromkeys(TOPICS, NOT_ENGLISH)
    assert topics_of(text) == everything
    assert find_topics(make_factuality(context=text)) == everything
    assert find_topics(make_factuality(claim=text)) == everything
    assert find_topics(make_hallucination(choices=make_choices("No hallucination", text))) == everything


@pytest.mark.parametrize(
    "text",
    [
        "A cat in a hat.",
        "Zebras grazing.",
        "a man in a suit",
        "pizza on a table",
        "A train on tracks",
        "orange",
        "A na\u00efve se\u00f1or by the street",
        "It isn\u2019t a dog \u2013 it's a cat",
        "A dog at 20 \u00b0C",
        "The Eiffel Tower is a wrought-iron lattice tower on the Champ de Mars in Paris, France.",
        "leafy greens and fresh produce on a blue wire shelf",
    ],
)
def test_english_is_taken_for_english(text):
    assert "language" not in topics_of(text)


def test_scenes_are_english_and_every_phenomenon_speaks_of_its_topic():
    topic_of = {
        "colour": "colour",
        "object": "colour",
        "size": "size",
        "position": "place",
        "relation": "colour",
    }
    for index in range(150):
        for task in ("hallucination", "factuality"):
            example = build_record("train", index, task=task).example
            found = find_topics(example)
            assert "language" not in found
            if task == "factuality":
                assert found["count"] == "one"
                continue
            for phenomenon in example.extra["meta"]["phenomena"].values():
                assert topic_of[phenomenon] in found


@settings(max_examples=20)
@given(st.integers(1, 60))
def test_the_same_record_is_read_the_same_again(index):
    example = build_record("dev", index).example
    assert find_topics(example) == find_topics(replace(example, id="another"))
