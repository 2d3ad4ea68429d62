"""Run real code on tensors that have a shape and no memory, and count what they would take.

Floating-point tensors live on torch's meta device; integers and masks, which decide what a model does with
its inputs (where its image tokens are, how a picture is cut into windows), are real and on the CPU. So the
training step, the attention masks, the adapters and the checkpointing of activations are those of a run, and
the peak is counted, not estimated: storages as they come and go.

What differs from a real device, and is left to `room`: a library's workspace and what an allocator wastes.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")
_CPU = torch.device("cpu")
_aten = torch.ops.aten


class Ledger:
    """What is held at the moment, and the most that was held since `forget_peak`; in bytes."""

    def __init__(self) -> None:
        self.held = self.peak = 0
        self._sizes: dict[int, tuple[weakref.ref[Any], int]] = {}

    def enter(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once, until it is freed."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._sizes or size == 0:
            return
        self._sizes[key] = (weakref.ref(storage, lambda _: self._leave(key)), size)
        self.held += size
        self.peak = max(self.peak, self.held)

    def forget_peak(self) -> None:
        """Begin to look for a new peak."""
        self.peak = self.held

    def _leave(self, key: int) -> None:
        self.held -= self._sizes.pop(key)[1]


class _Memoryless(TorchDispatchMode):
    """Operations on floats without memory and on real integers, side by side."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self._said: dict[Any, Any] = {}  # layers are alike, and what an operation gives follows from shapes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operation where its numbers are; what it gives is counted."""
        given = dict(kwargs or {})
        tensors = list(_find_tensors((*args, *given.values())))
        hollow = any(tensor.is_meta for tensor in tensors)
        if hollow and func is _aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 1  # "is it finite?": yes
        unpacked = self._unpack_four_bit(func, args) if hollow else None
        if hollow:
            said = self._run_hollow(func, args, given, all_hollow=all(t.is_meta for t in tensors))
        else:
            if given.get("device") is not None:
                given["device"] = _choose_device(func, tensors, given)
            said = func(*args, **given)
        for tensor in _find_tensors(said if isinstance(said, list | tuple) else (said,)):
            self.ledger.enter(tensor)
        del unpacked  # until the product is there
        return said

    def _unpack_four_bit(self, func: Any, args: Sequence[Any]) -> Tensor | None:
        """The weight that a product of 4 bits unpacks for some hundred tokens or more, unseen by the mode."""
        if func.name() != "bitsandbytes::gemm_4bit":
            return None
        inputs, _, shape = args[:3]
        weight = torch.empty(shape, dtype=inputs.dtype, device=META)
        self.ledger.enter(weight)
        return weight

    def _run_hollow(self, func: Any, args: Sequence[Any], given: dict[str, Any], *, all_hollow: bool) -> Any:
        """Run an operation with a hollow argument, or repeat what it gave for arguments of these shapes."""
        key = _describe((func, args, tuple(given.items()))) if all_hollow and _makes_new(func) else None
        if key in self._said:
            return _build_again(self._said[key])
        args, given = self._make_all_hollow(func, args, given)
        said = func(*args, **given)
        if isinstance(said, Tensor) and said.dtype == torch.bool:
            return _decide(func, args, said)
        if key is not None:
            self._said[key] = _describe_result(said)
        return said

    def _make_all_hollow(
        self, func: Any, args: Sequence[Any], given: dict[str, Any]
    ) -> tuple[Sequence[Any], dict[str, Any]]:
        """What is real among the arguments loses its numbers, but for a mask that chooses: it is counted."""
        if func is _aten.index.Tensor:
            args = (args[0], list(_list_indices(args[1])), *args[2:])
        if "device" in given and given["device"] is not None:
            given["device"] = META
        return [_empty(each) for each in args], {name: _empty(each) for name, each in given.items()}


_MANY = 10**6
_SAID_TO_BE_FALSE = frozenset({_aten.eq, _aten.isnan, _aten.isinf})


@contextmanager
def rehearse(ledger: Ledger) -> Iterator[None]:
    """Within, floating-point work takes no memory, and what it would take is counted.

    Args:
        ledger: where it is counted.

    Yields:
        None: While it lasts.
    """
    casts = _Casts()
    with _Memoryless(ledger), _without_collections(), ExitStack() as stack:
        stack.enter_context(patch.object(torch, "clear_autocast_cache", casts.forget))
        stack.enter_context(patch.object(F, "scaled_dot_product_attention", casts.wrap(_attend)))
        for module, name in _COMPUTED_LOW:
            stack.enter_context(patch.object(module, name, casts.wrap(getattr(module, name))))
        yield


@contextmanager
def _without_collections() -> Iterator[None]:
    """Without collections of cycles: when one comes depends on all that this process has done before."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# What autocast computes in bfloat16: it knows no meta device, so it is done by hand.
_COMPUTED_LOW = (
    (F, "linear"),
    (F, "conv1d"),
    (F, "conv2d"),
    (F, "conv3d"),
    (torch, "matmul"),
    (torch, "bmm"),
    (torch, "baddbmm"),
)


class _Casts:
    """Casts as autocast does: a weight that is trained once in a forward pass, all else each time."""

    def __init__(self) -> None:
        self._weights: dict[int, tuple[Tensor, Tensor]] = {}

    def wrap(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """A function that casts what it is given, while autocast is on."""

        def call(*args: Any, **given: Any) -> Tensor:
            if not torch.is_autocast_enabled("cpu"):
                return function(*args, **given)
            return function(*map(self._lower, args), **{name: self._lower(v) for name, v in given.items()})

        return call

    def forget(self) -> None:
        """Let go of the weights that were cast, as the end of a forward pass does."""
        self._weights.clear()

    def _lower(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        dtype = torch.get_autocast_dtype("cpu")
        if not (value.is_leaf and value.requires_grad):
            return value.to(dtype)
        if id(value) not in self._weights:
            self._weights[id(value)] = value, value.to(dtype)
        return self._weights[id(value)][1]


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention that keeps query, key, value, result and a log-sum-exp for each row, as fused kernels do.

    That of the meta device would hold all weights; those of CPUs and GPUs do not.
    """
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (each.repeat_interleave(groups, -3) for each in (key, value))
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.empty(attn_mask.shape, dtype=query.dtype, device=META)
    said = _aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )
    result: Tensor = said[0]
    return result


def _choose_device(func: Any, tensors: Sequence[Tensor], given: Mapping[str, Any]) -> torch.device:
    """Where real tensors go that are sent to the meta device, and new ones that are made there.

    Whole numbers stay real; floating-point numbers go.
    """
    wanted: torch.device = given["device"]
    if wanted.type != "meta":
        return wanted
    dtype = given.get("dtype") or (tensors[0].dtype if tensors else _guess_dtype(func))
    return META if dtype.is_floating_point else _CPU


def _decide(func: Any, args: Sequence[Any], said: Tensor) -> Tensor:
    """What a comparison of unknown numbers says, as it may decide a shape: all finite, no two equal."""
    is_itself = len(args) > 1 and args[0] is args[1]
    answer = torch.tensor(is_itself or func.overloadpacket not in _SAID_TO_BE_FALSE).expand(said.shape)
    return answer if said.numel() > _MANY else answer.clone()  # of all pixels of a batch: a view of one


def _guess_dtype(func: Any) -> torch.dtype:
    """Of a tensor made without a number type: a range counts, all else is floating-point."""
    return torch.int64 if "arange" in str(func) else torch.get_default_dtype()


@cache
def _makes_new(func: Any) -> bool:
    """Whether all that an operation gives is new: no view, and nothing changed in place."""
    schema = func._schema
    aliases = any(each.alias_info is not None for each in (*schema.arguments, *schema.returns))
    return not aliases and func is not _aten._unsafe_view.default


def _describe(value: Any) -> Any:
    """A key for what decides the shapes that an operation gives."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_describe, value))
    return (type(value), value)


def _describe_result(said: Any) -> Any:
    if isinstance(said, Tensor):
        return said.shape, said.stride(), said.dtype
    return [None if each is None else _describe_result(each) for each in said]


def _build_again(described: Any) -> Any:
    if isinstance(described, tuple):
        shape, stride, dtype = described
        return torch.empty_strided(shape, stride, dtype=dtype, device=META)
    return tuple(None if each is None else _build_again(each) for each in described)


def _find_tensors(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _find_tensors(value)


def _list_indices(indices: Sequence[Tensor | None]) -> Iterator[Tensor | None]:
    """A real mask as the places where it is true: how many there are decides the shape."""
    for index in indices:
        if index is None or index.dtype != torch.bool or index.is_meta:
            yield index
        else:
            yield from index.nonzero(as_tuple=True)


def _empty(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value if value.is_meta else torch.empty_like(value, device=META)
    return type(value)(map(_empty, value)) if isinstance(value, list | tuple) else value
