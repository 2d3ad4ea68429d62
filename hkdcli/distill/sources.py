"""Where the trainer gets its micro-batches from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hkdcli.data.batches import Batch
from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import Example
from hkdcli.data.prompts import Presentation
from hkdcli.distill.order import Draw


class BatchSource(Protocol):
    """Turns draws into a batch: the same draws give the same batch, in any process."""

    @property
    def size(self) -> int:
        """How many examples there are to draw."""

    def list_ids(self, draws: Sequence[Draw]) -> list[str]:
        """The ids of the examples drawn, without reading them."""

    def load(self, draws: Sequence[Draw]) -> Batch:
        """The examples drawn, collated, on the CPU."""


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """Examples of a dataset with their gold answers.

    Attributes:
        dataset: its examples all have a gold answer.
        collator: of the model that learns; its teachers must read the same tokens.
        present: in which order, and under which letters, to show the choices of an example.
    """

    dataset: Dataset
    collator: Collator
    present: Callable[[Example, Draw], Presentation]

    @property
    def size(self) -> int:
        """How many examples there are to draw."""
        return len(self.dataset.examples)

    def list_ids(self, draws: Sequence[Draw]) -> list[str]:
        """The ids of the examples drawn, without reading them."""
        return [self.dataset.examples[draw.index].id for draw in draws]

    def load(self, draws: Sequence[Draw]) -> Batch:
        """Open the images of the drawn examples and collate.

        Args:
            draws: at least one.

        Returns:
            The batch, on the CPU.
        """
        examples = [self.dataset.examples[draw.index] for draw in draws]
        images = [self.dataset.images.load(example.image) for example in examples]
        shown = [self.present(example, draw) for example, draw in zip(examples, draws, strict=True)]
        return self.collator(examples, images, shown)
