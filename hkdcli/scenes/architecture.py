"""The tiny VLMs of the embedded world: transformers' own LLaVA classes, made from configs, in three sizes.

Each picture cell is one vision patch, so a thing is one image token (nine in all). The tokenizer is a
byte-level BPE whose merges cover the words of the scenes: it reads any text, and scene text a word a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from hkdcli.scenes import phrases, world

VOCABULARY = 512
LETTERS = "ABCDEFGH"
IMAGE_TOKEN, END_TOKEN, PAD_TOKEN, START_TOKEN = "<image>", "<end>", "<pad>", "<start>"
CHAT_TEMPLATE = (
    "<start>{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'user' %}<turn>{% else %}<end>{% endif %}"
    "{% endfor %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The widths and depths of one size: text model first, vision tower second."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vision_hidden: int
    vision_layers: int


SHAPES = {
    "large": Shape(192, 6, 6, 512, 128, 3),
    "medium": Shape(128, 4, 4, 320, 64, 2),
    "small": Shape(64, 4, 4, 160, 40, 1),
}


def build_model(name: str, seed: int) -> LlavaForConditionalGeneration:
    """A LLaVA of size `name` with random weights; image tokens start out knowing their row and column."""
    shape = SHAPES[name]
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_hidden,
        intermediate_size=2 * shape.vision_hidden,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=4,
        image_size=world.IMAGE_PX,
        patch_size=world.CELL_PX,
        projection_dim=shape.vision_hidden,
    )
    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=shape.hidden**-0.5,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=3,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=len(world.CELLS),
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    _tell_positions(model)
    return model


def _tell_positions(model: LlavaForConditionalGeneration) -> None:
    """Start the tower's position embedding as row vector + column vector: 2-D places from the first step."""
    weight = next(p for name, p in model.named_parameters() if name.endswith("position_embedding.weight"))
    with torch.no_grad():
        rows, columns = torch.randn(2, world.GRID, weight.shape[1]) * 0.5
        for index, (row, column) in enumerate(world.CELLS):
            weight[1 + index] = rows[row] + columns[column]


def build_processor(constants: tuple[str, ...]) -> LlavaProcessor:
    """Tokenizer, image processor and chat template; each of `constants` (fixed prompt texts) is one token."""
    image_processor = CLIPImageProcessorPil(
        do_resize=True,
        size={"height": world.IMAGE_PX, "width": world.IMAGE_PX},
        do_center_crop=False,
        do_rescale=True,
        do_normalize=True,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=build_tokenizer(constants),
        patch_size=world.CELL_PX,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


def build_tokenizer(constants: tuple[str, ...]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most `VOCABULARY` tokens: bytes, the words of the scenes, and `constants`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(LETTERS) - len(constants),
        special_tokens=[PAD_TOKEN, START_TOKEN, END_TOKEN, IMAGE_TOKEN, "<turn>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=1,
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(["", *words()])] * 2, trainer)
    tokenizer.add_tokens(
        [AddedToken(letter, single_word=True, lstrip=True, normalized=False) for letter in LETTERS]
    )
    tokenizer.add_tokens([AddedToken(text, lstrip=True, normalized=False) for text in constants])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START_TOKEN,
        eos_token=END_TOKEN,
        pad_token=PAD_TOKEN,
        extra_special_tokens={"image_token": IMAGE_TOKEN},
        model_max_length=1024,
    )


def words() -> tuple[str, ...]:
    """Every word of scene text: those of the records, then those of the pretraining lessons only."""
    listed = (*world.COLOURS, *world.SHAPES, *world.SIZES, *world.ROWS, *world.COLUMNS)
    relations = [word for relation in phrases.OPPOSITES for word in relation.split()]
    glue = "shape in at is and a the covered cell No hallucination True False Partially Not Verifiable"
    lessons = "yes no from to up down level straight nothing which where"
    return tuple(dict.fromkeys([*listed, *relations, *glue.split(), *lessons.split()]))
