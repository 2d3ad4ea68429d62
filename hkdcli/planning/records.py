"""The records that decide how much memory a step takes: the longest of the user's own data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from PIL import Image

from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import Choice, Example
from hkdcli.data.image_files import resolve_image
from hkdcli.data.images import ImageError, ImageFolder, ImageSource, LoadedImage, paint_grey
from hkdcli.data.prompts import identity_presentation
from hkdcli.errors import DataError

# As many are looked at: the largest pictures, the longest texts, the flattest pictures, and others evenly.
_LOOKED_AT = {"area": 12, "text": 12, "shape": 4, "even": 20}
_STAND_IN_SIZE = (640, 480)
_STAND_IN_WORDS = 60


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long the records are, in a model's tokens, answer included.

    Attributes:
        records: in the data.
        looked_at: how many of them were read.
        unreadable: how many more would have been, but their images cannot be opened.
        median: of all tokens.
        longest: of those looked at, which are the likeliest to be.
        image_median: of the image tokens.
        image_most: of a record.
    """

    records: int
    looked_at: int
    unreadable: int
    median: int
    longest: int
    image_median: int
    image_most: int


class MadeUpImages:
    """Grey pictures of one size, where the user's own are not at hand."""

    def __init__(self, size: tuple[int, int] = _STAND_IN_SIZE) -> None:
        self.size = size

    def load(self, name: str) -> LoadedImage:
        """The picture; every name has the same."""
        return paint_grey(self.size)


def make_up_records(count: int = 8) -> Dataset:
    """Records of usual size, to plan with where the user's own are not at hand.

    Args:
        count: how many.

    Returns:
        Captions of 60 words with four choices, and pictures of 640 x 480 pixels.
    """
    choices = tuple(Choice(letter, f"a phrase of words {letter}") for letter in "ABC")
    choices += (Choice("D", "No hallucination"),)
    caption = " ".join(f"word{place}" for place in range(_STAND_IN_WORDS))
    examples = tuple(
        Example(
            id=f"made-up-{place}",
            task="hallucination",
            image=f"{place}.png",
            caption=caption,
            question="Which phrases of the caption does the image contradict?",
            choices=choices,
            answer=frozenset("AC"),
        )
        for place in range(count)
    )
    return Dataset("made-up records", examples, MadeUpImages())


def find_longest(dataset: Dataset, processor: Any) -> tuple[Dataset, Lengths]:
    """Find the records that take most tokens, and say how long records are.

    Args:
        dataset: with at least one example.
        processor: of the model that reads.

    Returns:
        The dataset with its longest examples first, and only those that were looked at; the lengths.

    Raises:
        DataError: no record has gold, or no image of those looked at can be opened.
    """
    collator = Collator(processor)
    candidates = _choose(dataset)
    if not candidates:
        raise DataError(
            f"{dataset.name}: none of {len(dataset.examples)} records has gold",
            hint="Write correct_choice into every record: training needs it.",
        )
    measured = []
    for example in candidates:
        try:
            image = dataset.images.load(example.image)
        except ImageError:
            continue
        measured.append((*_count_tokens(collator, example, image), example))
    if not measured:
        raise DataError(
            f"{dataset.name}: none of {len(candidates)} images can be opened",
            hint="Look at what is wrong with them: hkd doctor DATA.",
        )
    measured.sort(key=lambda each: -each[0])
    lengths, images = [each[0] for each in measured], [each[1] for each in measured]
    found = Lengths(
        records=len(dataset.examples),
        looked_at=len(measured),
        unreadable=len(candidates) - len(measured),
        median=round(median(lengths)),
        longest=lengths[0],
        image_median=round(median(images)),
        image_most=max(images),
    )
    return replace(dataset, examples=tuple(each[2] for each in measured)), found


def take_longest(dataset: Dataset, count: int) -> Dataset:
    """The first so many examples, under ids of their own where they have to come again."""
    again = [dataset.examples[place % len(dataset.examples)] for place in range(count)]
    examples = tuple(replace(each, id=f"{each.id} {place}") for place, each in enumerate(again))
    return replace(dataset, examples=examples)


def _choose(dataset: Dataset) -> list[Example]:
    examples = [example for example in dataset.examples if example.answer]
    sizes = {name: _read_size(dataset.images, name) for name in {example.image for example in examples}}
    by = {
        "area": lambda e: -sizes[e.image][0] * sizes[e.image][1],
        "text": lambda e: (
            -sum(map(len, (e.caption, e.claim, e.context, e.question, *(c.text for c in e.choices))))
        ),
        "shape": lambda e: -max(sizes[e.image]) / max(1, min(sizes[e.image])),
    }
    chosen = {e.id: e for name, key in by.items() for e in sorted(examples, key=key)[: _LOOKED_AT[name]]}
    step = max(1, len(examples) // _LOOKED_AT["even"])
    chosen |= {example.id: example for example in examples[::step][: _LOOKED_AT["even"]]}
    return list(chosen.values())


def _read_size(images: ImageSource, name: str) -> tuple[int, int]:
    """Pixels of an image, from its header where it is a file; (0, 0) where it cannot be read."""
    if not isinstance(images, ImageFolder):
        return (0, 0)  # drawn on demand, all of one size
    try:
        path = resolve_image(images.root, name, allow_outside_root=images.policy.allow_outside_root)
        if not path.is_file():
            return (0, 0)
        with Image.open(path) as image:
            return image.size
    except Exception:  # a header may lead anywhere; what is wrong with it is told when it is loaded
        return (0, 0)


def _count_tokens(collator: Collator, example: Example, image: LoadedImage) -> tuple[int, int]:
    batch = collator([example], [image], [identity_presentation(example)])
    ids = batch.model_inputs["input_ids"]
    image_id = getattr(collator.processor, "image_token_id", None)
    images = int((ids == image_id).sum()) if image_id is not None else 0
    return int(batch.model_inputs["attention_mask"].sum()), images


def describe_lengths(lengths: Sequence[Lengths]) -> str:
    """One line for people about the longest of several."""
    longest = max(lengths, key=lambda each: each.longest)
    return (
        f"{longest.looked_at} of {longest.records} records looked at: {longest.median} tokens in the middle, "
        f"{longest.longest} at most; of an image {longest.image_median} and {longest.image_most}"
    )
