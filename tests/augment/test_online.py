"""Variants while a model trains: decided by seed, epoch and record alone, and shown as they were made."""

from __future__ import annotations

import itertools

import pytest
import torch
from tiny_records import make_factuality, make_hallucination, make_image

from hkdcli.augment.online import VariantShowing, show_as_it_is
from hkdcli.augment.policies import Policy, build_policy
from hkdcli.data.collate import Collator
from hkdcli.data.facts import NoFacts
from hkdcli.data.images import compute_pixel_hash
from hkdcli.data.prompts import LETTERS, identity_presentation
from hkdcli.distill.order import Draw
from hkdcli.distill.sources import DatasetSource
from hkdcli.models.loading import load_model
from hkdcli.scenes.source import load_scenes

EXAMPLES = (make_hallucination("h1"), make_hallucination("h2", ("red square",)), make_factuality("f1"))


def show(policy: Policy | None = None, seed: int = 0) -> VariantShowing:
    return VariantShowing(policy or build_policy("strong"), seed, NoFacts())


def gold_texts(example) -> set[str]:
    return {choice.text for choice in example.choices if choice.id in example.answer}


def test_the_same_record_in_the_same_epoch_is_shown_alike_and_in_the_next_otherwise():
    image = make_image(size=(60, 48))
    for example in EXAMPLES:
        first, again, later = (show()(example, image, epoch) for epoch in (3, 3, 4))
        assert (first.example, first.presentation) == (again.example, again.presentation)
        assert first.image.pixel_hash == again.image.pixel_hash
        others = [show()(example, image, epoch) for epoch in range(8)]
        assert len({(each.presentation, each.image.pixel_hash, str(each.example)) for each in others}) > 4
        assert later.example.id == example.id


def test_another_seed_shows_another_variant():
    image = make_image(size=(60, 48))
    shown = [show(seed=seed)(EXAMPLES[0], image, 0) for seed in range(6)]
    assert len({(str(each.example), each.image.pixel_hash) for each in shown}) > 3


def test_the_pixel_hash_is_that_of_the_picture_shown():
    image = make_image(size=(60, 48))
    for epoch in range(6):
        shown = show()(EXAMPLES[0], image, epoch)
        assert shown.image.pixel_hash == compute_pixel_hash(shown.image.image)


def test_choices_in_another_order_keep_their_truth_and_take_letters_by_place():
    policy = Policy({"order": 1.0}, strength=1.0)
    for example, epoch in itertools.product(EXAMPLES, range(10)):
        shown = show(policy)(example, make_image(), epoch)
        assert gold_texts(shown.example) == gold_texts(example)
        assert [letter for letter, _ in shown.presentation] == list(LETTERS[: len(example.choices)])
        assert shown.presentation == identity_presentation(shown.example)


def test_letters_apart_from_places_are_shown_as_they_were_drawn():
    policy, example = Policy({"letters": 1.0}, strength=1.0), EXAMPLES[0]
    seen = set()
    for epoch in range(20):
        shown = show(policy)(example, make_image(), epoch)
        texts = {choice.id: choice.text for choice in shown.example.choices}
        assert [texts[choice_id] for _, choice_id in shown.presentation] == [
            choice.text for choice in example.choices
        ]
        gold = {letter for letter, choice_id in shown.presentation if choice_id in shown.example.answer}
        assert {texts[letter] for letter in gold} == gold_texts(example)
        seen.add(tuple(letter for letter, _ in shown.presentation))
    assert len(seen) > 5


def test_without_augmentation_a_record_is_shown_as_it_is():
    image = make_image()
    shown = show_as_it_is(EXAMPLES[0], image, 7)
    assert shown.example is EXAMPLES[0] and shown.image is image


@pytest.fixture(scope="module")
def source(tiny_llava):
    loaded = load_model(str(tiny_llava))
    data = load_scenes("train", size=12)
    policy = build_policy("standard", {"question": 0, "instruction": 0})
    return DatasetSource(data, Collator(loaded.processor), show=VariantShowing(policy, 5, data.facts))


def test_a_row_does_not_depend_on_the_batch_it_is_in(source):
    """So neither does it depend on how many processes share a step."""
    draws = [Draw(2, index) for index in range(4)]
    whole = source.load(draws)
    for place, draw in enumerate(draws):
        alone = source.load([draw])
        length = int(alone.model_inputs["attention_mask"].sum())
        row = whole.model_inputs["input_ids"][place, :length]
        assert torch.equal(alone.model_inputs["input_ids"][0, :length], row)
        assert torch.equal(alone.model_inputs["pixel_values"][0], whole.model_inputs["pixel_values"][place])
        mine = whole.answer_rows == place
        assert torch.equal(alone.answer_targets, whole.answer_targets[mine])


def test_epochs_differ_and_an_epoch_comes_back(source):
    first, second, again = (source.load([Draw(epoch, 0), Draw(epoch, 1)]) for epoch in (0, 1, 0))
    assert first.pixel_hashes == again.pixel_hashes
    assert torch.equal(first.model_inputs["input_ids"], again.model_inputs["input_ids"])
    texts, others = (each.model_inputs["input_ids"].tolist() for each in (first, second))
    assert texts != others or first.pixel_hashes != second.pixel_hashes
