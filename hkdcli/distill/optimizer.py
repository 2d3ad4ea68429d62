"""The optimizer of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from hkdcli.errors import ModelError


def build_optimizer(parameters: Sequence[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW over trainable parameters; vectors (norms, biases) are never decayed.

    Args:
        parameters: at least one.
        weight_decay: decoupled, for matrices.

    Returns:
        The optimizer; its learning rate is set before every step.

    Raises:
        ModelError: when there is nothing to train.
    """
    if not parameters:
        raise ModelError(
            "the student has no trainable parameter", hint="Attach LoRA adapters or train in full."
        )
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    kinds = {parameter.device.type for parameter in parameters}
    fused = kinds <= {"cpu", "cuda"}
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, fused=fused)
