"""Which examples a step sees: a pure function of seed and step, so that a resume needs no other state."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Draw:
    """One example of one pass over the data; augmentation is seeded with both."""

    epoch: int
    index: int


@dataclass(frozen=True, slots=True)
class StepShape:
    """How an optimizer step is cut up.

    Attributes:
        micro_batch_size: most examples on one device at once.
        micro_batches: how many of them in a step, on all devices together: what a step computes does not
            depend on how many devices share it, so a training may go on with more or fewer.
        ranks: devices.
    """

    micro_batch_size: int
    micro_batches: int
    ranks: int = 1

    @property
    def examples(self) -> int:
        """Examples in one optimizer step."""
        return self.micro_batch_size * self.micro_batches

    @property
    def pieces(self) -> int:
        """Pieces that the step is cut into, as many on each device: shards of a model need that."""
        share = -(-self.examples // self.ranks)
        return -(-share // self.micro_batch_size) * self.ranks


def draw_step(step: int, size: int, seed: int, shape: StepShape, rank: int = 0) -> list[list[Draw]]:
    """The examples of one optimizer step, as one rank sees them.

    Steps read one endless stream: every epoch is a new shuffle of all examples, and a step may reach over
    the border of two. So each example is seen once per epoch, whatever the batch size.

    Args:
        step: from 0.
        size: examples in the data, at least 1.
        seed: of the order.
        shape: how the step is cut up; the same examples make up a step however it is cut.
        rank: which device.

    Returns:
        One list of draws per micro-batch; there are empty ones where `pieces` exceeds `examples`.
    """
    start = step * shape.examples
    stream = [_draw(start + offset, size, seed) for offset in range(shape.examples)]
    borders = [piece * len(stream) // shape.pieces for piece in range(shape.pieces + 1)]
    pieces = [stream[first:last] for first, last in pairwise(borders)]
    return pieces[rank :: shape.ranks]


def _draw(position: int, size: int, seed: int) -> Draw:
    epoch, place = divmod(position, size)
    return Draw(epoch, int(_shuffle(seed, epoch, size)[place]))


@lru_cache(maxsize=4)
def _shuffle(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(size)
