"""The optimizer of a training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from hkdcli.errors import ModelError


def build_optimizer(
    parameters: Sequence[nn.Parameter],
    weight_decay: float,
    own: Sequence[nn.Parameter] = (),
    own_scales: tuple[float, float] = (1.0, 1.0),
) -> torch.optim.AdamW:
    """AdamW over trainable parameters; vectors (norms, biases) are never decayed.

    Args:
        parameters: at least one.
        weight_decay: decoupled, for matrices.
        own: those of them that the objective brought along.
        own_scales: what the learning rate is multiplied by for them: for matrices, and for all others.

    Returns:
        The optimizer; the learning rate of a group is set before every step, times its `scale`.

    Raises:
        ModelError: when there is nothing to train.
    """
    if not parameters:
        raise ModelError(
            "the student has no trainable parameter", hint="Attach LoRA adapters or train in full."
        )
    # Matrices decay; shards and whole tensors cannot be stepped in one group.
    kinds = itertools.product((True, False), repeat=3)
    brought = {id(parameter) for parameter in own}
    groups: list[dict[str, Any]] = [
        {
            "params": [
                p for p in parameters if (id(p) in brought, p.dim() >= 2, isinstance(p, DTensor)) == kind
            ],
            "weight_decay": weight_decay if kind[1] else 0.0,
            "scale": own_scales[0 if kind[1] else 1] if kind[0] else 1.0,
        }
        for kind in kinds
    ]
    fused = {parameter.device.type for parameter in parameters} <= {"cpu", "cuda"}
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, fused=fused)
