"""Operations on choices: the gold texts never change, nor does what a record keeps of its choices."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_records import make_choices, make_factuality, make_hallucination

from hkdcli.augment.operations import Change, Refusal, Sample, apply_operation, get_operations
from hkdcli.data.prompts import LETTERS
from hkdcli.data.records import Example
from hkdcli.data.rows import parse_row, render_row
from hkdcli.scenes.records import build_record

IMAGE = Image.new("RGB", (4, 4))
NAMES = ("order", "letters")


def apply(name: str, example: Example, seed: int = 0) -> Change | Refusal:
    return apply_operation(get_operations()[name], Sample(example, IMAGE), Random(seed), 1.0)


def find_gold(example: Example) -> Counter[str] | None:
    if example.answer is None:
        return None
    return Counter(choice.text for choice in example.choices if choice.id in example.answer)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """Records as the reader gives them, with odd ids, fields beside the choices and tags of them."""
    count = draw(st.integers(2, 26))
    ids = draw(
        st.sampled_from(
            [
                list(LETTERS),
                [f"{n}" for n in range(1, 27)],
                [f"({c})" for c in LETTERS.lower()],
                list(LETTERS[::-1]),
            ]
        )
    )
    texts = draw(
        st.lists(
            st.sampled_from(["dog", "red cat", "bus on a street", "two men"]), min_size=count, max_size=count
        )
    )
    choices: list[dict[str, Any]] = [
        {"id": each, "choice": text} for each, text in zip(ids, texts, strict=False)
    ]
    for number, choice in enumerate(choices):
        if draw(st.booleans()):
            choice["score"] = number
    gold = draw(st.none() | st.lists(st.sampled_from(ids[:count]), unique=True, min_size=1))
    row = {
        "id": "h",
        "image_id": "h.png",
        "system1_answer": "a dog",
        "system2_question": "Which are hallucinated?",
        "choices": choices,
        "correct_choice": gold,
        "meta": {
            "source": "A",
            "score": 1,
            "tags": dict(zip(ids[:count], texts, strict=True)),
        },
    }
    example = parse_row(row, "x")
    assert isinstance(example, Example)
    return example


@given(examples(), st.integers(0, 2**32), st.sampled_from(NAMES))
def test_gold_texts_and_all_that_is_known_of_a_choice_stay_with_it(example, seed, name):
    made = apply(name, example, seed)
    if isinstance(made, Refusal):
        assert made.reason == "nothing to change"
        return
    changed = made.example
    assert changed != example
    assert find_gold(changed) == find_gold(example)
    assert describe(changed) == describe(example)
    assert {choice.id for choice in changed.choices} == set(LETTERS[: len(example.choices)])
    assert parse_row(render_row(changed), "x") == changed
    kept = replace(changed, choices=example.choices, answer=example.answer, extra=example.extra)
    assert kept == example
    assert changed.extra["meta"]["source"] == "A"
    assert json.loads(json.dumps(made.parameters)) == made.parameters


def describe(example: Example) -> Counter[Any]:
    """What is known of each choice: text, verdict, fields beside it, tag."""
    beside = example.extra.get("choices", [{}] * len(example.choices))
    tags = example.extra["meta"]["tags"]
    answer = example.answer or ()
    return Counter(
        (choice.text, choice.id in answer, more.get("score"), tags[choice.id])
        for choice, more in zip(example.choices, beside, strict=True)
    )


@given(examples(), st.integers(0, 2**32))
def test_order_letters_by_place_and_letters_leaves_the_order(example, seed):
    ordered, lettered = apply("order", example, seed), apply("letters", example, seed)
    if isinstance(ordered, Change):
        assert [choice.id for choice in ordered.example.choices] == list(LETTERS[: len(example.choices)])
        texts = [example.choices[place].text for place in ordered.parameters["order"]]
        assert [choice.text for choice in ordered.example.choices] == texts
    if isinstance(lettered, Change):
        assert [choice.text for choice in lettered.example.choices] == [
            choice.text for choice in example.choices
        ]
        assert [choice.id for choice in lettered.example.choices] == lettered.parameters["letters"]


@pytest.mark.parametrize("name", NAMES)
def test_every_permutation_comes_up_about_as_often(name):
    example = make_factuality(choices=make_choices("True", "False", "Not Verifiable"))
    seen: Counter[tuple[str, ...]] = Counter()
    for seed in range(600):
        made = apply(name, example, seed)
        changed = example if isinstance(made, Refusal) else made.example
        by_letter = sorted(changed.choices, key=lambda choice: choice.id)
        seen[tuple(choice.text for choice in by_letter)] += 1
    assert set(seen) == set(itertools.permutations(("True", "False", "Not Verifiable")))
    assert min(seen.values()) > 60


@pytest.mark.parametrize("name", NAMES)
def test_a_record_without_gold_stays_without(name):
    example = make_hallucination(answer=None)
    changed = [made.example for seed in range(20) if isinstance(made := apply(name, example, seed), Change)]
    assert changed
    assert all(each.answer is None and "correct_choice" not in render_row(each) for each in changed)


@pytest.mark.parametrize("name", NAMES)
def test_tags_of_scenes_follow_their_phrases(name):
    for index in range(60):
        example = build_record("train", index).example
        made = apply(name, example, index)
        if isinstance(made, Refusal):
            continue
        assert tag_by_text(made.example) == tag_by_text(example)
        assert made.example.none_id is not None


def tag_by_text(example: Example) -> dict[str, str]:
    tags = example.extra["meta"]["phenomena"]
    return {choice.text: tags[choice.id] for choice in example.choices if choice.id in tags}


def test_the_answer_in_words_is_written_anew():
    row = render_row(make_hallucination(answer=frozenset("BD"))) | {
        "correct_answer": "small circle and red square"
    }
    example = parse_row(row, "x")
    assert isinstance(example, Example)
    assert "correct_answer" in example.extra
    made = next(made for seed in range(9) if isinstance(made := apply("order", example, seed), Change))
    gold = [choice.text for choice in made.example.choices if choice.id in made.example.answer]
    assert render_row(made.example)["correct_answer"] == ", ".join(gold)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "changes",
    [{"correct_answer": "left of"}, {"correct_answer": "C"}, {"correct_answer": "B", "correct_choice": None}],
)
def test_a_record_that_contradicts_itself_is_left_alone(name, changes):
    example = parse_row(render_row(make_hallucination()) | changes, "x")
    assert apply(name, example) == Refusal("correct_answer says otherwise")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    [
        "Both A and B",
        "A, B and C",
        "all of the above",
        "None of the above.",
        "B or C",
        "(A) & (C)",
        "only A",
        "none of these",
        "neither of the other choices",
        "same as option B",
        "the former",
        "C",
        "Choices A/B",
        "All other options",
    ],
)
def test_choices_that_refer_to_choices_are_left_alone(name, text):
    example = make_hallucination(phrases=("dog", "cat", text))
    assert apply(name, example) == Refusal("a text refers to choices")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", ["Is it both A and B?", "Which is true, choice A or none of the others?"])
def test_questions_that_refer_to_choices_are_left_alone(name, text):
    for example in (make_hallucination(question=text), make_hallucination(instruction=text)):
        assert apply(name, example) == Refusal("a text refers to choices")


@pytest.mark.parametrize(
    "text",
    [
        "red shape above blue shape",
        "A man and a dog",
        "a man above the street",
        "the other dog",
        "one of the men",
        "all of the people",
        "two answers on a sheet",
        "A dog or a cat",
        "a vitamin C drink",
        "the first man",
    ],
)
def test_phrases_about_pictures_are_not_taken_for_references(text):
    example = make_hallucination(phrases=("dog", "cat", text))
    assert any(isinstance(apply("order", example, seed), Change) for seed in range(9))


@pytest.mark.parametrize(
    "text",
    [
        "A to C", "A-C", "same as A", "as in B", "the opposite of A", "see above", "Everything above",
        "the first two", "first and third", "Option one", "the third option", "B is wrong",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", NAMES)
def test_choices_that_speak_of_others_keep_their_places(text, name):
    example = make_hallucination(choices=make_choices("No hallucination", "red square", "dog", text))
    assert all(isinstance(apply(name, example, seed), Refusal) for seed in range(6))


@pytest.mark.parametrize(
    "question", ["Reply with A for True.", "Is it A?", "Select (A) when in doubt.", "Which is first?"]
)
@pytest.mark.parametrize("name", NAMES)
def test_so_do_they_where_a_question_asks_for_a_letter_or_a_place(question, name):
    example = make_factuality(question=question)
    assert all(isinstance(apply(name, example, seed), Refusal) for seed in range(6))
