"""Repairs: what they write is true, reads well, and nothing denies it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from label_makers import facts, make, refuse, run
from tiny_records import make_choices


def test_a_fact_that_differs_in_the_phrase_alone_repairs_a_caption():
    example = make("A girl eats a vegetable pizza.", "vegetable pizza", gold="B")
    known = facts(captions=("a girl eats a pepperoni pizza", "Somebody eats."))
    made = run("repair", example, known)
    assert made.example.caption == "A girl eats a pepperoni pizza." and made.example.answer == {"A"}
    assert made.example.choices[1].text == "pepperoni pizza"


def test_a_fact_in_capitals_is_quoted_in_small_letters():
    example = make("Lots of bicycles on a lawn.", "bicycles", gold="B")
    made = run("repair", example, facts(captions=("LOTS OF TOILETS ON A LAWN",)))
    assert made.example.caption == "Lots of toilets on a lawn."


def test_a_repair_needs_a_no_hallucination_to_point_to():
    example = make("A red dog.", "red dog", gold="B")
    example = replace(example, choices=make_choices("a cat", "red dog"))
    assert refuse("repair", example, facts(captions=("A brown dog.",)))


def test_two_wrong_phrases_are_not_repaired_by_one_fact():
    example = make("A girl eats a pizza in a car.", "girl", "car", gold="BC")
    assert refuse("repair", example, facts(captions=("A boy eats a pizza in a car.",)))


@pytest.mark.parametrize("phrase", ["sinks", "no sinks"])
def test_what_a_fact_denies_is_written_nowhere(phrase):
    example = make("A bathroom with no sinks and a bucket.", phrase, gold="B")
    refuse("repair", example, facts(captions=("A bathroom with no toilets and a bucket.",)))


def test_a_quote_takes_the_capital_of_what_stood_there():
    example = make("Two dogs running on a lawn.", "Two dogs", gold="B")
    made = run("repair", example, facts(captions=("three cats running on a lawn",)))
    assert made.example.caption == "Three cats running on a lawn."


@pytest.mark.parametrize(
    ("caption", "phrase", "expected"),
    [
        ("A red dog, a blue ball.", "A red dog", "A brown dog, a blue ball."),
        ("A blue ball, a red dog.", "a red dog", "A blue ball, a brown dog."),
    ],
)
@pytest.mark.parametrize("fact", ["A brown dog.", "a brown dog"])
def test_a_fact_between_commas_takes_neither_full_stop_nor_capital_along(caption, phrase, expected, fact):
    made = run("repair", make(caption, phrase, gold="B"), facts(captions=(fact,)))
    assert made.example.caption == expected


def test_a_fact_that_tells_the_same_repairs_nothing():
    refuse("repair", make("A red dog, a ball.", "A red dog", gold="B"), facts(captions=("a red dog.",)))


def test_a_fact_about_another_thing_repairs_nothing():
    example = make("A red dog on a mat, a ball.", "A red dog on a mat", gold="B")
    refuse("repair", example, facts(captions=("A brown dog on a rug",)))
