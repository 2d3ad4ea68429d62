"""How much room a machine has, and whether a phase fits into it."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from hkdcli.errors import UsageError
from hkdcli.planning.lesson import TrainingMemory

GIB = 2**30

# What is not counted but assumed: a card gives a little less than it is sold for, its driver and libraries
# (context, cuBLAS and cuDNN workspaces) take a part, and an allocator wastes some of what comes and goes.
_USABLE_SHARE = 0.98
_CUDA_OVERHEAD = round(0.75 * GIB)
_SLACK = 0.1
# On a CPU what is freed is kept, in pieces that do not always fit, and a process that trains is larger than
# one that plans: docs/plan.md says what was measured.
_CPU_OVERHEAD = round(0.25 * GIB)
_CPU_SLACK = 0.8


@dataclass(frozen=True, slots=True)
class Room:
    """The memory that a run may use.

    Attributes:
        name: for people.
        usable: bytes.
        overhead: bytes of what a process takes without any tensor.
        slack: share of gradients and activations that an allocator may waste.
    """

    name: str
    usable: int
    overhead: int
    slack: float

    def compute_need(self, memory: TrainingMemory) -> int:
        """Bytes that a phase needs here: its peak, the overhead, and what is wasted."""
        return round(memory.peak + self.overhead + self.slack * (memory.gradients + memory.activations))

    def fits(self, memory: TrainingMemory) -> bool:
        """Whether a phase fits."""
        return self.compute_need(memory) <= self.usable


def weigh_process() -> int:
    """Bytes of main memory that this process holds."""
    return int(psutil.Process().memory_info().rss)


def choose_room(device: str, *, gpu_gb: float | None = None, memory_gib: float | None = None) -> Room:
    """Choose what is planned for.

    Args:
        device: `cuda` or `cpu`.
        gpu_gb: a card as it is sold, in GB; None: none is named.
        memory_gib: so many GiB, exactly.

    Returns:
        The room: what was named, or else this machine's GPU or memory.

    Raises:
        UsageError: both were given, or a GPU is planned for that is neither named nor here.
    """
    if gpu_gb is not None and memory_gib is not None:
        raise UsageError("--gpu and --memory-gib say the same thing", hint="Give one of them.")
    process = weigh_process()
    waste = (_CUDA_OVERHEAD, _SLACK) if device == "cuda" else (process + _CPU_OVERHEAD, _CPU_SLACK)
    if memory_gib is not None:
        return Room(f"{memory_gib:g} GiB", round(memory_gib * GIB), *waste)
    if gpu_gb is not None:
        return Room(f"a GPU of {gpu_gb:g} GB", round(gpu_gb * _USABLE_SHARE * GIB), *waste)
    if device == "cpu":
        return Room("this machine's free memory", psutil.virtual_memory().available + process, *waste)
    import torch

    if not torch.cuda.is_available():
        raise UsageError("there is no GPU here to plan for", hint="Name one: --gpu 24, or --memory-gib 23.5.")
    properties = torch.cuda.get_device_properties(0)
    return Room(properties.name, properties.total_memory, *waste)
