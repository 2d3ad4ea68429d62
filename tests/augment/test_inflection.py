"""Plurals, articles and letter cases."""

from __future__ import annotations

import pytest

from hkdcli.augment.inflection import choose_article, form_plural, match_case
from hkdcli.augment.lexicon import load_lexicon

PLURALS = {
    "dog": "dogs",
    "bus": "buses",
    "couch": "couches",
    "wine glass": "wine glasses",
    "knife": "knives",
    "sheep": "sheep",
    "toy": "toys",
    "ferry": "ferries",
    "traffic light": "traffic lights",
    "box": "boxes",
}
ARTICLES = {
    "apple": "an", "dog": "a", "hour": "an", "house": "a", "umbrella": "an", "unicorn": "a", "one": "a",
    "orange": "an", "ewe": "a", "ox": "an", "European": "a", "honest": "an", "Igloo": "an", "used": "a",
}  # fmt: skip


@pytest.mark.parametrize("noun", PLURALS)
def test_plurals(noun):
    assert form_plural(noun, {"knife": "knives", "sheep": "sheep"}) == PLURALS[noun]


@pytest.mark.parametrize("word", ARTICLES)
def test_articles_follow_the_sound_and_keep_their_case(word):
    assert choose_article(word, "a") == choose_article(word, "an") == ARTICLES[word]
    assert choose_article(word, "An") == ARTICLES[word].capitalize()


def test_a_word_takes_the_case_of_what_stood_there():
    assert [match_case("traffic light", model) for model in ("dog", "Dog", "DOG", "A")] == [
        "traffic light",
        "Traffic light",
        "TRAFFIC LIGHT",
        "Traffic light",
    ]


def test_every_word_of_the_lexicon_has_a_plural_of_its_own_or_none():
    for entry in load_lexicon().objects.values():
        assert entry.plural in entry.plurals
        assert entry.plural != entry.word or entry.word == "sheep"
