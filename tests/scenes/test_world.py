"""Laws of the embedded world: every label can be computed again from the scene, and splits never meet."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkdcli.data.examples import NO_HALLUCINATION, read_examples
from hkdcli.errors import UsageError
from hkdcli.scenes import phrases
from hkdcli.scenes.lessons import build_lesson
from hkdcli.scenes.oracle import judge_claim
from hkdcli.scenes.records import VERDICTS, SceneRecord, build_record
from hkdcli.scenes.source import load_scenes, write_scenes
from hkdcli.scenes.world import SPLITS, Scene, build_scene, compute_split, render_scene

RECORDS = 250


def records(task: str, split: str = "train") -> list[SceneRecord]:
    return [build_record(split, index, task=task) for index in range(RECORDS)]  # type: ignore[arg-type]


@pytest.mark.parametrize("split", SPLITS)
def test_the_oracle_agrees_with_every_hallucination_answer(split):
    for record in records("hallucination", split):
        example = record.example
        false = {
            choice.id
            for choice in example.choices
            if choice.text != NO_HALLUCINATION and not phrases.is_true(choice.text, record.scene)
        }
        assert example.answer == (false or {example.none_id})


def test_every_choice_is_a_phrase_of_the_caption():
    for record in records("hallucination"):
        said = record.example.caption.removesuffix(".").split(", ")
        asked = [choice.text for choice in record.example.choices if choice.text != NO_HALLUCINATION]
        assert sorted(said) == sorted(asked)
        assert 3 <= len(record.example.choices) <= 5


@pytest.mark.parametrize("split", SPLITS)
def test_an_independent_reading_gives_every_factuality_answer(split):
    seen = set()
    for record in records("factuality", split):
        example = record.example
        verdict = judge_claim(example.claim, example.context, record.scene)
        seen.add(verdict)
        assert [choice.text for choice in example.choices if choice.id in (example.answer or ())] == [verdict]
        assert sorted(choice.text for choice in example.choices) == sorted(VERDICTS)
    assert seen == set(VERDICTS)


def test_splits_never_share_a_picture():
    pictures = {}
    for split in SPLITS:
        pictures[split] = {
            render_scene(record.scene).tobytes()
            for task in ("hallucination", "factuality")
            for record in records(task, split)
        }
        for task in ("hallucination", "factuality"):
            assert all(compute_split(record.scene) == split for record in records(task, split))
    assert not pictures["train"] & pictures["test"]
    assert not pictures["train"] & pictures["dev"]
    assert not pictures["dev"] & pictures["test"]


def test_the_same_arguments_give_the_same_records_and_other_seeds_others():
    again = load_scenes("test", size=20)
    assert load_scenes("test", size=20).examples == again.examples
    assert load_scenes("test", size=30).examples[:20] == again.examples
    assert load_scenes("test", size=20, seed=1).examples != again.examples
    name = again.examples[3].image
    assert again.images.load(name).pixel_hash == load_scenes("test", size=20).images.load(name).pixel_hash


def test_pretraining_sees_training_scenes_only():
    rng = random.Random(0)
    for _ in range(200):
        scene = build_lesson(rng).scene
        assert compute_split(Scene(scene.things)) == "train"


def test_files_on_disk_hold_the_same_records(tmp_path):
    dataset = load_scenes("dev", size=12)
    write_scenes(tmp_path, dataset)
    read = read_examples(tmp_path / "records.json")
    assert not read.bad_rows
    for before, after in zip(dataset.examples, read.examples, strict=True):
        assert (before.id, before.choices, before.answer) == (after.id, after.choices, after.answer)
        assert (before.caption, before.claim, before.context) == (after.caption, after.claim, after.context)
        assert (tmp_path / "images" / after.image).is_file()
    assert json.loads((tmp_path / "records.json").read_text())


@given(st.integers(0, 2**32), st.sampled_from(phrases.PHENOMENA), st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_built_phrase_is_as_true_as_it_was_asked_to_be(seed, phenomenon, truth):
    rng = random.Random(seed)
    scene = build_scene(rng, "train")
    phrase = phrases.build_phrase(rng, scene, rng.choice(scene.things), phenomenon, truth)
    assert phrases.is_true(phrase.text, scene) is truth


def test_text_alone_stays_near_the_constant_answer():
    """A classifier that sees each phrase, and which of its words the other phrases repeat, gains little."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression

    features, labels = [], []
    for index in range(1500):
        example = build_record("train", index).example
        said = [choice for choice in example.choices if choice.id != example.none_id]
        for choice in said:
            own = choice.text.split()
            others = [word for other in said if other is not choice for word in other.text.split()]
            repeated = {f"repeated {len(own)}": float(sum(word in own for word in others))}
            form = {f"{len(own)} {len(said)}": 1.0}
            features.append(dict.fromkeys(own, 1.0) | repeated | form)
            labels.append(choice.id in (example.answer or ()))
    x, y = DictVectorizer(sparse=False).fit_transform(features), np.array(labels)
    half = len(y) // 2
    accuracy = LogisticRegression(max_iter=500).fit(x[:half], y[:half]).score(x[half:], y[half:])
    assert accuracy < max(y.mean(), 1 - y.mean()) + 0.03


def test_unknown_splits_and_tasks_are_refused():
    with pytest.raises(UsageError, match="no split 'tset'"):
        load_scenes("tset")
    with pytest.raises(UsageError, match="no task"):
        load_scenes("test", tasks=["chess"])  # type: ignore[list-item]
