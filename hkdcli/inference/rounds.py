"""All records of a dataset, asked batch by batch: loaded ahead, sized to the memory, failing alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial

from hkdcli.ahead import Ahead
from hkdcli.data.examples import Example
from hkdcli.data.images import ImageSource
from hkdcli.errors import BadRow
from hkdcli.inference.asking import Judge
from hkdcli.inference.batching import LARGEST_SIZE, BatchSize, order_windows, split
from hkdcli.inference.judging import Answered, Loaded, judge_batch, load_batch
from hkdcli.reporter import Reporter
from hkdcli.runtime import MemoryGauge

WHOLE_PASSES = "this model cannot go on from a cached prefix: each answer is a whole pass"

Said = tuple[Example, Answered | BadRow]


def build_loader(
    judge: Judge, images: ImageSource, workers: int, reporter: Reporter
) -> Ahead[Sequence[Example], Loaded]:
    """What loads batches of records, so many workers ahead while the model is busy with the one before."""
    return Ahead(
        partial(load_batch, judge, images), workers, reporter, begin=_use_one_thread, task="loads images"
    )


def _use_one_thread() -> None:
    """Threads do not survive a fork."""
    import torch

    torch.set_num_threads(1)


def ask_all(
    judge: Judge,
    examples: Sequence[Example],
    images: ImageSource,
    *,
    done: Collection[str] = frozenset(),
    batch_size: int | None,
    workers: int,
    reporter: Reporter,
) -> Iterator[list[Said]]:
    """Ask about records, and give what was said as soon as a batch is through.

    With a fixed size, batches are the same whatever is done already: the last digits depend on what is
    computed together, and a resumed run must end in the same file.

    Args:
        judge: the model and how it is asked.
        examples: the records, in the order of the data; windows of them are sorted.
        images: where their images are.
        done: ids that need no answer.
        batch_size: records at once; None: as many as memory holds.
        workers: processes that load images ahead.
        reporter: told of workers that fail, and of models that are slower than they should be.

    Yields:
        list[Said]: The records of a batch that were not done, and what was said of each.
    """
    loader = build_loader(judge, images, workers, reporter)
    size = BatchSize(batch_size, largest=LARGEST_SIZE[judge.scorer.device.type])
    memory, told = MemoryGauge(judge.scorer.device), False
    for window in order_windows(examples):
        left = window if batch_size else [example for example in window if example.id not in done]
        while left:
            at_once = size.size
            batches = [b for b in split(left, at_once) if any(example.id not in done for example in b)]
            left = []
            for number, loaded in enumerate(loader.run(batches)):
                said = judge_batch(judge, loaded, size)
                # Weights, and what others use, do not double with the records.
                size.take_note(len(loaded.examples), 2 * memory.read_share() - memory.held)
                yield [pair for pair in zip(loaded.examples, said, strict=True) if pair[0].id not in done]
                if judge.scorer.fell_back and not told:
                    told = True
                    reporter.warn(WHOLE_PASSES)
                if size.size != at_once:
                    left = [example for batch in batches[number + 1 :] for example in batch]
                    break
