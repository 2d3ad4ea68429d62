"""Hard negatives and repairs: what they write is known, the grammar stays right, and in doubt they refuse."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_records import make_choices, make_factuality, make_hallucination, make_image

from hkdcli.augment.evidence import NOTHING_KNOWN
from hkdcli.augment.lexicon import load_lexicon
from hkdcli.augment.operations import Change, Refusal, Sample, apply_operation, get_operations
from hkdcli.data.facts import ImageFacts
from hkdcli.data.rows import parse_row, render_row
from hkdcli.scenes.oracle import find_answer
from hkdcli.scenes.records import build_record
from hkdcli.scenes.source import build_facts

SWAPS = ("swap_object", "swap_attribute", "swap_relation")
LISTED = (
    "dog",
    "couch",
    "person",
    "cat",
    "horse",
    "bus",
    "apple",
    "chair",
    "hot dog",
    "elephant",
    "wine glass",
)
IMAGE = make_image().image


def make(caption: str, *phrases: str, gold: str = "A", **fields):
    return make_hallucination(
        caption=caption,
        choices=make_choices("No hallucination", *phrases),
        answer=frozenset(gold),
        caption_question="Describe the image.",
        **fields,
    )


def facts(*objects: str, captions: tuple[str, ...] = (), vocabulary: tuple[str, ...] = LISTED) -> ImageFacts:
    return ImageFacts(objects, captions, frozenset((*objects, *vocabulary)))


def run(name: str, example, known: ImageFacts | None = None, evidence="listed", seed: int = 0):
    sample = Sample(example, IMAGE, known or ImageFacts(), evidence)
    return apply_operation(get_operations()[name], sample, Random(seed), 1.0)


def run_often(name: str, example, known: ImageFacts | None = None, evidence="listed", times: int = 40):
    made = [run(name, example, known, evidence, seed) for seed in range(times)]
    assert any(isinstance(each, Change) for each in made), made[0]
    return [each for each in made if isinstance(each, Change)]


def refuse(name: str, example, known: ImageFacts | None = None, evidence="listed") -> str:
    made = [run(name, example, known, evidence, seed) for seed in range(10)]
    assert all(isinstance(each, Refusal) for each in made), [
        each for each in made if isinstance(each, Change)
    ]
    return made[0].reason


# What is written is false, and the answer says so


def test_a_swapped_phrase_joins_the_answer_and_no_hallucination_leaves_it():
    for made in run_often("swap_object", make("A dog on a couch.", "dog"), facts("dog", "couch")):
        assert made.example.answer == {"B"}
        new = made.example.choices[1].text
        assert new != "dog" and new in made.example.caption and "dog" not in made.example.caption
        assert made.parameters == {"choice": "B", "from": "dog", "to": new, "known_by": "listed"}
        assert parse_row(render_row(made.example), "x") == made.example


def test_what_is_hallucinated_already_stays_so_and_is_never_swapped():
    example = make("A dog beside a bus.", "dog", "bus", gold="C")
    for made in run_often("swap_object", example, facts("dog")):
        assert made.example.answer == {"B", "C"}
        assert made.example.choices[2].text == "bus"


def test_only_what_the_listing_speaks_of_and_does_not_list_is_written():
    written = {
        made.example.choices[1].text
        for made in run_often("swap_object", make("A dog.", "dog"), facts("dog", "cat"))
    }
    assert written == {"horse", "elephant"}


def test_things_that_are_taken_for_one_another_are_not_exchanged():
    assert refuse("swap_object", make("A couch.", "couch"), facts("couch", vocabulary=("couch", "chair")))


@pytest.mark.parametrize(
    ("thing", "listed", "overlooked"), [("toilet", "dining table", "chair"), ("bowl", "fork", "knife")]
)
def test_what_stands_beside_a_listed_thing_as_a_rule_is_not_taken_to_be_absent(thing, listed, overlooked):
    example, vocabulary = make(f"A person beside a {thing}.", thing), (thing, listed, overlooked)
    assert run_often("swap_object", example, facts(thing, vocabulary=(thing, overlooked)))
    refuse("swap_object", example, facts(thing, listed, vocabulary=vocabulary))


def test_a_near_thing_in_the_picture_forbids_the_word():
    known = facts("dog", "truck", vocabulary=("dog", "truck", "car", "bus"))
    assert refuse("swap_object", make("A motorcycle.", "motorcycle"), known)


def test_without_facts_nothing_is_swapped_unless_silence_is_enough():
    example = make("A dog on a couch.", "dog")
    assert refuse("swap_object", example) == NOTHING_KNOWN
    assert run_often("swap_object", example, evidence="record")


def test_by_silence_a_kind_that_is_named_forbids_all_its_things():
    example = make("A dog watches an animal.", "dog")
    assert refuse("swap_object", example, evidence="record") == "the record speaks of the like"


@pytest.mark.parametrize("name", [*SWAPS, "repair"])
def test_claims_records_without_gold_and_contradicted_ones_are_left_alone(name):
    assert refuse(name, make_factuality()) == "not a caption"
    assert refuse(name, replace(make("A dog.", "dog"), answer=None)) == "no gold"
    told = make("A dog.", "dog", extra={"correct_answer": "dog"})
    assert "disagree" in refuse(name, told, facts("dog"))


# Grammar


@pytest.mark.parametrize(
    ("caption", "phrase", "expected"),
    [
        ("A dog sleeps.", "A dog", {"An elephant sleeps.", "A horse sleeps."}),
        ("A dog sleeps.", "dog", {"An elephant sleeps.", "A horse sleeps."}),
        ("Dogs run.", "Dogs", {"Elephants run.", "Horses run."}),
        ("There is an old dog.", "old dog", {"There is an old elephant.", "There is an old horse."}),
    ],
)
def test_number_article_and_case_stay_right(caption, phrase, expected):
    known = facts("dog", vocabulary=("dog", "elephant", "horse"))
    assert {
        made.example.caption for made in run_often("swap_object", make(caption, phrase), known)
    } == expected


def test_an_becomes_a():
    example = make("He eats an apple.", "apple")
    known = facts("apple", vocabulary=("apple", "banana"))
    assert run_often("swap_object", example, known)[0].example.caption == "He eats a banana."


# In doubt, no


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("A dog and another dog.", ["dog"]),
        ("A dog on a couch. The puppy sleeps.", ["dog"]),
        ("A dog house in a garden.", ["dog"]),
        ("A police dog.", ["dog"]),
        ("A statue of a dog.", ["dog"]),
        ("A dog on a couch.", ["dog", "dog on a couch"]),
        ("A street without a dog.", ["dog"]),
        ("There isn't a dog.", ["dog"]),
        ("It looks like a dog.", ["dog"]),
        ("A DOG on a couch.", ["dog"]),
        ("A cat on a couch.", ["dog"]),
        ("A person on a couch.", ["person"]),
        ("A hot dog on a plate.", ["dog"]),
        ("A dog of the police.", ["dog"]),
    ],
)
def test_what_is_not_clear_is_left_alone(caption, phrases):
    refuse("swap_object", make(caption, *phrases), facts("dog", "couch", "hot dog"))
    refuse("swap_object", make(caption, *phrases), evidence="record") if "person" not in caption else None


def test_several_words_are_swapped_as_one():
    example = make("A hot dog on a plate.", "hot dog")
    made = run_often("swap_object", example, facts("hot dog", vocabulary=("hot dog", "apple")))
    assert {each.example.caption for each in made} == {"An apple on a plate."}


# Attributes


def test_a_listing_without_colours_says_nothing_of_colours():
    assert refuse("swap_attribute", make("A red bus.", "red bus"), facts("bus"))


def test_a_listing_with_colours_does():
    known = facts("large red bus", "small blue dog", vocabulary=("green bus", "black dog"))
    captions = {
        made.example.caption for made in run_often("swap_attribute", make("A red bus.", "red bus"), known)
    }
    assert captions and not captions & {"A pink bus.", "An orange bus."} and "A green bus." in captions


def test_a_size_is_turned_round_only_by_what_is_listed():
    known = facts("large red bus", vocabulary=("small red bus",))
    assert (
        run_often("swap_attribute", make("A large bus.", "large bus"), known)[0].example.caption
        == "A small bus."
    )
    assert (
        refuse("swap_attribute", make("A large bus.", "large bus"), evidence="record") == "a matter of degree"
    )


@pytest.mark.parametrize(
    "caption", ["A red and white bus.", "A dark red bus.", "Red wine.", "A woman in red."]
)
def test_by_silence_a_colour_that_may_belong_elsewhere_is_left_alone(caption):
    refuse("swap_attribute", make(caption, caption.rstrip(".")), evidence="record")


# Relations


def test_a_relation_is_turned_round_where_both_ends_are_single():
    known = facts("large red circle", "small blue square")
    example = make("red shape above blue shape.", "red shape above blue shape")
    assert run("swap_relation", example, known).example.caption == "red shape below blue shape."
    twice = facts("large red circle", "small blue square", "large blue star")
    assert refuse("swap_relation", example, twice) == "more than one thing may be meant"


# Repairs


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


# Laws


@given(st.integers(0, 400), st.sampled_from([*SWAPS, "repair"]), st.integers(0, 9))
def test_on_scenes_the_oracle_agrees_with_every_answer(index, name, seed):
    record = build_record("train", index)
    made = run(name, record.example, build_facts(record.scene), seed=seed)
    if isinstance(made, Change):
        assert made.example.answer == find_answer(made.example, record.scene)


WORDS = st.sampled_from(
    [
        "a",
        "an",
        "the",
        "dog",
        "cats",
        "red",
        "large",
        "hot",
        "wine",
        "of",
        "in",
        "on",
        ",",
        ".",
        "and",
        "no",
        "apple",
        "A",
        "Dog's",
        "é",
        "[",
        "(",
        "*",
        "glass",
        "above",
        "left",
    ]
)


@given(st.lists(WORDS, min_size=1, max_size=14), st.data())
def test_whatever_the_caption_a_change_is_a_record_that_reads_back(words, data):
    caption = " ".join(words)
    spans = st.tuples(st.integers(0, len(words) - 1), st.integers(1, 4))
    chosen = data.draw(st.lists(spans, min_size=1, max_size=5, unique=True))
    phrases = [" ".join(words[at : at + size]) for at, size in chosen]
    example = make(caption, *phrases, gold=data.draw(st.sampled_from("AB")))
    for name in (*SWAPS, "repair"):
        made = run(name, example, facts("dog", "cat", captions=("a dog on the cat",)), seed=1)
        if isinstance(made, Change):
            assert made.example.answer <= {choice.id for choice in made.example.choices}
            assert made.example.answer and len(made.example.choices) == len(example.choices)
            changed = [c for c, old in zip(made.example.choices, example.choices, strict=True) if c != old]
            assert len(changed) == 1 and changed[0].text in made.example.caption
            assert parse_row(render_row(made.example), "x") == made.example


# The lexicon


def test_no_form_means_two_things():
    entries = load_lexicon().objects.values()
    seen: dict[str, str] = {}
    for entry in entries:
        for form in entry.mentions:
            assert seen.setdefault(form, entry.word) == entry.word, form


def test_what_is_near_is_near_both_ways_and_is_known():
    lexicon = load_lexicon()
    for entries in (lexicon.objects, lexicon.attributes):
        for entry in entries.values():
            assert all(entry.word in entries[other].near for other in entry.near)


def test_every_word_that_names_others_is_one_of_the_lexicon():
    import yaml

    from hkdcli.augment.lexicon import FILE

    content = yaml.safe_load(FILE.read_text("utf-8"))
    groups = content["objects"]
    things = {word for group in groups.values() for word in group}
    values = {word for group in content["attributes"].values() for word in group}
    assert set(content["kinds"]) <= set(groups)
    assert {word for each in content["near"] for word in each} <= things
    assert {word for each in content["near_values"] for word in each} <= values
    assert set(content["value_synonyms"]) <= values
    assert set(content["gradual"]) <= set(content["attributes"])


# What an attack has found


def test_a_listing_of_kinds_says_nothing_of_the_thing():
    known = facts("truck", vocabulary=("truck", "ferry", "seagull", "foal"))
    assert refuse("swap_object", make("A truck waits.", "truck"), known)


@pytest.mark.parametrize(
    "caption", ["A slice of apple.", "He trains a cat.", "It can bear a weight.", "A cup of apple."]
)
def test_a_word_that_may_be_a_verb_or_a_mass_is_left_alone(caption):
    phrase = next(word for word in ("apple", "trains", "bear") if word in caption)
    refuse("swap_object", make(caption, phrase), facts("dog", vocabulary=("bus", "truck", "banana", "horse")))


def test_a_value_before_a_fixed_expression_is_left_alone():
    refuse("swap_attribute", make("A green street light.", "green street"), evidence="record")
