"""What a command runs on: device and number type; and one line that says so."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

from hkdcli.errors import SetupError
from hkdcli.ranks import find_place

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda"]
DtypeName = Literal["auto", "float32", "bfloat16"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # of glibc's malloc.h
_KEEPING = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))
_GIVING_BACK = ((_M_MMAP_MAX, 2**16), (_M_MMAP_THRESHOLD, 2**17), (_M_TRIM_THRESHOLD, 2**17))
# Where glibc itself ends up once tensors of any size have been freed.
_ADAPTED = ((_M_MMAP_MAX, 2**16), (_M_MMAP_THRESHOLD, 2**25), (_M_TRIM_THRESHOLD, 2**26))
_is_kept = False  # what this process has told its C library; it cannot be asked


@dataclass(frozen=True, slots=True)
class Runtime:
    """The device and number type chosen."""

    device: torch.device
    dtype: torch.dtype

    def describe(self) -> str:
        """One line for people: device, its memory or threads, torch, number type."""
        return f"{_describe_device(self.device)}, {str(self.dtype).removeprefix('torch.')}"


def choose_runtime(device: DeviceName = "auto", dtype: DtypeName = "auto") -> Runtime:
    """Choose a device and a number type.

    Args:
        device: `auto` takes a usable GPU where there is one.
        dtype: `auto` is bfloat16 on a GPU that has it and float32 elsewhere: CPUs emulate bfloat16, several
            times slower, and float16 overflows.

    Returns:
        The choice.

    Raises:
        SetupError: a GPU was asked for and there is none that works.
    """
    import torch

    usable = torch.cuda.is_available()
    if device == "cuda" and not usable:
        raise SetupError(
            "device cuda was asked for, and torch finds no usable GPU",
            hint="Check nvidia-smi and CUDA_VISIBLE_DEVICES, or use device: cpu.",
        )
    chosen = _choose_gpu() if usable and device != "cpu" else torch.device("cpu")
    if chosen.type == "cpu":
        keep_freed_memory()
    fast = chosen.type == "cuda" and torch.cuda.is_bf16_supported()
    name = dtype if dtype != "auto" else ("bfloat16" if fast else "float32")
    return Runtime(chosen, getattr(torch, name))


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed for the next tensor, instead of giving it back to the system.

    Every step of a training frees and takes the same large tensors (logits, gradients). Given back, their
    pages are cleared by the system again each time, a good part of a step's CPU time on a small model. The
    price: a process that takes tensors of ever other sizes may hold more than it uses.

    Returns:
        Whether it was told: glibc alone takes it.
    """
    global _is_kept
    _is_kept = _tell_malloc(_KEEPING)
    return _is_kept


@contextmanager
def give_back_freed_memory() -> Iterator[None]:
    """Have the C library give each large block back to the system as soon as it is freed.

    Weights that are quantized one after the other are large blocks that live for a moment, each followed by a
    small one that stays. Kept for later, the freed ones would add up to several times the quantized size.

    Yields:
        None: While it is so; then it is as `keep_freed_memory` or the C library would have it.
    """
    told = _tell_malloc(_GIVING_BACK)
    try:
        yield
    finally:
        if told:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            _tell_malloc(_KEEPING if _is_kept else _ADAPTED)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the GPU or beside it."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    refused = "Cannot allocate memory" in str(error)  # by the system, where a file is mapped
    return isinstance(error, Exception) and (refused or bool(should_reduce_batch_size(error)))


class MemoryGauge:
    """How much of a device's memory is in use at most; `held` is the share when the gauge was made."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            self.read_share()  # what was in use at most before is no matter
        self.held = self.read_share()

    def read_share(self) -> float:
        """The largest share, in [0, 1], since it was last read; on a CPU the share of the moment."""
        if self.device.type != "cuda":
            return float(psutil.virtual_memory().percent) / 100
        import torch

        used = torch.cuda.max_memory_reserved(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        return used / torch.cuda.get_device_properties(self.device).total_memory


def _tell_malloc(settings: tuple[tuple[int, int], ...]) -> bool:
    """Whether the C library took all settings."""
    try:
        tell = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(tell(name, value) for name, value in settings)


def _choose_gpu() -> torch.device:
    """The GPU of this process: its own, where it is one of several."""
    import torch

    place, count = find_place(), torch.cuda.device_count()
    if place.size == 1:
        return torch.device("cuda")
    if place.local_rank >= count:
        raise SetupError(
            f"process {place.rank} has no GPU of its own: this machine has {count}",
            hint=f"Start {count} processes, or use runtime.device=cpu.",
        )
    return torch.device("cuda", place.local_rank)


def _describe_device(device: torch.device) -> str:
    import torch

    if device.type == "cpu":
        return f"CPU with {torch.get_num_threads()} threads, torch {torch.__version__}"
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name} with {properties.total_memory / 2**30:.0f} GiB, torch {torch.__version__}"


def has_room(folder: Path, device: torch.device) -> bool:
    """Whether twice the weights on disk fit into what is free: room for them, and for what they compute.

    Args:
        folder: has the weights.
        device: where they would go.

    Returns:
        Whether they fit.
    """
    import torch

    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return 2 * size < int(free)
