"""Where the trainer gets its micro-batches from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from hkdcli.augment.online import Showing, show_as_it_is
from hkdcli.data.batches import Batch
from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import Example
from hkdcli.data.images import ImageError, LoadedImage, paint_grey
from hkdcli.distill.order import Draw
from hkdcli.errors import BadRow, DataError

_GREY_SIZE = (336, 336)  # where no other picture of the batch gives a size


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
        collator: of the model that reads.
        on_bad: an image that cannot be read, though it could when the run began, is an error, or a grey
            picture stands in for it and its row is not learned from.
        show: how a record is shown, which may be another way in every epoch.
    """

    dataset: Dataset
    collator: Collator
    on_bad: Literal["error", "skip"] = "error"
    show: Showing = show_as_it_is

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
            The batch, on the CPU; its `lost` names the rows whose image could not be read.
        """
        examples = [self.dataset.examples[draw.index] for draw in draws]
        opened = [self._open(example) for example in examples]
        sizes = [each.image.size for each in opened if isinstance(each, LoadedImage)]
        # A grey picture keeps the vision tower at work, so that all processes do the same.
        stand_in = paint_grey(sizes[0] if sizes else _GREY_SIZE)
        shown = [
            show_as_it_is(example, stand_in, draw.epoch)
            if isinstance(each, BadRow)
            else self.show(example, each, draw.epoch)
            for example, each, draw in zip(examples, opened, draws, strict=True)
        ]
        batch = self.collator(
            [each.example for each in shown],
            [each.image for each in shown],
            [each.presentation for each in shown],
            learned=[isinstance(each, LoadedImage) for each in opened],
        )
        return replace(batch, lost=tuple(each for each in opened if isinstance(each, BadRow)))

    def _open(self, example: Example) -> LoadedImage | BadRow:
        """The image, or why there is none."""
        try:
            return self.dataset.images.load(example.image)
        except ImageError as error:
            row = replace(error.row, id=example.id)
            if self.on_bad == "error":
                raise DataError(
                    f"record {example.id!r}: its image cannot be read any more",
                    [row],
                    hint="Put the image back and give --resume; begun with data.on_bad=skip, a run goes on.",
                ) from error
            return row
