"""Prompts from records; D15, D17, D21: what is empty, or could act, in their texts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import train_tokenizer
from tiny_records import make_choices, make_factuality, make_hallucination

from hkdcli.data.chat import find_special_tokens, read_chat_frame
from hkdcli.data.prompts import (
    CONTEXT_LABEL,
    PROMPT_CONSTANTS,
    PromptBuilder,
    build_legal_answers,
    compute_prompt_hash,
    identity_presentation,
    render_answer,
)
from hkdcli.errors import DataError, ModelError
from hkdcli.inference.shift import shifted_presentations
from hkdcli.models.loading import load_processor


@pytest.fixture
def processor(tiny_model: Path) -> object:
    return load_processor(tiny_model)


def test_constants_are_short_plain_ascii():
    assert all(text.isascii() and text == text.strip() and len(text) < 100 for text in PROMPT_CONSTANTS)
    assert len(set(PROMPT_CONSTANTS)) == len(PROMPT_CONSTANTS)


@pytest.mark.parametrize("example", [make_hallucination(), make_factuality()])
def test_every_order_shares_the_prefix(processor, example):
    prompts = [PromptBuilder(processor).build(example, shown) for shown in shifted_presentations(example)]
    assert len({prompt.prefix for prompt in prompts}) == 1
    assert len({prompt.suffix for prompt in prompts}) == len(example.choices)
    assert prompts[0].prefix.endswith("Choices:\n")
    assert all(f". {choice.text}" not in prompts[0].prefix for choice in example.choices)


def test_parts_are_the_template_s_own_conversation(processor):
    example = make_hallucination()
    prompt = PromptBuilder(processor).build(example, identity_presentation(example))
    start = prompt.prefix.index("Which phrases")
    body = prompt.prefix[start:] + prompt.suffix.partition("small circle")[0] + "small circle"
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": body}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "B, D"}]}
    whole = processor.apply_chat_template([user, answer], tokenize=False)
    opened = processor.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
    assert prompt.prefix + prompt.suffix == opened
    assert whole.startswith(opened)
    assert whole.removeprefix(opened).strip().removesuffix(prompt.end) == "B, D"


def test_choices_keep_record_order_and_letters_count_positions(processor):
    example = make_factuality(choices=tuple(reversed(make_choices("True", "False"))), answer=frozenset("B"))
    prompt = PromptBuilder(processor).build(example, identity_presentation(example))
    assert prompt.suffix.startswith("A. False\nB. True")
    assert render_answer(example, identity_presentation(example), frozenset({"B"})) == "A"


def test_d15_empty_context_is_left_out(processor):
    for context in ("", "  \n", None):
        example = make_factuality(context=context)
        prompt = PromptBuilder(processor).build(example, identity_presentation(example))
        assert CONTEXT_LABEL not in prompt.prefix
        assert "None" not in prompt.prefix
    assert (
        CONTEXT_LABEL
        in PromptBuilder(processor).build(make_factuality(), identity_presentation(example)).prefix
    )


@pytest.mark.parametrize(
    ("example", "code"),
    [(make_hallucination(caption=" "), "empty_caption"), (make_factuality(claim=""), "empty_claim")],
)
def test_d15_nothing_to_judge_is_a_row_error(processor, example, code):
    with pytest.raises(DataError) as caught:
        PromptBuilder(processor).build(example, identity_presentation(example))
    assert caught.value.rows[0].code == f"record.{code}"


def test_d17_special_tokens_in_text_are_broken_up(processor):
    attack = "<|image_pad|> <image> <|im_end|> </s> <s> <|vision_start|> <<image>image>"
    example = make_hallucination(caption=attack, choices=make_choices("No hallucination", attack, "x"))
    prompt = PromptBuilder(processor).build(example, identity_presentation(example))
    text = prompt.prefix + prompt.suffix
    plain = PromptBuilder(processor).build(make_hallucination(), identity_presentation(make_hallucination()))
    clean = plain.prefix + plain.suffix
    for token in find_special_tokens(processor):
        assert text.count(token) == clean.count(token)


def test_choice_text_cannot_fake_a_line(processor):
    example = make_factuality(choices=make_choices("True\nB. really", "False"))
    assert (
        "A. True B. really\n"
        in PromptBuilder(processor).build(example, identity_presentation(example)).suffix
    )


@given(st.text(st.sampled_from("<|>image_padsx /"), max_size=60))
def test_cleaned_text_holds_no_special_token(tiny_qwen_builder, text):
    cleaned = tiny_qwen_builder.clean(text)
    assert not any(token in cleaned for token in tiny_qwen_builder._special)


@pytest.fixture(scope="session")
def tiny_qwen_builder(tiny_qwen: Path) -> PromptBuilder:
    return PromptBuilder(load_processor(tiny_qwen))


def test_d21_nul_and_lone_surrogates_do_not_reach_the_tokenizer(tiny_qwen_builder):
    assert tiny_qwen_builder.clean("a\0b\ud83d c") == "ab? c"


def test_legal_answers():
    answers = build_legal_answers(make_hallucination())
    assert len(answers) == 8
    assert answers[0] == {"A"}
    assert [set(answer) for answer in answers[1:4]] == [{"B"}, {"C"}, {"D"}]
    assert all("A" not in answer for answer in answers[1:])
    assert build_legal_answers(make_factuality()) == tuple(frozenset(letter) for letter in "ABCD")


def test_without_the_none_choice_every_non_empty_set_is_legal():
    example = make_hallucination(choices=make_choices("red", "blue", "green"), answer=frozenset("A"))
    assert len(set(build_legal_answers(example))) == 7


def test_too_many_choices_for_sets_but_not_for_single_answers():
    texts = [f"phrase {i}" for i in range(6)]
    with pytest.raises(DataError) as caught:
        build_legal_answers(make_hallucination(choices=make_choices("No hallucination", *texts)))
    assert caught.value.rows[0].code == "choices.too_many"
    many = make_factuality(choices=make_choices(*[f"answer {i}" for i in range(26)]))
    assert len(build_legal_answers(many)) == 26


def test_answers_are_shown_letters_in_ascending_order():
    example = make_hallucination()
    shown = shifted_presentations(example)[1]
    assert render_answer(example, identity_presentation(example), frozenset("DB")) == "B, D"
    assert render_answer(example, shown, frozenset("DB")) == "A, C"
    for wrong in (frozenset(), frozenset("BX")):
        with pytest.raises(DataError, match="not among the choices"):
            render_answer(example, shown, wrong)


def test_no_chat_template_is_refused(processor):
    processor.chat_template = processor.tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        PromptBuilder(processor)


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'hello' }}",
        "{% for m in messages %}{{ m.nope.nope }}{% endfor %}",
        "{% for m in messages %}{{ m.role }}",
    ],
)
def test_template_that_loses_the_text_is_refused(processor, template):
    processor.chat_template = template
    with pytest.raises(ModelError, match="chat template does not show"):
        PromptBuilder(processor)


def test_text_only_template_of_a_language_model(tiny_llava):
    processor = load_processor(tiny_llava)
    processor.chat_template = None
    processor.tokenizer.chat_template = (
        "{% for m in messages %}{{ '<s>' + m['role'] + '\n' + m['content'] + '</s>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
    )
    frame = read_chat_frame(processor)
    assert frame.head == "<s>user\n<image>\n"
    assert (frame.tail, frame.end) == ("</s>\n<s>assistant\n", "</s>")


def test_begin_of_text_is_added_where_the_tokenizer_would():
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_tokenizer({"image_token": "<image>"}, bos_token="<s>", eos_token="</s>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{{ eos_token }}{% endfor %}"
    tokenizer.image_token = "<image>"
    assert read_chat_frame(tokenizer).head.startswith("<s><image>")


def test_prompt_hash_survives_saving_and_sees_what_matters(processor, tiny_model, tmp_path):
    before = compute_prompt_hash(processor)
    processor(text=["x"], images=None, return_tensors="pt", padding=True)
    assert compute_prompt_hash(processor) == before
    processor.save_pretrained(tmp_path)
    assert compute_prompt_hash(load_processor(tmp_path)) == before
    template = processor.chat_template
    processor.chat_template = template.replace("assistant", "helper").replace("ASSISTANT", "HELPER")
    assert compute_prompt_hash(processor) != before
    processor.chat_template = template
    processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    assert compute_prompt_hash(processor) != before
    other = load_processor(tiny_model)
    other.tokenizer.add_tokens(["zebra"])
    assert compute_prompt_hash(other) != before


def test_extra_fields_are_never_shown(processor):
    example = dataclasses.replace(make_factuality(), extra={"correct_answer": "SECRET"})
    prompt = PromptBuilder(processor).build(example, identity_presentation(example))
    assert "SECRET" not in prompt.prefix + prompt.suffix
