"""Batches loaded ahead in other processes, while the model is busy with the one before."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hkdcli.data.examples import Example
from hkdcli.data.images import ImageSource
from hkdcli.inference.asking import Judge
from hkdcli.inference.judging import Loaded, load_batch
from hkdcli.reporter import Reporter

_SHARED_MEMORY = Path("/dev/shm")


class BatchLoader:
    """Loads batches, in their order, with so many workers ahead; goes on without them where they fail.

    Args:
        judge: says what the model takes.
        images: where the images are.
        workers: processes that load; 0 loads in this one.
        reporter: told when workers fail.
    """

    def __init__(self, judge: Judge, images: ImageSource, workers: int, reporter: Reporter) -> None:
        self.judge, self.images, self.workers, self.reporter = judge, images, workers, reporter

    def load(self, batches: Sequence[Sequence[Example]]) -> Iterator[Loaded]:
        """Load batches one after the other.

        Args:
            batches: the records of each.

        Yields:
            Loaded: Each batch; whatever happens to a worker, each exactly once.
        """
        done = 0
        if self.workers and len(batches) > 1:
            try:
                for loaded in _load_ahead(self.judge, self.images, batches, self.workers):
                    done += 1
                    yield loaded
            except (RuntimeError, OSError) as error:
                self._give_up(error)
        for batch in batches[done:]:
            yield load_batch(self.judge, self.images, batch)

    def _give_up(self, error: Exception) -> None:
        self.workers = 0
        first = (str(error).splitlines() or [type(error).__name__])[0]
        self.reporter.warn(
            f"a worker that loads images failed ({first}); going on without workers. {_describe_limits()}"
        )


class _Batches:
    """What torch's DataLoader takes: batches by number."""

    def __init__(self, judge: Judge, images: ImageSource, batches: Sequence[Sequence[Example]]) -> None:
        self.judge, self.images, self.batches = judge, images, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Loaded:
        return load_batch(self.judge, self.images, self.batches[number])


def _load_ahead(
    judge: Judge, images: ImageSource, batches: Sequence[Sequence[Example]], workers: int
) -> Iterator[Loaded]:
    from torch.utils.data import DataLoader

    # A forked worker has the tokenizer and the model's place in memory; it never touches the device.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    source: Any = _Batches(judge, images, batches)
    loader: Any = DataLoader(
        source, batch_size=None, num_workers=min(workers, len(batches)), multiprocessing_context="fork"
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*excessive worker creation.*")
        with _own_child_signal():
            iterator = iter(loader)
    yield from iterator


@contextmanager
def _own_child_signal() -> Iterator[None]:
    """Put back what happens when a child dies.

    torch's handler raises wherever this process is at that moment, in the middle of the model too. Without
    it the loader itself sees that a worker is gone, within seconds of waiting for it.
    """
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


def _describe_limits() -> str:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = f"Limits here: {files} open files (ulimit -n)"
    if _SHARED_MEMORY.is_dir():
        said += f", {shutil.disk_usage(_SHARED_MEMORY).free / 2**20:.0f} MiB free in {_SHARED_MEMORY}"
    return f"{said}."
