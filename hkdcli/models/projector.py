"""A connector that is trained in full, beside the adapters of the language model.

peft trains a copy of it (`modules_to_save`) and keeps the original. The copy is held in float32 whatever
the base has, for small updates are lost in bfloat16; what goes in and comes out keeps the type of the base.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hkdcli.errors import ModelError
from hkdcli.models import families
from hkdcli.models.quantization import list_quantized


def find_trainable(model: nn.Module) -> list[str]:
    """Full names of a model's connector modules, provided that they can be trained.

    Args:
        model: without adapter.

    Returns:
        What `find_connector` finds.

    Raises:
        ModelError: they are quantized.
    """
    names = families.find_connector(model)
    if any(name.startswith(tuple(names)) for name in list_quantized(model)):
        raise ModelError(
            "a quantized projector cannot be trained",
            hint="Set quantized_parts: language, or train_projector: false.",
        )
    return names


def hold_in_float32(wrapped: nn.Module) -> bool:
    """Turn the trained copies into float32.

    Args:
        wrapped: a model in its adapter wrapper.

    Returns:
        Whether there was something to turn; the copies then hold what the number type of the base leaves.
    """
    turned = False
    for wrapper, dtype in _list_wrappers(wrapped):
        for copy in wrapper.modules_to_save.values() if dtype != torch.float32 else ():
            copy.float().register_forward_pre_hook(_cast_inputs, with_kwargs=True)
            copy.register_forward_hook(partial(_cast_output, dtype))
            turned = True
    return turned


def release(wrapped: nn.Module) -> None:
    """Give the trained copies the number type of the base, before they take the place of the originals."""
    for wrapper, dtype in _list_wrappers(wrapped):
        wrapper.modules_to_save.to(dtype)


def _list_wrappers(wrapped: nn.Module) -> Iterator[tuple[Any, torch.dtype]]:
    from peft.utils.other import ModulesToSaveWrapper

    for module in wrapped.modules():
        if isinstance(module, ModulesToSaveWrapper):
            yield module, next(module.original_module.parameters()).dtype


def _cast_inputs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    dtype = next(module.parameters()).dtype
    cast = tuple(_cast(value, dtype) for value in args)
    return cast, {name: _cast(value, dtype) for name, value in kwargs.items()}


def _cast_output(dtype: torch.dtype, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return output.to(dtype)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
