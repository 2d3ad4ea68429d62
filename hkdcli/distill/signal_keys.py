"""What a stored signal depends on: a store's key tells the upper model, a record's key the example."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hkdcli.data.examples import Example
from hkdcli.data.prompts import PROMPT_VERSION, Presentation
from hkdcli.distill.teacher_signal import SignalPlan
from hkdcli.models.quantization import Quantization, QuantizedParts

STORE_FORMAT = 1


def build_store_key(
    *,
    model: str,
    adapter: str | None,
    quantization: Quantization,
    quantized_parts: QuantizedParts,
    number_type: str,
    prompt_hash: str,
    max_length: int | None,
    plan: SignalPlan,
) -> dict[str, Any]:
    """Say what every signal of a store depends on; no weights are needed.

    Args:
        model: `compute_revision` of its folder.
        adapter: `compute_revision` of its adapter's folder, where it has one.
        quantization: that it is held in.
        quantized_parts: which of its parts are; without quantization it makes no difference.
        number_type: it computes in, such as `bfloat16`.
        prompt_hash: `compute_prompt_hash` of its processor.
        max_length: most tokens of a prompt, as its `Collator` has it.
        plan: what it is asked for.

    Returns:
        Plain values that survive JSON.
    """
    states = None if plan.states is None else {"layers": list(plan.states.layers), "grid": plan.states.grid}
    return {
        "format": STORE_FORMAT,
        "model": model,
        "adapter": adapter,
        "quantization": quantization,
        "quantized_parts": None if quantization == "none" else quantized_parts,
        "number_type": number_type,
        "prompt": {"version": PROMPT_VERSION, "hash": prompt_hash, "max_length": max_length},
        "signal": {
            "vocabulary": plan.vocabulary,
            "temperature": plan.temperature,
            "top_k": plan.top_k,
            "states": states,
        },
    }


def compute_content_hash(example: Example) -> bytes:
    """Sha256 of what an example shows and asks: id, texts, choices, answer; without its picture."""
    content = {
        "id": example.id,
        "task": example.task,
        "texts": [
            example.question,
            example.caption,
            example.caption_question,
            example.claim,
            example.context,
            *([example.instruction] if example.instruction else []),
        ],
        "choices": [[choice.id, choice.text] for choice in example.choices],
        "answer": None if example.answer is None else sorted(example.answer),
    }
    return hashlib.sha256(json.dumps(content).encode()).digest()


def compute_record_key(example: Example, presentation: Presentation, pixel_hash: str) -> str:
    """Sha256 (hex) that a record of the store is found by.

    Args:
        example: what is asked; only what `compute_content_hash` takes in counts.
        presentation: order and letters of its choices.
        pixel_hash: of its picture, as the image loader gives it.

    Returns:
        64 hexadecimal digits.
    """
    return combine_record_key(compute_content_hash(example), presentation, pixel_hash)


def combine_record_key(content_hash: bytes, presentation: Presentation, pixel_hash: str) -> str:
    """The same as `compute_record_key`, for callers that keep the content hash."""
    shown = json.dumps([presentation, pixel_hash])
    return hashlib.sha256(content_hash + shown.encode()).hexdigest()
