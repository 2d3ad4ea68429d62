"""A dataset: examples, the images they speak of, and what was wrong with either."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hkdcli.data.examples import Example, read_examples
from hkdcli.data.images import ImageFolder, ImagePolicy, ImageSource
from hkdcli.errors import BadRow

OnBad = Literal["error", "skip", "keep"]


@dataclass(frozen=True)
class Dataset:
    """Examples and the source that opens their images."""

    name: str
    examples: tuple[Example, ...]
    images: ImageSource
    bad_rows: tuple[BadRow, ...] = ()
    warnings: tuple[str, ...] = ()


def load_dataset(
    source: str | Path,
    *,
    images: Path | None = None,
    policy: ImagePolicy | None = None,
    on_bad: OnBad = "error",
    max_bad: float = 0.01,
    encoding: str = "utf-8",
    strict: bool = False,
) -> Dataset:
    """Load the plain case; the policies arrive with the next commit."""
    source = Path(source)
    result = read_examples(source, encoding=encoding)
    folder = images or (source.parent / "images" if (source.parent / "images").is_dir() else source.parent)
    return Dataset(
        source.name, result.examples, ImageFolder(folder, policy), result.bad_rows, result.warnings
    )


def check_dataset(dataset: Dataset, *, need_answers: bool, check_images: bool) -> None:
    """Check everything at once; raises DataError."""


@dataclass(frozen=True, slots=True)
class Leak:
    """What train and test share: `leak_rate` is the share of test examples that train has seen."""

    shared_ids: tuple[str, ...]
    shared_images: tuple[str, ...]
    leak_rate: float


def compute_leak(train: Dataset, test: Dataset) -> Leak:
    """Find the test examples whose id or pixels train has seen."""
    raise NotImplementedError


def hash_examples(examples: Iterable[Example]) -> str:
    """Hash the content of rows, in order: sha256 hex, equal for every file form of the same rows."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps([example.id, example.task, example.image]).encode())
    return digest.hexdigest()
