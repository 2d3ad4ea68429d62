"""Operations on text: paraphrases of what the bank knows, and sentences of a context that stand alone."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_records import make_choices, make_factuality, make_hallucination

from hkdcli.augment.operations import Change, Refusal, Sample, apply_operation, get_operations
from hkdcli.augment.paraphrases import CAPTION_QUESTIONS, INSTRUCTIONS, QUESTIONS, find_paraphrases
from hkdcli.augment.sentences import find_doubt, find_tie, split_sentences
from hkdcli.data.prompts import INSTRUCTION_FACTUALITY, INSTRUCTION_HALLUCINATION
from hkdcli.data.records import Example
from hkdcli.data.rows import parse_row, render_row
from hkdcli.scenes import records as scenes

IMAGE = Image.new("RGB", (4, 4))
ALONE = "A dog sleeps on a sofa. Two cats play in a garden. Red apples lie on a table."
UNVERIFIABLE = {"answer": frozenset({"D"}), "claim": "The photo was taken in Leeds.", "context": ALONE}


def apply(name: str, example: Example, seed: int = 0) -> Change | Refusal:
    return apply_operation(get_operations()[name], Sample(example, IMAGE), Random(seed), 1.0)


def change(name: str, example: Example, seed: int = 0) -> Example:
    made = apply(name, example, seed)
    assert isinstance(made, Change), made
    assert made.image is IMAGE
    assert json.loads(json.dumps(made.parameters)) == made.parameters
    return made.example


def refuse(name: str, example: Example) -> str:
    made = apply(name, example)
    assert isinstance(made, Refusal), made
    return made.reason


@pytest.mark.parametrize("bank", [QUESTIONS, CAPTION_QUESTIONS, INSTRUCTIONS])
def test_a_bank_has_twelve_ways_to_put_each_text_plain_and_none_twice(bank):
    texts = [text for group in bank for text in group]
    assert all(len(group) >= 12 for group in bank)
    assert len({text.casefold() for text in texts}) == len(texts)
    for text in texts:
        assert text.isascii()
        assert text == " ".join(text.split())
        assert text[-1] in ".?"
        assert text[0].isupper()


def test_the_bank_knows_the_fixed_texts_of_records_and_prompts():
    assert find_paraphrases(QUESTIONS, scenes.HALLUCINATION_QUESTION)
    assert find_paraphrases(QUESTIONS, scenes.FACTUALITY_QUESTION)
    assert find_paraphrases(CAPTION_QUESTIONS, scenes.CAPTION_QUESTION)
    assert [group[0] for group in INSTRUCTIONS] == [INSTRUCTION_HALLUCINATION, INSTRUCTION_FACTUALITY]


def test_paraphrases_ask_the_same_way_round_and_hint_at_no_answer():
    hinting = (
        "n't",
        " not ",
        " no ",
        "any",
        "correct",
        "supported",
        "false",
        " one or more",
        "several",
        "most",
    )
    for group in (*QUESTIONS, *INSTRUCTIONS):
        for text in group:
            assert not any(hint in f" {text.lower()} " for hint in hinting), text
    for text in (*QUESTIONS[0], *INSTRUCTIONS[0]):
        assert "hallucinat" in text or "contradict" in text
    for text in (*QUESTIONS[1], *INSTRUCTIONS[1]):
        assert "claim" in text
    for hallucination, factuality in zip(*INSTRUCTIONS, strict=False):
        assert "letters" in hallucination
        assert "one letter" in factuality or "the letter" in factuality


@given(st.integers(0, 2**32), st.booleans())
def test_questions_are_put_in_words_of_the_bank_and_nothing_else_changes(seed, shout):
    example = scenes.build_record("train", 3).example
    asked = replace(example, question=f"  {example.question.upper()}\n") if shout else example
    changed = change("question", asked, seed)
    assert changed.question in QUESTIONS[0]
    assert changed.question != example.question
    assert changed.caption_question in CAPTION_QUESTIONS[1]
    assert replace(changed, question=example.question, caption_question=example.caption_question) == example


def test_every_paraphrase_comes_up_and_none_is_the_text_itself():
    example = make_factuality(question=scenes.FACTUALITY_QUESTION)
    seen = {change("question", example, seed).question for seed in range(300)}
    assert seen == set(QUESTIONS[1][1:])
    seen = {change("instruction", example, seed).instruction for seed in range(300)}
    assert seen == set(INSTRUCTIONS[1][1:])


def test_questions_that_the_bank_does_not_know_are_left_alone():
    example = make_hallucination(
        question="Which are NOT hallucinated?", caption_question="What is left of the dog?"
    )
    assert refuse("question", example) == "not a question of the bank"
    known = replace(example, caption_question="describe  the image.")
    assert change("question", known).question == example.question


@pytest.mark.parametrize("seed", range(5))
def test_an_instruction_is_paraphrased_for_its_task_again_and_again(seed):
    for example, group in ((make_hallucination(), INSTRUCTIONS[0]), (make_factuality(), INSTRUCTIONS[1])):
        once = change("instruction", example, seed)
        twice = change("instruction", once, seed)
        assert once.instruction in group
        assert twice.instruction in group
        assert twice.instruction != once.instruction
        assert parse_row(render_row(once), "x") == once
    own = make_factuality(instruction=INSTRUCTION_HALLUCINATION)
    assert refuse("instruction", own) == "not an instruction of the bank"


def test_sentences_of_a_context_change_places_and_every_order_comes_up():
    example = make_factuality(claim="A dog sleeps.", context=ALONE)
    seen = set()
    for seed in range(200):
        made = apply("context_order", example, seed)
        if isinstance(made, Refusal):
            assert made.reason == "nothing to change"
            continue
        sentences = split_sentences(example.context)
        assert made.example.context == " ".join(sentences[place] for place in made.parameters["order"])
        assert replace(made.example, context=ALONE) == example
        seen.add(made.example.context)
    assert len(seen) == 5


TIED = [
    ("One cell of the picture is covered. It hides a circle.", "tie: one"),
    ("A dog sleeps. It snores.", "tie: it"),
    ("A dog sleeps. This dog is old.", "tie: this"),
    ("A man stands. A woman holds his hand.", "tie: his"),
    ("A dog sleeps. Then a cat comes.", "tie: then"),
    ("A dog sleeps. However, a cat plays.", "tie: however"),
    ("A dog and a cat. The former sleeps.", "tie: former"),
    ("A dog sleeps. Another dog plays.", "tie: another"),
    ("A dog sleeps. And a cat plays.", "tie: and"),
    ("A house stands in Leeds. The old house is red.", "tie: house"),
    ("A house has houses near. A dog sleeps in the house.", "tie: house"),
    ("A dog and a cat sleep. The two snore.", "tie: two"),
    ("A dog sleeps. The above is true.", "tie: above"),
    ("1. A dog sleeps. 2. A cat plays.", "tie: a list"),
    ("(1) A dog sleeps. (2) A cat plays.", "tie: a list"),
    ("A dog sleeps. A cat plays:", "tie: punctuation"),
    ("A dog sleeps.\nA cat plays.", "tie: punctuation"),
    ('A sign says "Stop" in red. Cars wait.', "tie: punctuation"),
    ("A dog (an old one. A cat plays).", "tie: punctuation"),
    ("Does a dog sleep? A cat plays. A bird sings.", "tie: punctuation"),
    ("A dog sleeps. A cat plays", "tie: an open end"),
    ("A dog sleeps.", "fewer than two sentences"),
    ("Mr. Smith sleeps.", "fewer than two sentences"),
    ("", "no context"),
    ("Un chien dort. Un chat joue.", "language: not English"),
]


@pytest.mark.parametrize(("context", "reason"), TIED)
def test_sentences_that_may_hang_together_stay_where_they_are(context, reason):
    assert refuse("context_order", make_factuality(claim="A dog sleeps.", context=context)) == reason
    dropping = make_factuality(**{**UNVERIFIABLE, "context": context})
    assert refuse("context_drop", dropping) == reason


@pytest.mark.parametrize(
    "claim", ["A dog sleeps before a cat plays.", "The first animal is a dog.", "The context says so."]
)
def test_a_claim_about_an_order_keeps_the_order(claim):
    assert refuse("context_order", make_factuality(claim=claim, context=ALONE)).startswith("order: ")


def test_contexts_of_scenes_and_captions_are_left_alone():
    for index in range(40):
        assert (
            refuse("context_order", scenes.build_record("train", index, task="factuality").example)
            == "tie: one"
        )
        assert refuse("context_order", scenes.build_record("train", index).example) == "no context"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Dr. Smith sleeps. A cat plays.", 2),
        ("It weighs 3.5 tons. A cat plays.", 2),
        ("J. S. Bach sleeps. A cat plays.", 2),
        ("Built in the U.S. by Ford. A cat plays.", 2),
        ("Bus No. 7 waits. A cat plays.", 2),
        ("It was built in 1889. A cat plays.", 2),
        ("Bought by Yahoo! in a hurry. A cat plays.", 2),
        ("a dog sleeps. a cat plays! A bird sings.", 3),
        ("A dog sleeps...  A cat plays.", 1),
        ("", 0),
    ],
)
def test_sentences_are_cut_at_sure_ends_alone(text, parts):
    assert len(split_sentences(text)) == parts


@given(st.text(alphabet='aB1. !?\n"(),', max_size=60))
def test_cutting_loses_nothing_but_blanks(text):
    parts = split_sentences(text)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(part == part.strip() != "" for part in parts)


def test_a_sentence_of_an_unverifiable_claim_is_dropped_and_every_idle_one_comes_up():
    example = make_factuality(**UNVERIFIABLE)
    sentences = split_sentences(ALONE)
    seen = set()
    for seed in range(40):
        made = apply("context_drop", example, seed)
        assert isinstance(made, Change)
        dropped = made.parameters["dropped"]
        assert split_sentences(made.example.context) == sentences[:dropped] + sentences[dropped + 1 :]
        assert made.example.answer == example.answer
        seen.add(dropped)
    assert seen == {0, 1, 2}


def test_nothing_is_dropped_where_more_could_have_been_verified_or_is_unknown():
    for letter in "ABC":
        assert (
            refuse("context_drop", make_factuality(**{**UNVERIFIABLE, "answer": frozenset(letter)}))
            == "verifiable"
        )
    assert refuse("context_drop", make_factuality(**{**UNVERIFIABLE, "answer": None})) == "no gold"
    assert refuse("context_drop", make_hallucination()) == "no context"


@pytest.mark.parametrize(
    "doubt", ["A report is false.", "Experts doubt reports.", "Leeds may be a town.", "No dogs sleep."]
)
def test_a_sentence_that_may_take_another_back_keeps_all(doubt):
    assert find_doubt((doubt,)) is not None
    assert find_tie(f"{doubt} A dog sleeps.") is None
    assert refuse(
        "context_drop", make_factuality(**{**UNVERIFIABLE, "context": f"{ALONE} {doubt}"})
    ).startswith("doubt")


def test_a_sentence_that_speaks_of_the_claim_stays():
    about = "Sources give a height of a tower. Books give heights of towers. A dog sleeps."
    example = make_factuality(
        **{
            **UNVERIFIABLE,
            "claim": "The tower is high.",
            "context": about,
        }
    )
    assert {change("context_drop", example, seed).context.count("tower") for seed in range(30)} == {2}
    nothing_else = replace(example, context="A tower stands in Leeds. Towers stand in Bath.")
    assert refuse("context_drop", nothing_else) == "every sentence speaks of the claim"


def test_the_verdict_is_found_by_its_text_whatever_its_letter():
    choices = make_choices("not verifiable.", "True", "False")
    example = make_factuality(**{**UNVERIFIABLE, "choices": choices, "answer": frozenset("A")})
    assert isinstance(apply("context_drop", example), Change)
    assert refuse("context_drop", replace(example, answer=frozenset("B"))) == "verifiable"


@pytest.mark.parametrize("text", ["Mr. ", "A dog sleeps. ", "the dog ", "x", "The 2. "])
def test_a_long_context_takes_time_linear_in_its_length(text):
    started = time.process_time()
    apply("context_order", make_factuality(context=text * (300_000 // len(text))))
    assert time.process_time() - started < 4
