"""The oracle answers every record as it was built, however its choices stand, and follows a mirror."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageOps

from hkdcli.data.records import Choice, Example
from hkdcli.scenes.oracle import find_answer, judge_claim, mirror_scene
from hkdcli.scenes.records import SceneRecord, build_record
from hkdcli.scenes.world import Scene, Thing, draw_scene, render_scene

TASKS = ("hallucination", "factuality")
seeds = st.integers(0, 2**32)
SCENE = Scene(
    (Thing("circle", "red", "large", (0, 0)), Thing("star", "blue", "small", (1, 2))), covered=(2, 1)
)


def build(index: int, task: str) -> SceneRecord:
    return build_record("train", index, task=task)  # type: ignore[arg-type]


@given(seeds, st.sampled_from(TASKS))
def test_it_answers_every_record_as_it_was_built(index, task):
    record = build(index, task)
    assert find_answer(record.example, record.scene) == record.example.answer


@given(seeds, st.sampled_from(TASKS), st.randoms(use_true_random=False))
def test_order_and_letters_of_the_choices_do_not_matter(index, task, rng):
    record = build(index, task)
    example = record.example
    letters = rng.sample("ABCDEFGHIJ", len(example.choices))
    renamed = [Choice(letter, choice.text) for letter, choice in zip(letters, example.choices, strict=True)]
    rng.shuffle(renamed)
    kept = {choice.text for choice in example.choices if choice.id in (example.answer or ())}
    found = find_answer(replace(example, choices=tuple(renamed), answer=None), record.scene)
    assert {choice.text for choice in renamed if choice.id in found} == kept


@given(seeds)
def test_a_mirrored_scene_is_drawn_as_the_mirrored_picture_and_back(seed):
    scene = draw_scene(random.Random(seed))
    assert mirror_scene(mirror_scene(scene)) == scene
    # Each shape is its own mirror image up to how Pillow fills edges.
    mirrored, drawn = ImageOps.mirror(render_scene(scene)), render_scene(mirror_scene(scene))
    far = sum(abs(a - b) > 100 for a, b in zip(mirrored.tobytes(), drawn.tobytes(), strict=True))
    assert far < 0.005 * len(drawn.tobytes())


@pytest.mark.parametrize(
    ("claim", "told", "verdict"),
    [
        ("top left is a circle and middle right is blue", "a circle", "True"),
        ("top left is small and middle right is blue", "a circle", "Partially True"),
        ("top left is small and middle right is red", "a circle", "False"),
        ("top left is red and bottom centre is a star", "a star", "True"),
        ("top left is red and bottom centre is a star", "a cross", "Partially True"),
        ("top left is red and bottom centre is a star", "a large shape", "Not Verifiable"),
        ("top left is red and top right is a star", "a star", "Partially True"),  # nothing is there
    ],
)
def test_verdicts_by_picture_and_context(claim, told, verdict):
    assert judge_claim(f"{claim}.", f"One cell of the picture is covered. It hides {told}.", SCENE) == verdict


def test_without_its_context_nothing_is_known_of_a_covered_cell():
    assert judge_claim("top left is red and bottom centre is a star.", "", SCENE) == "Not Verifiable"


@pytest.mark.parametrize("text", ["the dog runs", "top left is a dog", "a circle is red"])
def test_other_words_than_those_of_scenes_are_refused(text):
    with pytest.raises(ValueError):
        judge_claim(f"{text} and top left is red.", "", SCENE)


def test_a_matter_of_taste_is_refused():
    with pytest.raises(ValueError, match="nothing is known"):
        judge_claim("top left is blue and bottom centre is a star.", "", SCENE)


def test_choices_that_the_caption_does_not_say_or_that_miss_the_answer_are_refused():
    choices = (Choice("A", "red circle"), Choice("B", "blue star"))
    example = Example("1", "hallucination", "1.png", "?", choices, caption="red circle, blue star.")
    with pytest.raises(ValueError, match="no choice is right"):
        find_answer(example, SCENE)
    with pytest.raises(ValueError, match="not the phrases"):
        find_answer(replace(example, caption="red circle."), SCENE)
