"""One training on several devices: whole copies of the student whose gradients are added up, or shards of it.

Whole copies are data-parallel training as DistributedDataParallel does it, but for one thing: gradients are
added up once, after the last micro-batch, and by hand. So a parameter without a gradient needs no search, and
whatever else is trained (an upper model, an objective's weights) is treated as the student is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from hkdcli.errors import UsageError
from hkdcli.ranks import add_up, find_place

_BUCKET_BYTES = 64 * 2**20


def wants_shards() -> bool:
    """Whether accelerate's settings ask for FSDP; for what is not done here a UsageError."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true" or find_place().size == 1:
        return False
    refused = {
        "FSDP_VERSION": ("2", "set fsdp_version: 2"),
        "FSDP_CPU_RAM_EFFICIENT_LOADING": ("false", "set fsdp_cpu_ram_efficient_loading: false"),
        "FSDP_OFFLOAD_PARAMS": ("false", "set fsdp_offload_params: false"),
    }
    for name, (wanted, hint) in refused.items():
        if os.environ.get(name, wanted).lower() != wanted:
            raise UsageError(f"{name}={os.environ[name]} is not supported", hint=f"In the settings, {hint}.")
    return True


def spread(model: nn.Module, accelerator: Accelerator, *, shards: bool = False) -> nn.Module:
    """Make a model ready to be trained by every process: alike everywhere, and in shards if wanted.

    Args:
        model: where it belongs; changed in place.
        accelerator: for its precision.
        shards: each process keeps a share of every parameter, and fetches the others' when it needs them.

    Returns:
        What to call in training.
    """
    make_alike(_list_trained(model), accelerator)
    if shards:
        _shard(model)
    return accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)


def make_alike(parameters: Sequence[nn.Parameter], accelerator: Accelerator) -> None:
    """Give every process the main one's values.

    Args:
        parameters: the same in every process, no shards.
        accelerator: says how many processes there are.
    """
    if accelerator.num_processes > 1:
        for parameter in parameters:
            dist.broadcast(parameter.data, 0)


def add_up_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Add up the gradients of all processes; those of shards are added up already.

    Args:
        parameters: the same in every process; one that has a gradient in any process has one in all then.
    """
    whole = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    counts = add_up([int(parameter.grad is not None) for parameter in whole])
    used = [parameter for parameter, count in zip(whole, counts, strict=True) if count]
    for parameter in used:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _fill_buckets([parameter.grad for parameter in used if parameter.grad is not None]):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        dist.all_reduce(flat)
        for gradient, total in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(total.view_as(gradient))


def fetch_whole(tensor: Tensor) -> Tensor:
    """A tensor as a whole; every process that has a share of it has to call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def cut_like(whole: Tensor, live: Tensor) -> Tensor:
    """This process's share of a whole tensor, as `live` is cut."""
    if not isinstance(live, DTensor):
        return whole
    whole = whole.to(live.device)
    return distribute_tensor(whole, live.device_mesh, live.placements, src_data_rank=None)


@contextmanager
def assembled(model: nn.Module) -> Iterator[None]:
    """With the outermost parameters of a sharded model whole, so that its parts can be called by themselves.

    Every process then has to make the same calls; in a model without shards nothing changes.

    Args:
        model: what `spread` was given.

    Yields:
        None: While they are whole.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def keep_whole(model: nn.Module) -> None:
    """Replace shards by whole parameters on the CPU: to save a model that is trained no more.

    Args:
        model: what `spread` was given; every process has to call this, and only the main one keeps weights.
    """
    known: dict[nn.Parameter, nn.Parameter] = {}  # what two modules share (tied embeddings) stays shared
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                if parameter not in known:
                    known[parameter] = _keep_main(parameter)
                setattr(module, name, known[parameter])


def _keep_main(parameter: nn.Parameter) -> nn.Parameter:
    whole = fetch_whole(parameter.data)
    kept = whole.cpu() if find_place().is_main else torch.empty(0)
    return nn.Parameter(kept, requires_grad=parameter.requires_grad)


def _shard(model: nn.Module) -> None:
    """Each layer of a stack is fetched when its turn comes; what is outside of them, with the whole."""
    ignored = {p for p in model.parameters() if not p.is_floating_point() or p.dim() == 0}
    options: dict[str, Any] = {"ignored_params": ignored, "reshard_after_forward": True}
    mesh = init_device_mesh(next(model.parameters()).device.type, (dist.get_world_size(),))
    for layer in [layer for stack in model.modules() if isinstance(stack, nn.ModuleList) for layer in stack][
        ::-1
    ]:
        if any(parameter not in ignored for parameter in layer.parameters()):
            fully_shard(layer, mesh=mesh, **options)
    fully_shard(model, mesh=mesh, **options)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # The shares of a step's loss add up: no mean over processes, and none that gloo lacks.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def _list_trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _fill_buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one number type, few enough to be copied into one tensor."""
    for dtype in dict.fromkeys(gradient.dtype for gradient in gradients):
        bucket: list[Tensor] = []
        for gradient in gradients:
            if gradient.dtype != dtype:
                continue
            if bucket and sum(each.nbytes for each in bucket) + gradient.nbytes > _BUCKET_BYTES:
                yield bucket
                bucket = []
            bucket.append(gradient)
        if bucket:
            yield bucket
