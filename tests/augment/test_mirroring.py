"""Texts of mirrored pictures: sides change places, and whatever may be no side is left alone."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from tiny_records import make_choices, make_factuality, make_hallucination, make_image

from hkdcli.augment import topic_words
from hkdcli.augment.mirroring import exchange_sides
from hkdcli.augment.operations import Change, Refusal, Sample, apply_operation, get_operations
from hkdcli.augment.paraphrases import CAPTION_QUESTIONS, INSTRUCTIONS, QUESTIONS
from hkdcli.data.rows import parse_row, render_row
from hkdcli.scenes.records import build_record

IMAGE = make_image().image
WORDS = """
left right Left RIGHT leftmost right-hand left-side rights bright of the on to a his top middle far in front
facing side hand up man and or dog's dog was nothing what way east clockwise , . ( (R)
"""


def flip(example, image=IMAGE) -> Change | Refusal:
    return apply_operation(get_operations()["flip"], Sample(example, image), Random(0), 1.0)


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("A dog on the left.", "A dog on the right."),
        ("on the left, a dog", "on the right, a dog"),
        ("the man to the far left of the car", "the man to the far right of the car"),
        ("the cat to his right is asleep", "the cat to his left is asleep"),
        ("The surfboard is left of the bed.", "The surfboard is right of the bed."),
        ("left of", "right of"),
        ("at the right side of", "at the left side of"),
        ("Left side of the image", "Right side of the image"),
        ("red shape at middle left", "red shape at middle right"),
        ("the top-left corner", "the top-right corner"),
        ("in the UPPER RIGHT", "in the UPPER LEFT"),
        ("the bottom right is dark", "the bottom left is dark"),
        ("a cup in her right hand", "a cup in her left hand"),
        ("with his right hand up.", "with his left hand up."),
        ("the dog's left ear", "the dog's right ear"),
        ("the left-most person and the rightmost one", "the right-most person and the leftmost one"),
        ("on the left-hand side", "on the right-hand side"),
        ("a man facing left", "a man facing right"),
        ("a sign pointing right, and a dog", "a sign pointing left, and a dog"),
        ("from left to right: a cup and a jug", "from right to left: a cup and a jug"),
        ("to the left and right of the door", "to the right and left of the door"),
        ("on the left or right side", "on the right or left side"),
        ("the car in the left lane, near the right edge", "the car in the right lane, near the left edge"),
    ],
)
def test_sides_change_places_and_change_back(text, mirrored):
    assert exchange_sides(text) == mirrored
    assert exchange_sides(mirrored) == text


@pytest.mark.parametrize(
    "text",
    ["", "a dog", "a bright copyright", "leftovers upright", "all rights reserved", "Describe the image."],
)
def test_a_text_without_sides_stays_as_it_is(text):
    assert exchange_sides(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "what is left of the pizza",
        "All that was left of the house was ash.",
        "half of the cake is left of it",
        "the bus left of its own accord",
        "The people in the middle left.",
        "those at the front left early",
        "she left part of the meal on the plate",
        "he left side dishes on the table",
        "someone left half of the sandwich",
        "the man left on the right",
        "the woman left, and the man stayed",
        "he was left in the middle of the road",
        "the door is left open",
        "two moves left.",
        "gives right of way to cyclists",
        "the right of women to vote",
        "in her own right",
        "he has the right to go",
        "right now",
        "a lodge right in the mountains",
        "looking right at the camera",
        "walking right by a dining room",
        "it looks right.",
        "the dog is on the right and that is right",
        "all right",
        "right side up",
        "on the right-side up glass",
        "his right hand man",
        "the right door for the job",
        "in the right",
        "a right angle",
        "a right wing politician",
        "the right-wing party",
        "on the left of the political spectrum",
        "left field",
        "a left-handed pitcher",
        "the left's corner",
        "left",
        "right",
        "lEFT side",
        "on the r\u0131ght",
    ],
)
def test_a_word_that_may_be_no_side_is_left_alone(text):
    assert exchange_sides(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "turning clockwise",
        "an anti-clockwise path on the left",
        "the east wall",
        "a north-western wind",
        "the port side",
        "a mirrored cupboard on the left",
        "a southpaw on the left",
        "Ann (L) and Tom (R)",
        "Ann and Tom (L-R)",
        "the driver's side",
    ],
)
def test_what_no_exchange_of_words_puts_right_is_left_alone(text):
    assert exchange_sides(text) is None


@given(st.lists(st.sampled_from(WORDS.split()), max_size=12).map(" ".join))
def test_exchanging_twice_gives_the_text_again_and_changes_nothing_but_sides(text):
    mirrored = exchange_sides(text)
    if mirrored is None:
        return
    assert exchange_sides(mirrored) == text
    side = re.compile(r"left|right", re.IGNORECASE)
    assert side.sub("", mirrored) == side.sub("", text)


def test_questions_and_instructions_of_the_bank_speak_of_no_side():
    for bank in (QUESTIONS, CAPTION_QUESTIONS, INSTRUCTIONS):
        for text in (each for group in bank for each in group):
            assert exchange_sides(text) == text


def test_no_text_of_scenes_is_refused():
    sides = 0
    for index in range(120):
        example = build_record("train", index).example
        texts = (
            example.caption,
            example.claim,
            example.context,
            *(choice.text for choice in example.choices),
        )
        for text in texts:
            mirrored = exchange_sides(text)
            assert mirrored is not None
            assert exchange_sides(mirrored) == text
            sides += mirrored != text
    assert sides > 50


def test_flip_mirrors_the_picture_and_every_text_and_keeps_the_answer():
    example = make_hallucination(
        question="Which phrases about the man on the left are hallucinated?",
        caption="the man on the left is left of a dog",
        caption_question="What is to the right of the dog?",
        phrases=("the man on the left", "left of a dog", "dog"),
    )
    made = flip(example)
    assert isinstance(made, Change)
    assert made.parameters == {"sides": "exchanged"}
    assert made.image.tobytes() == ImageOps.mirror(IMAGE).tobytes()
    assert made.example.question == "Which phrases about the man on the right are hallucinated?"
    assert made.example.caption == "the man on the right is right of a dog"
    assert made.example.caption_question == "What is to the left of the dog?"
    assert [c.text for c in made.example.choices[1:]] == ["the man on the right", "right of a dog", "dog"]
    assert made.example.answer == example.answer


def test_flipping_twice_gives_the_sample_again():
    for example in (
        make_hallucination(),
        make_factuality(),
        *(build_record("train", i).example for i in range(40)),
    ):
        once = flip(example)
        assert isinstance(once, Change)
        twice = flip(once.example, once.image)
        assert isinstance(twice, Change)
        assert twice.example == example
        assert twice.image.tobytes() == IMAGE.tobytes()


def test_flip_without_sides_leaves_the_record_alone():
    example = make_factuality(claim="The shelf is blue.", context="A dog sits on the floor.")
    made = flip(example)
    assert isinstance(made, Change)
    assert made.example == example
    assert made.parameters == {"sides": "none"}


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("a dog right next to a man", "side: right"),
        ("an arrow on the wall", "text: arrow"),
        ("a man on the left and the stage door", "side: stage-door"),
        ("a dog on the left fights for its rights", "side: rights"),
        ("a car that drives east on the left", "side: east"),
        ("the man on the left sees a sign", "text: sign"),
    ],
)
def test_a_record_that_mirroring_may_falsify_is_refused_by_the_word(caption, reason):
    made = flip(make_hallucination(caption=caption, phrases=("dog", "man", "cat")))
    assert made == Refusal(reason)


@pytest.mark.parametrize("field", ["question", "instruction", "caption_question"])
def test_a_side_that_is_not_clear_refuses_wherever_it_stands(field):
    made = flip(make_hallucination(**{field: "Choose the right one.", "caption": "a dog on the left"}))
    assert isinstance(made, Refusal)


def test_every_word_of_side_is_exchanged_or_refused():
    for word in topic_words.SIDE.split():
        for phrase in (word, word.replace("-", " ")):
            example = make_hallucination(
                caption=f"a dog on the left and a {phrase} cat", phrases=("dog", "cat", "man")
            )
            made = flip(example)
            if isinstance(made, Change):
                assert phrase not in made.example.caption


def test_the_answer_in_words_follows_the_choices():
    choices = make_choices("No hallucination", "left of a dog", "a cat")
    row = render_row(make_hallucination(choices=choices, answer=frozenset("B")))
    spelled = parse_row(row | {"correct_answer": "Left of a dog."}, "x")
    assert spelled.extra["correct_answer"] == "Left of a dog."
    made = flip(spelled)
    assert isinstance(made, Change)
    assert render_row(made.example)["correct_answer"] == "right of a dog"
    other = parse_row(row | {"correct_answer": "a cat"}, "x")
    assert flip(other) == Refusal("correct_answer says otherwise")
    assert flip(replace(spelled, answer=None)) == Refusal("correct_answer says otherwise")


def test_a_picture_that_is_its_own_mirror_image_is_refused_where_no_text_changes():
    image, example = Image.new("RGB", (9, 5), (200, 10, 10)), make_factuality()
    assert flip(example, image) == Refusal("nothing to change")
    assert isinstance(flip(make_hallucination(), image), Change)
