"""Several processes that train one model: which of them this is, and what they tell each other.

A process is one of several when its environment says so, as torchrun, `accelerate launch` and `hkd --nproc`
set it. Whatever goes wrong is told by one process alone: the first to fail claims that in the store that all
can reach, and the others end with its exit code and without a word.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeVar

from hkdcli.rank_faults import SIGN, find_timeout_s, reach_store, settle

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup, Store  # type: ignore[attr-defined]

T = TypeVar("T")

_IDS_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Which process this is, of how many; `local_rank` counts on this machine."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.rank == 0


@dataclass
class _Joined:
    """What this process has of the others, while it works with them."""

    place: Place
    control: ProcessGroup
    store: Store


_joined: _Joined | None = None


def find_place() -> Place:
    """Which process this is, by its environment; alone where that says nothing."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    return Place(*(int(os.environ[name]) for name in names)) if set(names) <= os.environ.keys() else Place()


@contextmanager
def join_ranks() -> Iterator[Place]:
    """Work with the other processes, where there are any; a failure inside is told by one of them.

    Yields:
        Place: Which process this is.

    Raises:
        BaseException: What happened inside, where no other process has failed before.
    """
    global _joined
    place = find_place()
    if place.size == 1:
        yield place
        return
    try:
        _joined = _join(place)
        yield place
        leave_ranks()
    except BaseException as error:
        settle(error, place)
        raise
    finally:
        _joined = None


def leave_ranks() -> bool:
    """End the work in common, which every process has to do; true for the one that goes on alone."""
    global _joined
    place = find_place()
    if _joined is not None:
        import torch.distributed as dist

        wait_for_all()
        _joined = None
        dist.destroy_process_group()
    return place.is_main


def wait_for_all() -> None:
    """Wait until every process has come here."""
    collect(None)


def share(value: T) -> T:
    """The main process's value, in every process; it travels as JSON.

    Args:
        value: Anything that JSON holds.

    Returns:
        What the main process gave.
    """
    return collect(value)[0]


def collect(value: T) -> list[T]:
    """Every process's value, by rank, in every process; values travel as JSON.

    Args:
        value: Anything that JSON holds.

    Returns:
        One value a process.
    """
    if _joined is None:
        return [value]
    import torch
    import torch.distributed as dist

    data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    sizes = torch.tensor(add_up([len(data) if rank == _joined.place.rank else 0 for rank in _all_ranks()]))
    padded = torch.zeros(int(sizes.max()), dtype=torch.uint8)
    padded[: len(data)] = data
    found = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(found, padded, group=_joined.control)
    texts = [bytes(one[:size].tolist()) for one, size in zip(found, sizes.tolist(), strict=True)]
    return [json.loads(text) for text in texts]


def add_up(numbers: Sequence[int]) -> list[int]:
    """Sum whole numbers over all processes, place by place.

    Args:
        numbers: As many in every process.

    Returns:
        The sums.
    """
    return _reduce(numbers, "SUM")


def find_largest(number: int) -> int:
    """The largest of every process's number, in every process."""
    return _reduce([number], "MAX")[0]


def sign(step: int, doing: str, ids: Sequence[str]) -> None:
    """Leave word of what this process is at, for the message should it be lost.

    Args:
        step: The optimizer step, from 1.
        doing: A word for it.
        ids: The records it works on.
    """
    if _joined is not None:
        shown = [*ids[:_IDS_SHOWN], *(["..."] if len(ids) > _IDS_SHOWN else [])]
        with suppress(RuntimeError):  # the store has gone with the launcher: there is nobody to read it
            _joined.store.set(f"{SIGN}/{_joined.place.rank}", f"step {step}, {doing} {', '.join(shown)}")


def _reduce(numbers: Sequence[int], operation: Literal["SUM", "MAX"]) -> list[int]:
    if _joined is None or not numbers:
        return list(numbers)
    import torch
    import torch.distributed as dist

    reduced = torch.tensor(list(numbers), dtype=torch.int64)
    dist.all_reduce(reduced, getattr(dist.ReduceOp, operation), group=_joined.control)
    return [int(number) for number in reduced]


def _all_ranks() -> range:
    return range(find_place().size)


def _join(place: Place) -> _Joined:
    import torch
    import torch.distributed as dist

    timeout = timedelta(seconds=find_timeout_s())
    if torch.cuda.is_available() and place.local_rank < torch.cuda.device_count():
        torch.cuda.set_device(place.local_rank)
    dist.init_process_group("cuda:nccl,cpu:gloo" if torch.cuda.is_available() else "gloo", timeout=timeout)
    # Python hears from gloo when another process is gone; NCCL ends the whole process or hangs.
    return _Joined(place, dist.new_group(backend="gloo", timeout=timeout), reach_store(find_timeout_s()))
