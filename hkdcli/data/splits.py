"""Records shared out to train, dev and test so that no picture stands in two of them."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable

from hkdcli.data.records import Example

SPLITS = ("train", "dev", "test")


def split_examples(examples: Iterable[Example], *, dev: int, test: int) -> dict[str, list[Example]]:
    """Share records out by the names of their pictures.

    Where a picture goes is told by the SHA-256 of its name alone: records that are added later leave all
    others in their splits, and every file of the same pictures is shared out alike.

    Args:
        examples: The records.
        dev: Percent of all picture names that go to dev, 0 to 100.
        test: Percent that go to test; together with dev at most 100. Train has the others.

    Returns:
        train, dev and test, each in the order of the records; a split may be empty.
    """
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    for example in examples:
        splits[_choose_split(example.image, 100 - dev - test, dev)].append(example)
    return splits


def _choose_split(image: str, train: int, dev: int) -> str:
    name = posixpath.normpath(image).encode()  # ./a.jpg is a.jpg
    point = int(hashlib.sha256(name).hexdigest(), 16) % 100
    if point < train:
        return "train"
    return "dev" if point < train + dev else "test"
