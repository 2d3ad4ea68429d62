"""Further families as tiny random models: each saves a folder that loads as any hub model does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tiny_models import (
    QWEN_TEMPLATE,
    build_image_processor,
    build_mrope,
    save_model,
    save_tiny_llava,
    save_tiny_qwen,
    train_tokenizer,
)
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    LlamaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMProcessor,
)

from hkdcli.models.families import prepare_processor_class

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 400,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
SIZE = {"height": 32, "width": 32}
USUAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def build_template(image: str) -> str:
    return (
        "{% for m in messages %}<s>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}"
        + image
        + "{% elif 'text' in c %}{{ c.text }}{% endif %}{% endfor %}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    )


def build_tokenizer(special: dict[str, str], **named: str) -> Any:
    tokenizer = train_tokenizer(special, **named)
    for name, token in special.items():
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    return tokenizer


def save_qwen3_vl(folder: Path, *, seed: int = 0) -> Path:
    special = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
        "im_start": "<|im_start|>",
    }
    tokenizer = build_tokenizer(special, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    image_processor = build_image_processor(
        "Qwen2VLImageProcessorPil", patch_size=4, merge_size=2, min_pixels=64, max_pixels=48 * 48
    )
    processor = Qwen3VLProcessor(image_processor, tokenizer, chat_template=QWEN_TEMPLATE)
    config = Qwen3VLConfig(
        text_config={
            **TEXT,
            # Features of two vision layers are added after the first two layers; a third makes both matter.
            "num_hidden_layers": 3,
            "head_dim": 8,
            "vocab_size": 448,
            "rope_parameters": {**build_mrope(8), "mrope_interleaved": True},
        },
        vision_config={
            "depth": 3,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": 32,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "deepstack_visual_indexes": [0, 1],
            "num_position_embeddings": 64,
        },
        image_token_id=tokenizer.image_token_id,
        video_token_id=tokenizer.video_token_id,
        vision_start_token_id=tokenizer.vision_bos_token_id,
        vision_end_token_id=tokenizer.vision_eos_token_id,
    )
    return save_model(Qwen3VLForConditionalGeneration, config, processor, folder, seed)


def save_gemma3(folder: Path, *, seed: int = 0) -> Path:
    special = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    tokenizer = build_tokenizer(special, **USUAL_TOKENS)
    image_processor = build_image_processor("Gemma3ImageProcessorPil", size=SIZE)
    template = build_template("<start_of_image>")
    processor = Gemma3Processor(image_processor, tokenizer, chat_template=template, image_seq_length=4)
    layers = ["sliding_attention", "full_attention"]
    config = Gemma3Config(
        text_config={**TEXT, "head_dim": 8, "sliding_window": 1024, "layer_types": layers, "pad_token_id": 0},
        vision_config=VISION,
        mm_tokens_per_image=4,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    return save_model(Gemma3ForConditionalGeneration, config, processor, folder, seed)


def save_internvl(folder: Path, *, seed: int = 0, split: bool = False) -> Path:
    special = {
        "image_token": "<IMG_CONTEXT>",
        "context_image_token": "<IMG_CONTEXT>",
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "video_token": "<video>",
    }
    tokenizer = build_tokenizer(special, **USUAL_TOKENS)
    image_processor = build_image_processor("GotOcr2ImageProcessorPil", size=SIZE, crop_to_patches=split)
    template = build_template("<IMG_CONTEXT>\n")
    processor = InternVLProcessor(image_processor, tokenizer, image_seq_length=4, chat_template=template)
    config = InternVLConfig(
        text_config=Qwen2Config(**TEXT),
        vision_config={**VISION, "image_size": [32, 32], "patch_size": [8, 8]},
        image_token_id=tokenizer.image_token_id,
        image_seq_length=4,
    )
    return save_model(InternVLForConditionalGeneration, config, processor, folder, seed)


def save_idefics3(folder: Path, *, seed: int = 0, split: bool = False) -> Path:
    classes = (Idefics3Config, Idefics3Processor, Idefics3ForConditionalGeneration)
    return _save_idefics(folder, *classes, "Idefics3ImageProcessorPil", seed=seed, split=split)


def save_smolvlm(folder: Path, *, seed: int = 0, split: bool = False, **text: int) -> Path:
    prepare_processor_class("SmolVLMProcessor")
    classes = (SmolVLMConfig, SmolVLMProcessor, SmolVLMForConditionalGeneration)
    return _save_idefics(folder, *classes, "SmolVLMImageProcessorPil", seed=seed, split=split, text=text)


def _save_idefics(
    folder: Path,
    config: Any,
    processor: Any,
    model: Any,
    images: str,
    *,
    seed: int,
    split: bool,
    text: dict[str, int] | None = None,
) -> Path:
    special = {
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    }
    tokenizer = build_tokenizer(special, **USUAL_TOKENS)
    image_processor = build_image_processor(
        images,
        size={"longest_edge": 64 if split else 32},
        max_image_size={"longest_edge": 32},
        do_image_splitting=split,
    )
    config = config(
        text_config=LlamaConfig(**{**TEXT, **(text or {})}, pad_token_id=tokenizer.pad_token_id),
        vision_config=VISION,
        image_token_id=tokenizer.image_token_id,
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = processor(
        image_processor, tokenizer, image_seq_len=4, chat_template=build_template("<image>")
    )
    return save_model(model, config, processor, folder, seed)


def save_llava_onevision(folder: Path, *, seed: int = 0) -> Path:
    tokenizer = build_tokenizer({"image_token": "<image>", "video_token": "<video>"}, **USUAL_TOKENS)
    grid = [[32, 64], [64, 32], [64, 64]]
    image_processor = build_image_processor(
        "LlavaOnevisionImageProcessorPil", size=SIZE, image_grid_pinpoints=grid
    )
    processor = LlavaOnevisionProcessor(
        image_processor,
        tokenizer,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=build_template("<image>\n"),
    )
    config = LlavaOnevisionConfig(
        text_config=Qwen2Config(**TEXT),
        vision_config=SiglipVisionConfig(**VISION),
        image_token_index=tokenizer.image_token_id,
        image_grid_pinpoints=grid,
        vision_feature_select_strategy="full",
    )
    return save_model(LlavaOnevisionForConditionalGeneration, config, processor, folder, seed)


FAMILIES: dict[str, Callable[..., Path]] = {
    "qwen2.5-vl": save_tiny_qwen,
    "qwen3-vl": save_qwen3_vl,
    "gemma3": save_gemma3,
    "internvl": save_internvl,
    "idefics3": save_idefics3,
    "smolvlm": save_smolvlm,
    "llava": save_tiny_llava,
    "llava-onevision": save_llava_onevision,
}

# Those that can show an image as several. LLaVA-OneVision always does; Gemma3's processor does so only when
# it is told to at each call, whatever its settings say, so that a folder cannot ask for it.
SPLITTING = {
    f"{name}, split": partial(FAMILIES[name], split=True) for name in ("internvl", "idefics3", "smolvlm")
}
