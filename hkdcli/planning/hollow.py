"""Models without weights: the modules of a real one on the meta device, quantized and adapted as it would be.

Built from a configuration alone, so nothing has to be downloaded.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hkdcli.models import projector
from hkdcli.models.adapters import quiet_peft
from hkdcli.models.families import unwrap
from hkdcli.models.loading import LoadedModel, load_processor, read_config
from hkdcli.models.locating import locate_model
from hkdcli.models.quantization import (
    Quantization,
    QuantizedParts,
    build_quantization_config,
    check_quantized,
    keep_differentiable,
)

# How bitsandbytes packs: a scale of one byte for 64 weights, and a float for 256 of those scales.
_BLOCK, _BLOCK_OF_SCALES = 64, 256
_META = torch.device("meta")


def build_hollow_model(
    model: str | Path,
    *,
    adapter: str | Path | None = None,
    quantization: Quantization = "none",
    quantized_parts: QuantizedParts = "language",
    dtype: torch.dtype = torch.float32,
    compute_device: str = "cuda",
    trainable: bool = False,
) -> LoadedModel:
    """Build what `load_model` would load, without its weights.

    Args:
        model: what `locate_model` takes; the folder needs no weights.
        adapter: an adapter to put on top.
        quantization: as the weights would be held.
        quantized_parts: likewise.
        dtype: of the weights that are not quantized.
        compute_device: type of the device that it would run on; decides the compute type of quantized layers.
        trainable: as in `load_model`.

    Returns:
        The model in evaluation mode, on the meta device, with its real processor.
    """
    parts = locate_model(model, adapter=adapter, download=False)
    config = read_config(parts.folder)
    hollow = build_from_config(
        config,
        quantization=quantization,
        quantized_parts=quantized_parts,
        dtype=dtype,
        compute_device=compute_device,
    )
    hollow.requires_grad_(trainable and parts.adapter is None and quantization == "none")
    if parts.adapter is not None:
        hollow = _put_adapter_on(hollow, parts.adapter, trainable=trainable)
    named = str(adapter or parts.adapter) if parts.adapter else None
    return LoadedModel(hollow.eval(), load_reader(parts.processor), parts.source, named, quantization)


@cache
def load_reader(folder: Path) -> Any:
    """The processor of a folder, loaded once: a tokenizer takes its time."""
    return load_processor(folder)


def build_from_config(
    config: Any,
    *,
    quantization: Quantization = "none",
    quantized_parts: QuantizedParts = "language",
    dtype: torch.dtype = torch.float32,
    compute_device: str = "cuda",
) -> Any:
    """Build a model on the meta device from its configuration.

    Args:
        config: of transformers.
        quantization: as in `build_hollow_model`, as are the others.
        quantized_parts: what is quantized.
        dtype: of the weights that are not.
        compute_device: type of the device it would run on.

    Returns:
        The model; its quantized layers hold packed weights, as they do after loading.
    """
    from transformers import AutoModelForImageTextToText

    with _META:
        hollow = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    if quantization != "none":
        _quantize(hollow, quantization, quantized_parts, dtype, torch.device(compute_device))
    for module in hollow.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(_META)
    return hollow


def count_bytes(module: nn.Module) -> int:
    """Bytes of a model's tensors, those of quantized layers included, each once.

    Args:
        module: hollow or not.

    Returns:
        Bytes.
    """
    return sum(tensor.nbytes for tensor in list_tensors(module))


def list_tensors(module: nn.Module) -> list[Tensor]:
    """A model's parameters and buffers, and the scales of its quantized layers, each once.

    Args:
        module: hollow or not.

    Returns:
        The tensors.
    """
    found = [*module.parameters(), *module.buffers(), *_list_scales(module)]
    return list({id(tensor): tensor for tensor in found}.values())


def _list_scales(module: nn.Module) -> list[Tensor]:
    scales: list[Tensor] = []
    layer: Any
    for layer in module.modules():
        state = getattr(getattr(layer, "weight", None), "quant_state", None)
        if state is not None:
            nested = [state.offset, state.state2.absmax, state.state2.code] if state.nested else []
            scales += [state.absmax, state.code, *nested]
        elif type(layer).__name__ == "Linear8bitLt":
            scales.append(layer.state.SCB if layer.state.SCB is not None else layer.weight.SCB)
    return scales


def _quantize(
    hollow: nn.Module,
    quantization: Quantization,
    parts: QuantizedParts,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    model: Any = hollow
    settings = build_quantization_config(quantization, model.config, device, parts)
    replace_with_bnb_linear(model, settings.llm_int8_skip_modules, settings)
    setattr(model, f"is_loaded_in_{'4' if quantization == 'nf4' else '8'}bit", True)  # peft asks
    check_quantized(model, quantization, parts)
    layer: Any
    for layer in model.modules():
        if type(layer).__name__ == "Linear4bit":
            layer.weight = _pack_in_4_bits(layer, dtype)
        elif type(layer).__name__ == "Linear8bitLt":
            _pack_in_8_bits(layer)
        if layer.__class__.__module__.startswith("bitsandbytes") and layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.to(dtype), requires_grad=False)
    keep_differentiable(model)


def _pack_in_4_bits(layer: Any, dtype: torch.dtype) -> nn.Parameter:
    """The weight of a 4-bit layer as it is after loading, with the scales of double quantization."""
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn import Params4bit

    count = layer.out_features * layer.in_features
    scales = -(-count // _BLOCK)
    with _META:
        nested = QuantState(
            torch.empty(-(-scales // _BLOCK_OF_SCALES)),
            code=torch.empty(256),
            blocksize=_BLOCK_OF_SCALES,
            dtype=torch.float32,
        )
        state = QuantState(
            torch.empty(scales, dtype=torch.uint8),
            shape=torch.Size((layer.out_features, layer.in_features)),
            code=torch.empty(16),
            blocksize=_BLOCK,
            quant_type="nf4",
            dtype=dtype,
            offset=torch.empty(()),
            state2=nested,
        )
        packed = torch.empty((count + 1) // 2, 1, dtype=torch.uint8)
    return Params4bit(
        packed,
        requires_grad=False,
        quant_state=state,
        blocksize=_BLOCK,
        compress_statistics=True,
        quant_type="nf4",
        bnb_quantized=True,
    )


def _pack_in_8_bits(layer: Any) -> None:
    """The weight of an 8-bit layer as it is after loading, with a scale for each row."""
    from bitsandbytes.nn import Int8Params

    with _META:
        packed = torch.empty(layer.out_features, layer.in_features, dtype=torch.int8)
        scale = torch.empty(layer.out_features)
    layer.weight = Int8Params(packed, requires_grad=False, has_fp16_weights=False, CB=packed, SCB=scale)
    # How many columns have outliers is known of real inputs alone; they are few.
    layer.state.threshold = 0.0


def _put_adapter_on(hollow: nn.Module, folder: Path, *, trainable: bool) -> Any:
    from peft import PeftConfig, get_peft_model

    settings = PeftConfig.from_pretrained(str(folder))
    settings.inference_mode = not trainable
    settings.base_model_name_or_path = None
    with _META, quiet_peft():
        wrapped: nn.Module = get_peft_model(hollow, settings)
    projector.hold_in_float32(wrapped)
    for parameter in unwrap(wrapped).parameters():
        parameter.requires_grad_(parameter.requires_grad and trainable)
    return wrapped
