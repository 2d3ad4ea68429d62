"""Less memory for more time: activations that are computed again instead of being kept."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from hkdcli.errors import ModelError


def enable_gradient_checkpointing(model: nn.Module) -> int:
    """Let the layers that have something to train keep only their inputs while training.

    Frozen layers (a vision tower) build no graph and keep nothing, so they are left alone. Not reentrant:
    with adapters on a frozen model the input of the first layer asks for no gradient, and a reentrant
    checkpoint would lose the gradients.

    Args:
        model: adapter-wrapped or not, with what is trained requiring gradients already.

    Returns:
        How many layers it was enabled for. Gradients stay what they are.

    Raises:
        ModelError: the model has no such layer.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, GradientCheckpointingLayer)
        and any(parameter.requires_grad for parameter in layer.parameters())
    ]
    if not layers:
        raise ModelError(
            "no layer of the model can compute its activations again (gradient_checkpointing)",
            hint="Set gradient_checkpointing: false.",
        )
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    return len(layers)
