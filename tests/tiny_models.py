"""Tiny random vision-language models with real processor classes, saved as any hub model is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

from hkdcli.models.families import allow_missing_torchvision

CORPUS = [
    "Which phrases of the caption does the image contradict? Answer with the letters.",
    "Is the claim true, given the image and the context? Answer with one letter.",
    "Context: Claim: Caption: Question: Choices: No hallucination, True, False, Partially True",
    "a red square is left of a small blue circle; the shelf displays fresh green vegetables",
    "user assistant system You are a helpful assistant. A. B. C. D. A, B, C, D",
]

QWEN_TEMPLATE = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}{% if c.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in c %}{{ c.text }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m.role.upper() + ': ' }}{% for c in m.content if c.type == 'image' %}"
    "{{ '<image>\n' }}{% endfor %}{% for c in m.content if c.type == 'text' %}{{ c.text + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def train_tokenizer(special: dict[str, str], **options: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 400 tokens; `special` names the extra special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    wanted = [*special.values(), *(value for value in options.values() if isinstance(value, str))]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(dict.fromkeys(wanted)),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        extra_special_tokens=special,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
        **options,
    )


def save_tiny_qwen(
    folder: Path,
    *,
    seed: int = 0,
    hidden_size: int = 32,
    layers: int = 2,
    vocab_size: int = 448,
    max_pixels: int = 48 * 48,
) -> Path:
    """A Qwen2.5-VL of about 60k parameters whose vocabulary is padded, as the real ones are."""
    special = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
        "im_start": "<|im_start|>",
    }
    tokenizer = train_tokenizer(special, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    image_processor = build_image_processor(
        "Qwen2VLImageProcessorPil", patch_size=4, merge_size=2, min_pixels=8 * 8, max_pixels=max_pixels
    )
    processor = Qwen2_5_VLProcessor(image_processor, tokenizer, chat_template=QWEN_TEMPLATE)
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in special.items()}
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": hidden_size,
            "intermediate_size": 2 * hidden_size,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": vocab_size,
            "max_position_embeddings": 4096,
            "rope_parameters": build_mrope(hidden_size // 4),
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_heads": 2,
            "out_hidden_size": hidden_size,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["image_token"],
        video_token_id=ids["video_token"],
        vision_start_token_id=ids["vision_bos_token"],
        vision_end_token_id=ids["vision_eos_token"],
    )
    return save_model(Qwen2_5_VLForConditionalGeneration, config, processor, folder, seed)


def save_tiny_llava(
    folder: Path,
    *,
    seed: int = 0,
    hidden_size: int = 32,
    layers: int = 2,
    image_size: int = 24,
    patch_size: int = 8,
) -> Path:
    """A LLaVA (CLIP tower, Llama) of about 60k parameters; (image_size / patch_size)^2 image tokens."""
    tokenizer = train_tokenizer(
        {"image_token": "<image>"}, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    image_processor = build_image_processor(
        "CLIPImageProcessorPil",
        size={"height": image_size, "width": image_size},
        crop_size={"height": image_size, "width": image_size},
    )
    processor = LlavaProcessor(
        image_processor,
        tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=image_size,
            patch_size=patch_size,
        ),
        text_config=LlamaConfig(
            hidden_size=hidden_size,
            intermediate_size=2 * hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=len(tokenizer),
            max_position_embeddings=4096,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return save_model(LlavaForConditionalGeneration, config, processor, folder, seed)


def build_mrope(head_size: int) -> dict[str, Any]:
    """Rotary settings; the sections (time, height, width) must add up to half of the head."""
    height = head_size // 6
    return {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [head_size // 2 - 2 * height, height, height],
    }


def build_image_processor(name: str, **options: Any) -> Any:
    import transformers

    allow_missing_torchvision()
    return getattr(transformers, name)(**options)


def save_model(model_class: Any, config: Any, processor: Any, folder: Path, seed: int) -> Path:
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = model_class(config).eval()
    # Larger than the usual initialisation, so that different inputs give visibly different answers.
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(5)
            if not parameter.any():
                parameter.data.normal_(0, 0.1)
    torch.set_rng_state(state)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
