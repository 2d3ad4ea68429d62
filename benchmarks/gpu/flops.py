"""Floating-point operations of a call, and what a card could do at most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

# Dense bfloat16 with float32 sums, from the data sheets, by the name that torch gives a whole card. Part of a
# card (MIG) and cards that are not here have no peak: --peak-tflops gives one.
PEAK_TFLOPS = {
    "NVIDIA A10": 125.0,
    "NVIDIA A100 80GB PCIe": 312.0,
    "NVIDIA A100-PCIE-40GB": 312.0,
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA H100 80GB HBM3": 989.0,
    "NVIDIA H100 NVL": 835.0,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H200": 989.0,
    "NVIDIA L4": 121.0,
    "NVIDIA L40S": 362.0,
}
# Matrix products with packed 4-bit weights, which torch's counter does not know, by release of bitsandbytes.
_FOUR_BIT = ("gemm_4bit", "gemv_4bit")


def count_flops(run: Callable[[], Any]) -> int:
    """Count what a call computes: matrix products, convolutions and attention; two for a multiply and add.

    Args:
        run: what is counted; what it computes a second time, as checkpointed layers do, counts twice.

    Returns:
        Operations.
    """
    import bitsandbytes  # noqa: F401  # it brings its operators

    known = {
        getattr(torch.ops.bitsandbytes, name): _count_four_bit
        for name in _FOUR_BIT
        if hasattr(torch.ops.bitsandbytes, name)
    }
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        run()
    return int(counter.get_total_flops())


def compute_share(flops: int | None, seconds: float, peak_tflops: float | None) -> float | None:
    """What share of a card's peak was reached; None: the peak or the operations are not known."""
    return None if peak_tflops is None or flops is None else flops / seconds / (peak_tflops * 1e12)


def _count_four_bit(
    inputs: Sequence[int],
    packed: Sequence[int],
    shape: Sequence[int],
    *rest: Any,
    out_shape: Sequence[int],
    **given: Any,
) -> int:
    """Inputs [..., K] times a packed weight of `shape` [N, K]: [..., N]."""
    return 2 * prod(out_shape) * inputs[-1]
