"""Records, pictures and models of the benchmark of shifts: random weights in a shape like a real one's."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from hkdcli.data.examples import Choice, Example
from hkdcli.data.images import LoadedImage, compute_pixel_hash
from hkdcli.data.prompts import LETTERS, PROMPT_CONSTANTS
from hkdcli.models.loading import LoadedModel

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_models import LLAVA_TEMPLATE, build_image_processor

PATCH = 14
QUESTIONS = (
    "Which of the following systems' outputs belong to hallucination?",
    "Based on the provided information, please determine whether the claim is factual.",
    "What is shown in the image, and where is it?",
)
VERDICTS = ("True", "False", "Partially True", "Not Verifiable")
WORDS = """
produce shelf green vegetables wire blue wooden table market street woman holding umbrella small dog
sleeping beside old bicycle red wall large window bright morning light crowd waiting near station train
white building tall trees river bridge children playing ball grass field coffee cup paper book open door
"""
LINKS = ("on the", "next to a", "behind the", "with a", "under the", "and the")
# Shapes of the two parts, in proportions of a small real model: the backbone is most of the work of a token.
TEXT = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}
VISION = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6}


def make_records(count: int) -> list[Example]:
    """Records of both tasks in turn, four choices each; captions of 40 words and contexts of 120."""
    draw = random.Random(0)
    return [_make_hallucination(i, draw) if i % 2 == 0 else _make_factuality(i, draw) for i in range(count)]


def make_pictures(count: int) -> list[LoadedImage]:
    """Different pictures of 320 x 240 pixels."""
    pictures = []
    for place in range(count):
        image = Image.frombytes("RGB", (320, 240), random.Random(place).randbytes(320 * 240 * 3))
        pictures.append(LoadedImage(image, compute_pixel_hash(image)))
    return pictures


def build_model(
    side: int, *, vocabulary: int, text: dict[str, int] | None = None, device: torch.device | str = "cpu"
) -> LoadedModel:
    """A LLaVA (CLIP tower, Llama) of random weights that sees an image as side x side tokens.

    Args:
        side: patches along each side of an image.
        vocabulary: columns of the head, which is tied to the embedding.
        text: shape of the language model.
        device: where it is put.

    Returns:
        Model and processor; the tokenizer has a token for nearly every word of the records.
    """
    tokenizer = _train_tokenizer()
    size = {"height": side * PATCH, "width": side * PATCH}
    processor = LlavaProcessor(
        build_image_processor("CLIPImageProcessorPil", size=size, crop_size=size),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    shape = text or TEXT
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION, image_size=side * PATCH, patch_size=PATCH),
        text_config=LlamaConfig(
            **shape,
            vocab_size=vocabulary,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            initializer_range=shape["hidden_size"] ** -0.5,  # so that answers differ from record to record
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config).eval().requires_grad_(False).to(device)
    return LoadedModel(model, processor, "random", None, "none")


def describe_model(model: Any) -> dict[str, int]:
    """Parameters of each part; the head is the embedding and counted once."""
    parts = {
        "vision": model.model.vision_tower,
        "layers": model.model.language_model.layers,
        "embedding_and_head": model.lm_head,
    }
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


def _make_hallucination(place: int, draw: random.Random) -> Example:
    phrases = [_write(draw, 3) for _ in range(3)]
    caption = f"A {phrases[0]} {_write(draw, 15)} {phrases[1]} {_write(draw, 15)} {phrases[2]}."
    choices = _letter(("No hallucination", *phrases))
    name, asked = f"h{place}", QUESTIONS[2]
    return Example(
        name, "hallucination", name, QUESTIONS[0], choices, frozenset("B"), caption, caption_question=asked
    )


def _make_factuality(place: int, draw: random.Random) -> Example:
    context = " ".join(f"The {_write(draw, 12)}." for _ in range(9))
    name, claim = f"f{place}", f"The {_write(draw, 12)}."
    answer = frozenset(draw.choice("ABCD"))
    return Example(
        name, "factuality", name, QUESTIONS[1], _letter(VERDICTS), answer, claim=claim, context=context
    )


def _letter(texts: Sequence[str]) -> tuple[Choice, ...]:
    return tuple(Choice(letter, text) for letter, text in zip(LETTERS, texts, strict=False))


def _write(draw: random.Random, words: int) -> str:
    """So many words, with a link before every third; about as dense as English in tokens."""
    written = []
    for place in range(words):
        if place % 3 == 2:
            written.append(draw.choice(LINKS).split()[0])
        else:
            written.append(draw.choice(WORDS.split()))
    return " ".join(written)


def _train_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>", "<image>"]
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    spoken = " ".join((*WORDS.split(), *LINKS))
    corpus = [
        *PROMPT_CONSTANTS,
        *QUESTIONS,
        *VERDICTS,
        "No hallucination",
        spoken,
        f" {spoken}",
        "A, B, C, D",
    ]
    tokenizer.train_from_iterator([*corpus, "USER: ASSISTANT: A. B. C. D."], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        extra_special_tokens={"image_token": "<image>"},
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
