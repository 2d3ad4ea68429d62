"""Batches loaded ahead in other processes, while the model is busy with the one before.

Each worker has a pipe of its own, whose other end nobody else holds: when it dies, in the middle of a batch
too, reading ends at once. torch's DataLoader has one for all, and can wait for a dead worker's half for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection

import psutil

from hkdcli.data.examples import Example
from hkdcli.data.images import ImageSource
from hkdcli.inference.asking import Judge
from hkdcli.inference.judging import Loaded, load_batch
from hkdcli.reporter import Reporter

Batches = Sequence[Sequence[Example]]


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

    def load(self, batches: Batches) -> Iterator[Loaded]:
        """Load batches one after the other.

        Args:
            batches: the records of each.

        Yields:
            Loaded: Each batch; whatever happens to a worker, each exactly once.
        """
        done = 0
        if self.workers and len(batches) > 1:
            try:
                for loaded in self._load_ahead(batches, min(self.workers, len(batches))):
                    done += 1
                    yield loaded
            except (OSError, EOFError) as error:
                self.workers = 0
                self.reporter.warn(
                    f"a worker that loads images failed ({error or 'it was killed'}); going on without "
                    f"workers. {_describe_limits()}"
                )
        for batch in batches[done:]:
            yield load_batch(self.judge, self.images, batch)

    def _load_ahead(self, batches: Batches, count: int) -> Iterator[Loaded]:
        """Worker i loads batches i, i + count, ...; a full pipe holds it back to the batch after that."""
        # A forked worker has tokenizer and images as they are here; it never touches the device.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        with ExitStack() as stack:
            readers = [self._start(batches[first::count], stack) for first in range(count)]
            for number in range(len(batches)):
                # Written by a fork of this very process.
                said = pickle.loads(readers[number % count].recv_bytes())
                if not isinstance(said, Loaded):
                    raise OSError(said)
                yield said

    def _start(self, batches: Batches, stack: ExitStack) -> Connection:
        """Start a worker, which ends with the stack; gives the end of its pipe to read from."""
        context = multiprocessing.get_context("fork")
        reader, writer = context.Pipe(duplex=False)
        stack.callback(reader.close)
        worker = context.Process(
            target=_work, args=(self.judge, self.images, batches, reader, writer), daemon=True
        )
        with writer, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            worker.start()
        stack.callback(worker.join)
        stack.callback(worker.kill)
        return reader


def _work(
    judge: Judge, images: ImageSource, batches: Batches, reader: Connection, writer: Connection
) -> None:
    import torch

    reader.close()  # so that writing fails when the process that reads is gone
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)  # threads do not survive a fork
    for batch in batches:
        try:
            data = pickle.dumps(load_batch(judge, images, batch))
        except Exception as error:  # told here, and met again where the batch is loaded without a worker
            data = pickle.dumps((str(error).splitlines() or [type(error).__name__])[0])
        try:
            writer.send_bytes(data)
        except BrokenPipeError:
            return


def _describe_limits() -> str:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = psutil.virtual_memory().available / 2**30
    return f"Limits here: {files} open files (ulimit -n), {free:.1f} GiB of memory free."
