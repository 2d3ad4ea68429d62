"""Seconds of a call, and the most memory that it holds: by CUDA's allocator, or by the profiler of a CPU."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from hkdcli.errors import MachineLimitError
from hkdcli.runtime import is_out_of_memory


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes: the most in tensors, and what the allocator had taken of the card for them (None on a CPU)."""

    allocated: int
    reserved: int | None


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was told; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def read_allocated(device: torch.device) -> int | None:
    """Bytes of all tensors on a GPU at the moment; None: on a CPU nothing counts them."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else None


def ran_out(error: Exception) -> bool:
    """Whether an error says that memory ran out, as it comes or as the package tells it."""
    return isinstance(error, MachineLimitError) or is_out_of_memory(error)


def give_back(device: torch.device) -> None:
    """Free what nobody holds any more, so that the next case starts with an empty allocator."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def take_seconds(device: torch.device, run: Callable[[], Any]) -> float:
    """Seconds on the wall that a call takes, with the device waited for before and after."""
    wait_for(device)
    started = time.perf_counter()
    run()
    wait_for(device)
    return time.perf_counter() - started


def measure_peak(device: torch.device, held: int, run: Callable[[], Any]) -> Peak:
    """The most memory while something runs.

    Args:
        device: where it runs.
        held: bytes of the tensors that are there before; needed on a CPU alone.
        run: what runs.

    Returns:
        The peak. On a CPU it lacks arrays that come in from numpy: torch's allocator does not see them.
    """
    if device.type != "cuda":
        return Peak(held + _profile_peak(run), None)
    wait_for(device)
    torch.cuda.reset_peak_memory_stats(device)
    run()
    wait_for(device)
    return Peak(torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device))


def _profile_peak(run: Callable[[], Any]) -> int:
    """Bytes above what was held before: the running sum of what is taken and freed, in the order of time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
