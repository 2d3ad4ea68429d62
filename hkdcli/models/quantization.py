"""Weights in 8 or 4 bits: what is quantized, what never is, and the check that it came out so."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import torch
from torch import nn

from hkdcli.errors import ModelError, SetupError
from hkdcli.models import families

Quantization = Literal["none", "int8", "nf4"]


def build_quantization_config(quantization: Quantization, config: Any, device: torch.device) -> Any:
    """The transformers setting that quantizes the language model alone.

    Vision tower, connector and head stay as they are: they are small, and errors there reach every token.

    Args:
        quantization: `int8` or `nf4` (with double quantization).
        config: configuration of the model.
        device: where it will run; the compute type is float32 on a CPU (bfloat16 is several times slower
            there) and bfloat16 on a GPU.

    Returns:
        A BitsAndBytesConfig.

    Raises:
        SetupError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SetupError(
            f"quantization {quantization} needs bitsandbytes", hint="pip install bitsandbytes, or use none"
        )
    from transformers import BitsAndBytesConfig

    # Names match as prefix, regex or exact suffix of the full name: "visual" alone would match nothing, and
    # a list replaces the default, so the head has to be in it.
    kept = [*_list_vision_names(config), "lm_head"]
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
        llm_int8_skip_modules=kept,
    )


def list_quantized(model: nn.Module) -> list[str]:
    """Full names of the quantized modules."""
    kinds = ("Linear4bit", "Linear8bitLt")
    named = families.unwrap(model).named_modules()
    return [name for name, module in named if any(t.__name__ in kinds for t in type(module).__mro__)]


def keep_differentiable(model: nn.Module) -> None:
    """Stop 4-bit layers from repacking their weights for CPUs with AVX512-BF16.

    The first evaluation pass would repack them for good, into a form without a gradient: adapters trained
    after it would silently learn from wrong gradients, and answers would change with the CPU.

    Args:
        model: as loaded.
    """
    layer: Any
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def check_quantized(model: nn.Module, quantization: Quantization) -> None:
    """Check that exactly the linear layers of the language model are quantized.

    Args:
        model: as loaded, before any adapter.
        quantization: what was asked for.

    Raises:
        ModelError: names the modules that are quantized and should not be, or the other way round.
    """
    prefix, language = families.get_language_model(model)
    linear = {f"{prefix}.{name}" for name, m in language.named_modules() if isinstance(m, nn.Linear)}
    expected = linear if quantization != "none" else set()
    found = set(list_quantized(model))
    if found != expected:
        differing = sorted(found ^ expected)
        shown = ", ".join(differing[:5]) + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise ModelError(f"{quantization} quantized other modules than the language model's layers: {shown}")


def _list_vision_names(config: Any) -> list[str]:
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        return list(families.get_vision_parts(AutoModelForImageTextToText.from_config(config)))
