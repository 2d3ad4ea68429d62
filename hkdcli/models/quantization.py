"""Weights in 8 or 4 bits: what is quantized, what never is, and the check that it came out so."""

from __future__ import annotations

import importlib.util
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from hkdcli.errors import ModelError, SetupError
from hkdcli.models import families

Quantization = Literal["none", "int8", "nf4"]
QuantizedParts = Literal["language", "all"]

_PARTS = {"language": "language model", "all": "backbone"}

# Compute capability that the kernels of bitsandbytes need.
_OLDEST_GPU = {"int8": (7, 5), "nf4": (6, 0)}


def check_quantizable(quantization: Quantization, device: torch.device) -> None:
    """Check that weights can be held this way on a device, before any of them is downloaded or read.

    Args:
        quantization: `none` always can.
        device: where the model will run.

    Raises:
        SetupError: bitsandbytes is not installed, or does not support the device.
    """
    if quantization == "none":
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SetupError(
            f"quantization {quantization} needs bitsandbytes", hint="pip install bitsandbytes, or use none"
        )
    if reason := _find_obstacle(quantization, device):
        raise SetupError(
            f"quantization {quantization} does not work on {device}: {reason}",
            hint="Use quantization: none, or another device (a CPU can do it, slowly).",
        )


def build_quantization_config(
    quantization: Quantization, config: Any, device: torch.device, parts: QuantizedParts = "language"
) -> Any:
    """The transformers setting that quantizes the parts that are wanted, and no others.

    Args:
        quantization: `int8` or `nf4` (with double quantization).
        config: configuration of the model.
        device: where it will run; the compute type is float32 on a CPU (bfloat16 is several times slower
            there) and bfloat16 on a GPU.
        parts: `language`: vision tower and connector stay as they are, being small, and their errors reach
            every token; `all`: they are quantized too. The head never is.

    Returns:
        A BitsAndBytesConfig.
    """
    from transformers import BitsAndBytesConfig

    # Names match as prefix, regex or exact suffix of the full name: "visual" alone would match nothing, and
    # a list replaces the default, so the head has to be in it.
    kept = [*(_list_vision_names(config) if parts == "language" else ()), "lm_head"]
    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32 if device.type == "cpu" else torch.bfloat16,
        llm_int8_skip_modules=kept,
    )


def list_quantizable(model: nn.Module, parts: QuantizedParts) -> list[str]:
    """List the linear layers to quantize.

    nn.MultiheadAttention reads the weights of its linear layer itself: it is of a class that says so, and
    stays as it is.

    Args:
        model: not quantized, without adapter; on the meta device as well.
        parts: what is to be quantized.

    Returns:
        Their full names.
    """
    prefix, language = families.get_language_model(model)
    wanted = {prefix: language} | (families.get_vision_parts(model) if parts == "all" else {})
    return [
        f"{part}.{name}" if name else part
        for part, module in wanted.items()
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and not isinstance(layer, NonDynamicallyQuantizableLinear)
    ]


def list_quantized(model: nn.Module) -> list[str]:
    """Full names of the quantized modules; inside an adapter they end in `.base_layer`."""
    kinds = ("Linear4bit", "Linear8bitLt")
    return [
        name
        for name, module in families.unwrap(model).named_modules()
        if any(t.__name__ in kinds for t in type(module).__mro__)
        and not hasattr(module, "base_layer")  # peft's wrapper of one has the same name
    ]


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


def check_quantized(model: nn.Module, quantization: Quantization, parts: QuantizedParts = "language") -> None:
    """Check that exactly the linear layers of the wanted parts are quantized.

    Args:
        model: as loaded, before any adapter.
        quantization: what was asked for.
        parts: what was to be quantized.

    Raises:
        ModelError: names the modules that are quantized and should not be, or the other way round.
    """
    expected = set(list_quantizable(model, parts)) if quantization != "none" else set()
    found = set(list_quantized(model))
    if found != expected:
        differing = sorted(found ^ expected)
        shown = ", ".join(differing[:5]) + (f" and {len(differing) - 5} more" if len(differing) > 5 else "")
        raise ModelError(
            f"{quantization} quantized other modules than the {_PARTS[parts]}'s layers: {shown}",
            hint="Use quantization: none for this model.",
        )


def describe_quantization(model: nn.Module) -> str:
    """Say in one line how a model's weights are held: how many layers of which part, and what is kept.

    Args:
        model: adapter-wrapped or not.

    Returns:
        For example "nf4 (double quantization, compute float32): linear layers, 28 of model.language_model;
        kept: model.visual, lm_head".
    """
    quantized = list_quantized(model)
    if not quantized:
        return f"none: all weights in {_name_dtype(next(model.parameters()).dtype)}"
    parts = [families.get_language_model(model)[0], *families.get_vision_parts(model), "lm_head"]
    counts = {part: sum(name.startswith(f"{part}.") for name in quantized) for part in parts}
    said = [f"{count} of {part}" for part, count in counts.items() if count]
    kept = ", ".join(part for part, count in counts.items() if not count)
    kind = _describe_kind(families.unwrap(model).get_submodule(quantized[0]))
    return f"{kind}: linear layers, {', '.join(said)}; kept: {kept}"


def _describe_kind(layer: Any) -> str:
    if type(layer).__name__ == "Linear8bitLt":
        return "int8"
    double = "double quantization, " if layer.weight.compress_statistics else ""
    return f"{layer.weight.quant_type} ({double}compute {_name_dtype(layer.compute_dtype)})"


def _name_dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _find_obstacle(quantization: Quantization, device: torch.device) -> str | None:
    """Why bitsandbytes cannot quantize on a device; None: it can."""
    import bitsandbytes

    if device.type not in bitsandbytes.supported_torch_devices:
        return "bitsandbytes does not support it"
    if device.type != "cuda":
        return None
    if not torch.cuda.is_available():
        return "there is no such GPU"
    if not bitsandbytes.cextension.lib.compiled_with_cuda:
        return "bitsandbytes has no library for this version of CUDA"
    found, oldest = torch.cuda.get_device_capability(device), _OLDEST_GPU[quantization]
    if found < oldest:
        return "its compute capability is {}.{}, below {}.{}".format(*found, *oldest)
    return None


def _list_vision_names(config: Any) -> list[str]:
    from transformers import AutoModelForImageTextToText

    with torch.device("meta"):
        return list(families.get_vision_parts(AutoModelForImageTextToText.from_config(config)))
