"""One of several processes fails: who tells of it, with which exit code, and what all of them were at."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hkdcli.errors import HkdError, Interrupted, MachineLimitError

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

    from hkdcli.ranks import Place

TIMEOUT_VARIABLE = "HKD_TIMEOUT_S"
DEFAULT_TIMEOUT_S = 600.0
CLAIM, SIGN = "hkd/failed", "hkd/at"


def find_timeout_s() -> float:
    """Seconds after which a process that gives no sign is given up."""
    return float(os.environ.get(TIMEOUT_VARIABLE, DEFAULT_TIMEOUT_S))


def describe_signs(store: Store, size: int) -> str:
    """A line for each process: what it was at when it last gave a sign.

    Args:
        store: What the processes share.
        size: How many they are.

    Returns:
        The lines.
    """
    keys = [f"{SIGN}/{rank}" for rank in range(size)]
    at = [store.get(key).decode() if store.check([key]) else "not at its first step yet" for key in keys]
    return "\n".join(f"  process {rank}: {said}" for rank, said in enumerate(at))


def reach_store(patience_s: float = 10.0) -> Store:
    """The store that brought the processes together; torchrun and `hkd --nproc` keep it alive for them."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(*where, is_master=False, timeout=timedelta(seconds=patience_s))


def settle(error: BaseException, place: Place) -> None:
    """Let a failure be told by the first process that has one.

    Args:
        error: What happened in this process.
        place: Which process this is.

    Raises:
        SystemExit: Another process tells; this one ends with the same code.
        known: What tells better than the error does, where another process is lost.
    """
    known = _explain_loss(error, place)
    if (code := _claim(known, place)) is not None:
        raise SystemExit(code) from error
    if known is not error:
        raise known from error


def _explain_loss(error: BaseException, place: Place) -> BaseException:
    """An error of the connection to the others, as one that a person can read; any other as it is."""
    import torch.distributed as dist

    lost = isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
    if isinstance(error, HkdError) or not lost:
        return error
    try:
        signs = describe_signs(reach_store(), place.size)
    except Exception:  # the process that kept the store is the one that is gone
        signs = f"  {error}"
    return MachineLimitError(
        f"process {place.rank} of {place.size} has lost another, which was killed, or has given no sign for "
        f"{find_timeout_s():.0f} s; the last checkpoint is kept\n{signs}",
        hint="A process killed from outside has often run out of memory: use a smaller micro_batch_size. "
        f"{TIMEOUT_VARIABLE} sets how long to wait for a slow one. Then --resume.",
    )


def _claim(error: BaseException, place: Place) -> int | None:
    """Claim to be the one that tells what went wrong; else the exit code of the process that does."""
    mine = f"{place.rank}:{_find_code(error)}"
    try:
        claimed: Any = reach_store().compare_set(CLAIM, "", mine)
    except Exception:  # nobody is left to be told
        return None
    return None if claimed.decode() == mine else int(claimed.decode().partition(":")[2])


def _find_code(error: BaseException) -> int:
    """The code that `hkd` will end with."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, HkdError):
        return error.exit_code
    if isinstance(error, Interrupted):
        return 128 + error.signal_number
    limit = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return MachineLimitError.exit_code if limit else 1
