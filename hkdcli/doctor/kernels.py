"""Whether bitsandbytes computes on a device: quantize, dequantize and multiply, against plain float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hkdcli.doctor.examination import Finding
from hkdcli.models.quantization import check_quantizable

# The widest gap of the 16 values of NF4, [-1, -0.696], is 0.304: no number is further off than half of it.
_NF4_HALF_GAP = 0.1521
_BLOCK = 64
_SLACK = 1.02  # of the number types in between: scales and results are rounded too


def check_nf4(device: torch.device) -> Finding:
    """Hold a small matrix in NF4 and multiply by it.

    Args:
        device: Where.

    Returns:
        Failed where a weight is further off than the format allows, or the product is not that of the
        weights as they are held. `SetupError` where the device is not supported.
    """
    check_quantizable("nf4", device)
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    from bitsandbytes.nn import Linear4bit

    weight, inputs = _draw(device)
    packed, state = quantize_4bit(weight, blocksize=_BLOCK, quant_type="nf4")
    held = dequantize_4bit(packed, state)
    blocks = (held - weight).abs().view(-1, _BLOCK).amax(1) / weight.abs().view(-1, _BLOCK).amax(1)
    layer: Any = Linear4bit(
        weight.shape[1],
        weight.shape[0],
        bias=False,
        compute_dtype=torch.float32,
        quant_type="nf4",
        compress_statistics=False,
    )
    layer.load_state_dict({"weight": weight.cpu()})
    product = layer.to(device)(inputs)
    return _judge("nf4", float(blocks.max()) / (_NF4_HALF_GAP * _SLACK), _miss(product, inputs @ held.T))


def check_int8(device: torch.device) -> Finding:
    """Hold a small matrix in 8 bits and multiply by it; as `check_nf4`.

    Args:
        device: Where.

    Returns:
        Failed where a weight or the product is further off than the format allows.
    """
    check_quantizable("int8", device)
    from bitsandbytes.functional import int8_vectorwise_quant
    from bitsandbytes.nn import Linear8bitLt

    weight, inputs = _draw(device)
    rows, scales, _ = int8_vectorwise_quant(weight.half())
    held = rows.float() * scales[:, None].float() / 127
    half_step = weight.abs().amax(1, keepdim=True) / 254
    layer: Any = Linear8bitLt(weight.shape[1], weight.shape[0], bias=False, has_fp16_weights=False)
    layer.load_state_dict({"weight": weight.cpu()})
    product = layer.to(device)(inputs.half() if device.type == "cuda" else inputs).float()
    # The inputs are held in 8 bits as well.
    step_of_inputs = inputs.abs().amax(1, keepdim=True) / 254
    allowed = step_of_inputs * held.abs().sum(1) + 2**-8 * (inputs.abs() @ held.abs().T)
    worst = float(((product - inputs @ held.T).abs() / allowed).max())
    off = (held - weight).abs() / (half_step + 2**-10 * weight.abs())
    return _judge("int8", float(off.max()) / _SLACK, worst)


def _draw(device: torch.device) -> tuple[Tensor, Tensor]:
    """A weight [64, 128] and inputs [8, 128], the same every time."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 128, generator=generator)
    return weight.to(device), torch.randn(8, 128, generator=generator).to(device)


def _miss(product: Tensor, expected: Tensor) -> float:
    """How far a product is off, over what rounding explains."""
    return float((product.float() - expected).abs().max() / expected.abs().max()) / 1e-3


def _judge(name: str, weights: float, product: float) -> Finding:
    """Both figures are shares of what is allowed."""
    found = f"{name}: weights off by {weights:.0%}, product by {product:.0%} of what the format allows"
    if weights <= 1 and product <= 1:  # NaN is not
        return Finding(found)
    return Finding(
        found, "failed", "Reinstall bitsandbytes for this torch and CUDA, or use quantization: none."
    )
