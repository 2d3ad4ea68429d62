"""Work done ahead in other processes, and handed over in its order.

Each worker has a pipe of its own, whose other end nobody else holds: when it dies, in the middle of a message
too, reading ends at once. A queue that workers share, as torch's DataLoader has one, can wait for a dead
worker's half for ever.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle  # nosec B403
import resource
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

import psutil

from hkdcli.reporter import Reporter

Item = TypeVar("Item")
Made = TypeVar("Made")


class Ahead(Generic[Item, Made]):
    """Makes something of each item, with so many workers ahead; goes on without them where they fail.

    Args:
        make: what is done; a fork of this process does it.
        workers: processes; 0 makes all in this one.
        reporter: told when workers fail.
        begin: what a worker does first.
        task: what workers do, for the warning.
    """

    def __init__(
        self,
        make: Callable[[Item], Made],
        workers: int,
        reporter: Reporter,
        *,
        begin: Callable[[], None] = lambda: None,
        task: str,
    ) -> None:
        self.make, self.workers, self.reporter, self.begin, self.task = make, workers, reporter, begin, task

    def run(self, items: Sequence[Item]) -> Iterator[Made]:
        """Make one after the other.

        Args:
            items: of which.

        Yields:
            Made: What was made of each item, in their order; whatever happens to a worker, each exactly once.
        """
        done = 0
        if self.workers and len(items) > 1:
            try:
                for made in self._run_ahead(items, min(self.workers, len(items))):
                    done += 1
                    yield made
            except (OSError, EOFError) as error:
                self.workers = 0
                self.reporter.warn(
                    f"a worker that {self.task} failed ({str(error) or 'it was killed'}); going on without "
                    f"workers. {_describe_limits()}"
                )
        for item in items[done:]:
            yield self.make(item)

    def _run_ahead(self, items: Sequence[Item], count: int) -> Iterator[Made]:
        """Worker i takes items i, i + count, ...; a full pipe holds it back to the item after that."""
        # A forked worker has everything as it is here; it never touches the device.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        with ExitStack() as stack:
            readers = [self._start(items[first::count], stack) for first in range(count)]
            for number in range(len(items)):
                # Written by a fork of this very process.
                is_made, said = pickle.loads(readers[number % count].recv_bytes())  # nosec B301
                if not is_made:
                    raise OSError(said)
                yield said

    def _start(self, items: Sequence[Item], stack: ExitStack) -> Connection:
        """Start a worker, which ends with the stack; gives the end of its pipe to read from."""
        context = multiprocessing.get_context("fork")
        reader, writer = context.Pipe(duplex=False)
        stack.callback(reader.close)
        worker = context.Process(target=self._work, args=(items, reader, writer), daemon=True)
        with writer, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            worker.start()
        stack.callback(worker.join)
        stack.callback(worker.kill)
        return reader

    def _work(self, items: Sequence[Item], reader: Connection, writer: Connection) -> None:
        reader.close()  # so that writing fails when the process that reads is gone
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that decides
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.begin()
        for item in items:
            said: tuple[bool, Any]
            try:
                said = True, self.make(item)
            except Exception as error:  # told here, and met again where it is made without a worker
                said = False, (str(error).splitlines() or [type(error).__name__])[0]
            try:
                writer.send_bytes(pickle.dumps(said))
            except BrokenPipeError:
                return


def _describe_limits() -> str:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = psutil.virtual_memory().available / 2**30
    return f"Limits here: {files} open files (ulimit -n), {free:.1f} GiB of memory free."
