"""Prompts and pictures as a batch. D16: only the context is shortened. D17, I16: rows have image tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_records import make_choices, make_factuality, make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.images import ImageFolder
from hkdcli.data.prompts import CLAIM_LABEL, TRUNCATION_MARKER, identity_presentation
from hkdcli.errors import DataError, ModelError
from hkdcli.inference.shift import shifted_presentations
from hkdcli.models.loading import load_processor

EXAMPLES = [make_hallucination(), make_factuality(), make_hallucination("h2", ("x",), answer=frozenset("A"))]
IMAGES = [make_image(0), make_image(1, (64, 40)), make_image(2, (28, 60))]
SHOWN = [shifted_presentations(example)[1] for example in EXAMPLES]


@pytest.fixture
def collator(tiny_model: Path) -> Collator:
    return Collator(load_processor(tiny_model))


def test_answer_positions_predict_the_answer(collator):
    batch = collator(EXAMPLES, IMAGES, SHOWN)
    ids = batch.model_inputs["input_ids"]
    assert torch.equal(ids[batch.answer_rows, batch.answer_columns + 1], batch.answer_targets)
    ends = [*batch.first[1:].tolist(), len(batch.answer_targets)]
    texts = [
        collator.tokenizer.decode(batch.answer_targets[start:end]).strip()
        for start, end in zip(batch.first.tolist(), ends, strict=True)
    ]
    end = collator.builder.frame.end
    assert texts == [f"A, C{end}", f"D{end}", f"B{end}"]
    assert batch.ids == ("h1", "f1", "h2")


def test_rows_are_right_padded_and_equal_rows_alone(collator):
    batch = collator(EXAMPLES, IMAGES, SHOWN)
    for index in range(len(EXAMPLES)):
        part = slice(index, index + 1)
        alone = collator(EXAMPLES[part], IMAGES[part], SHOWN[part])
        length = alone.model_inputs["input_ids"].shape[1]
        for name, value in alone.model_inputs.items():
            if name in ("input_ids", "attention_mask", "mm_token_type_ids"):
                assert torch.equal(batch.model_inputs[name][index, :length], value[0])
        assert batch.model_inputs["attention_mask"][index, length:].sum() == 0


def test_letter_ids_follow_choices_not_display(collator):
    batch = collator(EXAMPLES, IMAGES, SHOWN)
    lead = collator.builder.frame.lead
    letters = [collator.encode(lead + letter)[0] for letter in "ABCD"]
    assert batch.letter_ids[0].tolist() == letters[1:] + letters[:1]
    assert batch.letter_ids[2].tolist() == [letters[1], letters[0], -1, -1]
    assert batch.answer_targets[batch.first[1]] == batch.letter_ids[1, 2]


def test_tokens_do_not_merge_across_borders(collator):
    example = EXAMPLES[0]
    prefixes = collator.collate_prefixes([example], IMAGES[:1], [[identity_presentation(example)]])
    batch = collator([example], IMAGES[:1], [identity_presentation(example)])
    length = prefixes.lengths[0]
    assert torch.equal(batch.model_inputs["input_ids"][:, :length], prefixes.model_inputs["input_ids"])
    added = batch.model_inputs["input_ids"][0, length:].tolist()
    suffix = collator.encode(prefixes.prompts[0][0].suffix)
    assert added[: len(suffix)] == suffix


def test_given_answers_replace_gold(collator):
    batch = collator(EXAMPLES[:1], IMAGES[:1], SHOWN[:1], [frozenset({"A"})])
    assert batch.answer_targets[0] == batch.letter_ids[0, 0]


def test_no_gold_is_refused(collator):
    with pytest.raises(DataError, match="no answer"):
        collator([make_factuality(answer=None)], IMAGES[:1], [SHOWN[1]])


def test_letters_that_begin_alike_are_refused(collator, monkeypatch):
    monkeypatch.setattr(Collator, "encode", lambda self, text: [7])
    with pytest.raises(ModelError, match="alike"):
        collator.encode_letters(EXAMPLES[0], collator.builder.build(EXAMPLES[0], SHOWN[0]), SHOWN[0])


def test_d16_only_the_context_is_shortened(collator):
    context = "START of it. " + "many words in the middle " * 2000 + "and the END"
    long = make_factuality(context=context)
    shown = [shifted_presentations(long)]
    limit = collator.collate_prefixes([make_factuality()], IMAGES[:1], shown).lengths[0] + 120
    short = Collator(collator.processor, max_length=limit)
    prefixes = short.collate_prefixes([EXAMPLES[0], long], IMAGES[:2], [[SHOWN[0]], *shown])
    assert [example.truncated for example in prefixes.examples] == [False, True]
    prefix = prefixes.prompts[1][0].prefix
    assert "START" in prefix
    assert TRUNCATION_MARKER in prefix
    assert f"END\n{CLAIM_LABEL} {long.claim}\n" in prefix
    full = collator.builder.build(long, shown[0][0])
    assert prefixes.prompts[1][0].suffix == full.suffix
    batch = short([long], IMAGES[1:2], [shown[0][0]])
    assert limit - 40 < batch.model_inputs["attention_mask"].sum() <= limit
    image_id = collator.processor.image_token_id
    whole = collator([long], IMAGES[1:2], [shown[0][0]])
    for key in (batch, whole):
        assert (key.model_inputs["input_ids"] == image_id).sum() > 0
    assert (batch.model_inputs["input_ids"] == image_id).sum() == (
        whole.model_inputs["input_ids"] == image_id
    ).sum()


def test_d16_too_long_without_its_context_is_a_row_error(collator):
    short = Collator(collator.processor, max_length=60)
    for example in (make_hallucination(caption="word " * 100), make_factuality(claim="word " * 100)):
        with pytest.raises(DataError) as caught:
            short.collate_prefixes([example], IMAGES[:1], [[identity_presentation(example)]])
        assert caught.value.rows[0].code == "prompt.too_long"


def test_d17_a_prompt_that_lost_its_image_tokens_never_reaches_a_model(collator, monkeypatch):
    """As a processor might that reads markers of its own in the texts."""
    process = collator.processor.__class__.__call__

    def lose(self, *given, **named):
        inputs = process(self, *given, **named)
        row = inputs["input_ids"][1]
        row[row == self.image_token_id] = self.image_token_id + 1
        return inputs

    monkeypatch.setattr(collator.processor.__class__, "__call__", lose)
    with pytest.raises(ModelError, match="without image tokens"):
        collator(EXAMPLES[:2], IMAGES[:2], SHOWN[:2])


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (20_000, 100), (50, 10_000)])
def test_i16_the_smallest_and_the_longest_pictures_pass_the_processor(collator, size, tmp_path):
    Image.new("RGB", size, "blue").save(tmp_path / "x.png")
    image = ImageFolder(tmp_path).load("x.png")
    batch = collator(EXAMPLES[:1], [image], SHOWN[:1])
    assert torch.isfinite(batch.model_inputs["pixel_values"]).all()


def test_26_choices(collator):
    example = make_factuality(
        choices=make_choices(*[f"answer {i}" for i in range(26)]), answer=frozenset("Z")
    )
    batch = collator([example], IMAGES[:1], [identity_presentation(example)])
    assert len(set(batch.letter_ids[0].tolist())) == 26


def test_moving_a_batch_keeps_integers(collator):
    batch = collator(EXAMPLES, IMAGES, SHOWN).to("cpu", torch.bfloat16)
    assert batch.model_inputs["pixel_values"].dtype == torch.bfloat16
    assert batch.model_inputs["input_ids"].dtype == torch.int64
