"""Which records are asked together: alike in length, those of one image side by side, as many as fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hkdcli.data.examples import Example
from hkdcli.errors import MachineLimitError

WINDOW = 1024  # records that are sorted at once, and so the farthest that a row is from its place
FIRST_SIZE = 8
LARGEST_SIZE = {"cuda": 256, "cpu": 32}  # enough for a core: docs/results/benchmarks.md#orders
MOST_SHARE = 0.8  # of the memory, that a batch may be expected to need
STRIKES = 3


def order_windows(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Sort the records of each window: shortest first, those of one image one after the other.

    Args:
        examples: in the order of the data.

    Yields:
        list[Example]: The records of one window, the same whatever is done already.
    """
    for start in range(0, len(examples), WINDOW):
        window = examples[start : start + WINDOW]
        longest: dict[str, int] = {}
        for example in window:
            longest[example.image] = max(longest.get(example.image, 0), _count_characters(example))
        yield sorted(window, key=lambda each: (longest[each.image], each.image))


def split(examples: Sequence[Example], size: int) -> list[Sequence[Example]]:
    """Batches of at most `size` records."""
    return [examples[start : start + size] for start in range(0, len(examples), size)]


class BatchSize:
    """How many records go to the device at once.

    Args:
        fixed: so many; None starts small and doubles while memory allows.
        largest: the most that doubling may reach.
    """

    def __init__(self, fixed: int | None, *, largest: int) -> None:
        self.size = fixed or FIRST_SIZE
        self.grows = fixed is None
        self.largest = largest
        self._strikes = 0

    def take_note(self, records: int, doubled_share: float) -> None:
        """A batch of so many records is through; twice as many would need this share of the memory."""
        if self.grows and records >= self.size and doubled_share < MOST_SHARE:
            self.size = min(2 * self.size, self.largest)

    def forgive(self) -> None:
        """Some records fitted, so that those before them were too large, and not the memory gone."""
        self._strikes = 0

    def shrink(self, records: int) -> None:
        """Memory ran out with so many records at once; from now on fewer are asked, and never more again.

        Args:
            records: how many.

        Raises:
            MachineLimitError: even one record after the other does not fit.
        """
        self.grows = False
        self.size = max(1, min(self.size, records // 2))
        self._strikes += records == 1
        if self._strikes == STRIKES:
            raise MachineLimitError(
                f"memory ran out for {STRIKES} records in a row, each asked alone",
                hint="See what else uses the device; quantize the model; then go on with --resume.",
            )


def _count_characters(example: Example) -> int:
    texts = (example.caption, example.caption_question, example.claim, example.context, example.question)
    return sum(map(len, texts)) + sum(len(choice.text) for choice in example.choices)
