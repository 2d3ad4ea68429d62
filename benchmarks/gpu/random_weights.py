"""Random weights in a hollow model, made where they will be used: no tensor is ever held in another form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

STD = 0.02  # of all matrices, as models are initialised
_BIAS_STD = 0.01
_SPREAD = 0.1  # of the scales of 4-bit blocks around their mean


def fill_with_random(model: Any, device: torch.device, seed: int = 0) -> Any:
    """Give a hollow model weights: matrices of std 0.02, norms of 1, small biases; of 4 bits as packed bytes.

    Args:
        model: of `build_from_config`, in nf4 or not quantized; filled in place, tensor by tensor.
        device: where its weights are made.
        seed: of the numbers.

    Returns:
        The model; what was shared is still shared.
    """
    generator = torch.Generator(device).manual_seed(seed)
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, hollow in module.named_parameters(recurse=False):
            if id(hollow) not in made:
                made[id(hollow)] = _draw(name, hollow, device, generator)
            setattr(module, name, made[id(hollow)])
        _compute_buffers(model, module, device)
    return model


def _draw(name: str, hollow: nn.Parameter, device: torch.device, generator: torch.Generator) -> nn.Parameter:
    if getattr(hollow, "quant_state", None) is not None:
        return _draw_in_4_bits(hollow, device, generator)
    made = torch.empty(hollow.shape, dtype=hollow.dtype, device=device)
    if name == "bias":
        made.normal_(0.0, _BIAS_STD, generator=generator)
    elif made.dim() < 2:
        made.fill_(1.0)
    else:
        made.normal_(0.0, STD, generator=generator)
    return nn.Parameter(made, requires_grad=hollow.requires_grad)


def _draw_in_4_bits(hollow: Any, device: torch.device, generator: torch.Generator) -> nn.Parameter:
    """Random packed bytes, with scales that make them weights of the wanted spread."""
    from bitsandbytes.functional import QuantState, create_dynamic_map, get_4bit_type
    from bitsandbytes.nn import Params4bit

    code = get_4bit_type("nf4", device=device)
    scale = STD / float(code.square().mean().sqrt())
    state = hollow.quant_state
    nested = QuantState(
        torch.full(state.state2.absmax.shape, _SPREAD * scale, device=device),
        code=create_dynamic_map().to(device),
        blocksize=state.state2.blocksize,
        dtype=torch.float32,
    )
    filled = QuantState(
        _draw_bytes(state.absmax, device, generator),
        shape=state.shape,
        code=code,
        blocksize=state.blocksize,
        quant_type=state.quant_type,
        dtype=state.dtype,
        offset=torch.tensor(scale, device=device),
        state2=nested,
    )
    return Params4bit(
        _draw_bytes(hollow, device, generator),
        requires_grad=False,
        quant_state=filled,
        blocksize=state.blocksize,
        compress_statistics=True,
        quant_type=state.quant_type,
        bnb_quantized=True,
    )


def _draw_bytes(hollow: Tensor, device: torch.device, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 256, hollow.shape, dtype=torch.uint8, device=device, generator=generator)


def _compute_buffers(model: Any, module: nn.Module, device: torch.device) -> None:
    """The frequencies of rotary embeddings, which transformers computes from the configuration."""
    buffers = dict(module.named_buffers(recurse=False))
    for name, hollow in buffers.items():
        module._buffers[name] = torch.full_like(hollow, float("nan"), device=device)
    if buffers:
        model._init_weights(module)
    if not all(bool(buffer.isfinite().all()) for buffer in module.buffers(recurse=False)):
        raise ValueError(f"{type(module).__name__}: it is not known what its buffers hold")
