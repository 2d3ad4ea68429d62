"""Hard negatives: what they write is known to be false, the grammar stays right, and in doubt they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_makers import facts, make, refuse, run, run_often
from tiny_records import make_factuality

from hkdcli.augment.evidence import NOTHING_KNOWN
from hkdcli.augment.lexicon import load_lexicon
from hkdcli.augment.operations import Change
from hkdcli.augment.phrasing import read_grams
from hkdcli.data.records import Example
from hkdcli.data.rows import parse_row, render_row
from hkdcli.scenes.oracle import find_answer
from hkdcli.scenes.records import build_record
from hkdcli.scenes.source import build_facts

SWAPS = ("swap_object", "swap_attribute", "swap_relation")


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


@pytest.mark.parametrize("kind", ["animal", "Animal", "Land animal", "Carnivore"])
def test_a_listed_kind_may_be_any_of_its_things(kind):
    example, names = make("A dog sleeps.", "dog"), ("horse", "bus")
    assert run_often("swap_object", example, facts("dog", vocabulary=names))
    refused = refuse("swap_object", example, facts("dog", kind, vocabulary=names))
    assert refused == "the listing has a thing that may be one"


def test_a_listed_thing_that_is_called_as_a_kind_is_not_taken_for_one():
    known = facts("fork", "wine glass", vocabulary=("bowl", "wine glass"))
    refuse("swap_object", make("A fork.", "fork"), known)
    known = facts("cup", "wine glass", vocabulary=("fork",))
    assert run_often("swap_object", make("A cup.", "cup"), known)[0].example.caption == "A fork."


@pytest.mark.parametrize(
    ("caption", "thing", "never"),
    [
        ("A table in a bathroom.", "table", "toilet"),
        ("A clock in a kitchen full of flowers.", "clock", "vase"),
        ("A skateboarder catches a frisbee.", "frisbee", "skateboard"),
    ],
)
def test_by_silence_what_goes_without_saying_is_not_taken_to_be_absent(caption, thing, never):
    made = run_often("swap_object", make(caption, thing), evidence="record", times=150)
    assert all(each.parameters["to"] != never for each in made)


def test_what_only_the_record_names_is_not_written():
    known = facts("dog", vocabulary=("horse", "elephant"))
    made = run_often("swap_object", make("A dog watches a pony.", "dog"), known)
    assert {each.parameters["to"] for each in made} == {"elephant"}


def test_the_text_of_an_answer_that_is_no_longer_right_goes():
    example = make("A dog.", "dog", extra={"correct_answer": "No hallucination", "source": "x"})
    assert run_often("swap_object", example, facts("dog"))[0].example.extra == {"source": "x"}


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


def test_a_caption_in_capitals_stays_in_capitals():
    known = facts("dog", vocabulary=("elephant",))
    made = run_often("swap_object", make("A DOG RUNS.", "DOG"), known)
    assert made[0].example.caption == "AN ELEPHANT RUNS."


def test_a_capital_that_begins_a_sentence_makes_no_name():
    known = facts("dog", vocabulary=("horse",))
    made = run_often("swap_object", make("It rains. Dogs run.", "Dogs"), known)
    assert made[0].example.caption == "It rains. Horses run."


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
        ("A dog is hidden from view.", ["dog"]),
        ("The dog cannot be seen.", ["dog"]),
        ("A plush dog.", ["dog"]),
        ("Fans of the Dogs cheer.", ["Dogs"]),
        ("He wears a Dogs jersey.", ["Dogs"]),
        ("A goat on a couch. The dog watches a goat.", ["goat"]),
        ("A man who watches a parade.", ["watches a parade"]),
        ("They train for a race.", ["train for a race"]),
        ("The boats will sink.", ["will sink"]),
        ("He wants to train.", ["to train"]),
        ("He stops and crosses.", ["crosses"]),
        ("The village is remote.", ["remote"]),
        ("A person who bears a load.", ["bears a load"]),
        ("An apple a day.", ["apple"]),
        ("Luggage on a cart.", ["Luggage"]),
    ],
)
def test_what_is_not_clear_is_left_alone(caption, phrases):
    refuse("swap_object", make(caption, *phrases), facts("dog", "couch", "hot dog"))
    refuse("swap_object", make(caption, *phrases), evidence="record") if "person" not in caption else None


@pytest.mark.parametrize("thing", ["suitcase", "cow", "airplane"])
def test_a_synonym_that_is_one_or_several_does_not_keep_a_word_from_being_swapped(thing):
    assert run_often("swap_object", make(f"One {thing}.", thing), evidence="record")


@pytest.mark.parametrize("caption", ["A box with pizza.", "A man eats pizza.", "Pizza on a plate."])
def test_a_mass_is_swapped_for_a_mass_alone(caption):
    phrase = "Pizza" if caption.startswith("Pizza") else "pizza"
    known = facts("pizza", vocabulary=("pizza", "cake", "donut", "apple", "carrot"))
    made = {each.parameters["to"].lower() for each in run_often("swap_object", make(caption, phrase), known)}
    assert made == {"cake"}
    made = run_often("swap_object", make("A man eats a pizza.", "pizza"), known)
    assert "A man eats an apple." in {each.example.caption for each in made}


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


@pytest.mark.parametrize(
    ("objects", "choices", "expected"),
    [
        (("red bus",), ("red bus",), {"green", "blue"}),
        (("red bus", "cyan bus"), ("red bus",), set()),
        (("red bus", "bus"), ("red bus",), set()),
        (("red bus",), ("red",), set()),
        (("red bus",), ("red bus", "Green bus"), {"blue"}),
    ],
)
def test_a_colour_is_written_that_nothing_listed_is_or_could_be_taken_for(objects, choices, expected):
    example = make("A bus, red bus.", *choices, gold="A" if len(choices) == 1 else "C")
    known = facts(*objects, vocabulary=("green bus", "blue bus"))
    made = [run("swap_attribute", example, known, seed=seed) for seed in range(40)]
    written = {each.parameters["to"].split()[0] for each in made if isinstance(each, Change)}
    assert written == expected


def test_a_phrase_that_stands_twice_in_its_caption_is_left_alone():
    refuse("swap_attribute", make("A red bus and a red bus.", "red bus"), evidence="record")


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
    "caption",
    [
        "A red and white bus.",
        "A dark red bus.",
        "A pink, red bus.",
        "Red wine.",
        "A woman in red.",
        "A wooden bench.",
        "A Red Sox fan.",
        "Red Rock Canyon.",
        "A black and white photo.",
        "A green traffic light.",
    ],
)
def test_by_silence_a_colour_that_may_belong_elsewhere_is_left_alone(caption):
    refuse("swap_attribute", make(caption, caption.rstrip(".")), evidence="record")


def test_by_silence_no_colour_is_written_that_some_part_of_nearly_everything_has():
    made = run_often("swap_attribute", make("A red bus.", "red bus"), evidence="record", times=150)
    assert {each.example.caption for each in made} == {
        f"A {colour} bus." for colour in ("green", "blue", "yellow", "cyan")
    }


# Relations


@pytest.mark.parametrize(
    ("caption", "is_clear"),
    [
        ("a dog left of a cat", True),
        ("a sign above a door", True),
        ("people above a street", False),
        ("a crowd below a sign", False),
        ("dogs left of a cat", False),
        ("two dogs left of a cat", False),
        ("a dog left of a cat and a bus", False),
        ("a man in front of a car", False),
        ("a woman behind a desk", False),
    ],
)
def test_by_silence_a_relation_is_turned_round_between_two_that_are_named_as_one(caption, is_clear):
    if is_clear:
        assert run_often("swap_relation", make(f"{caption}.", caption), evidence="record")
    else:
        refuse("swap_relation", make(f"{caption}.", caption), evidence="record")


def test_a_relation_is_turned_round_where_both_ends_are_single():
    known = facts("large red circle", "small blue square")
    example = make("red shape above blue shape.", "red shape above blue shape")
    assert run("swap_relation", example, known).example.caption == "red shape below blue shape."
    twice = facts("large red circle", "small blue square", "large blue star")
    assert refuse("swap_relation", example, twice) == "more than one thing may be meant"


# Laws


@given(st.integers(0, 400), st.sampled_from([*SWAPS, "repair"]), st.integers(0, 9))
def test_on_scenes_the_oracle_agrees_with_every_answer(index, name, seed):
    record = build_record("train", index)
    made = run(name, record.example, build_facts(record.scene), seed=seed)
    if isinstance(made, Change):
        assert made.example.answer == find_answer(made.example, record.scene)


SAID = (
    "a an the dog cats red large hot wine of in on , . and no apple A Dog's \u00e9 [ ( * glass above left "
    "DOG Red traffic light slice pizza \u201cbus\u201d bus bus-stop sheep watches \U0001f415 \u200b \\ "
    "wooden behind"
)
WORDS = st.sampled_from(SAID.split(" "))
EVIDENCE = st.sampled_from(["listed", "record"])
KNOWN = facts("dog", "large red bus", captions=("a dog on the cat", "no cats in the bus"))


@given(st.lists(WORDS, min_size=1, max_size=30), EVIDENCE, st.data())
def test_whatever_the_caption_a_change_is_a_record_that_reads_back(words, evidence, data):
    caption = " ".join(words)
    spans = st.tuples(st.integers(0, len(words) - 1), st.integers(1, 4))
    chosen = data.draw(st.lists(spans, min_size=1, max_size=25, unique=True))
    phrases = [" ".join(words[at : at + size]) for at, size in chosen]
    letters = [chr(ord("B") + place) for place in range(len(phrases))]
    gold = data.draw(st.just("A") | st.lists(st.sampled_from(letters), min_size=1, unique=True).map("".join))
    example = make(caption, *phrases, gold=gold)
    for name in (*SWAPS, "repair"):
        made = run(name, example, KNOWN, evidence, seed=1)
        if isinstance(made, Change):
            check_change(name, example, made.example)


def check_change(name: str, before: Example, after: Example) -> None:
    """One phrase is another, which the caption holds; its label has turned round, and no other one."""
    pairs = list(zip(before.choices, after.choices, strict=True))
    changed = [new for old, new in pairs if old != new]
    assert len(changed) == 1 and after.caption.count(changed[0].text) >= 1
    right, was = after.answer or frozenset(), (before.answer or frozenset()) - {"A"}
    assert (right - {"A"}) ^ was == {changed[0].id} and ("A" in right) == (right == {"A"})
    assert (changed[0].id in right) == (name != "repair")
    assert parse_row(render_row(after), "x") == after


@given(st.lists(WORDS, min_size=1, max_size=12), EVIDENCE, st.integers(0, 9))
def test_no_swap_writes_what_record_or_facts_name(words, evidence, seed):
    caption = f"A cow beside a vase. {' '.join(words)}"
    example = make(caption, "cow beside a vase")
    made = run("swap_object", example, KNOWN, evidence, seed)
    if isinstance(made, Change):
        named = read_grams([caption, *(KNOWN.objects or ()), *KNOWN.captions])
        new = read_grams([made.parameters["to"]]) - read_grams(["cow beside a vase"])
        entry = next(each for word, each in load_lexicon().objects.items() if word in new)
        assert not named & entry.mentions


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
