"""A record and its variants on their way to the disk: rows, lines of the manifest, files of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from hkdcli.atomic import write_atomic
from hkdcli.augment.operations import Sample
from hkdcli.augment.pipeline import Variant, build_variant, seed_variant
from hkdcli.augment.policies import Policy
from hkdcli.data.datasets import Dataset
from hkdcli.data.image_formats import sniff_format
from hkdcli.data.images import ImageFolder, ImageSource
from hkdcli.data.records import Example
from hkdcli.data.rows import render_row
from hkdcli.errors import BadRow, DataError

IMAGES = "images"
COPY_MARK = "~"
NAME_DIGITS = 24
"""Of a picture's name: more than the 16 that some datasets give their own pictures."""
_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif"}
_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Plan:
    """What is made, the same for every process that makes a part of it.

    Attributes:
        dataset: the records.
        copies: how many variants of each record, by its place.
        policy: how variants are drawn.
        seed: with the number of the copy and the record's id it decides a variant.
        folder: where pictures go, below `images`.
    """

    dataset: Dataset
    copies: tuple[int, ...]
    policy: Policy
    seed: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the manifest, and the row of the record; no row where the variant was left out."""

    entry: Mapping[str, Any]
    row: Mapping[str, Any] | None


def make_lines(plan: Plan, place: int) -> list[Line]:
    """Make a record as it is and its variants, and write their pictures.

    A variant to which nothing was applied is left out: it would be the record again.

    Args:
        plan: what is made.
        place: of the record.

    Returns:
        1 + `plan.copies[place]` lines, that of the record as it is first.
    """
    example = plan.dataset.examples[place]
    images = plan.dataset.images
    loaded = images.load(example.image)
    file = _read_original(images, example.image, loaded.image)
    original = _write_picture(plan.folder, *file)
    lines = [Line(_describe(example, example, original, 0), render_row(replace(example, image=original)))]
    sample = Sample(example, loaded.image, plan.dataset.facts.get_facts(example.image))
    for copy in range(1, plan.copies[place] + 1):
        variant = build_variant(sample, plan.policy, seed_variant(plan.seed, copy, example.id))
        if not variant.applied:
            lines.append(Line(_describe(example, variant.example, None, copy, variant), None))
            continue
        image = original
        if variant.image is not loaded.image:
            image = _write_picture(plan.folder, *_encode(variant.image, file[1] == "jpg"))
        lines.append(
            Line(
                _describe(example, variant.example, image, copy, variant),
                render_row(_name_variant(example, variant.example, image, copy)),
            )
        )
    return lines


def name_copy(example_id: str, copy: int) -> str:
    """The id of a variant."""
    return f"{example_id}{COPY_MARK}{copy}"


def name_class(example: Example) -> str | None:
    """What balance is about: the verdict, or whether anything is hallucinated; None without gold."""
    if not example.answer:
        return None
    if example.task == "factuality":
        return next(choice.text for choice in example.choices if choice.id in example.answer)
    return "No hallucination" if example.none_id in example.answer else "hallucinated"


def _name_variant(source: Example, made: Example, image: str, copy: int) -> Example:
    told = {"source": source.id, "source_image": source.image, "copy": copy}
    return replace(made, id=name_copy(source.id, copy), image=image, extra={**made.extra, "augmented": told})


def _describe(
    source: Example, made: Example, image: str | None, copy: int, variant: Variant | None = None
) -> dict[str, Any]:
    """The line of the manifest; without an image the variant was left out."""
    return {
        "id": name_copy(source.id, copy) if copy else source.id,
        "source": source.id,
        "image": image,
        "source_image": source.image,
        "copy": copy,
        "task": source.task,
        "class": name_class(made),
        "class_before": name_class(source),
        "applied": {} if variant is None else {name: dict(each) for name, each in variant.applied.items()},
        "refused": {} if variant is None else dict(variant.refused),
        "written": image is not None,
    }


def _read_original(images: ImageSource, name: str, image: Image.Image) -> tuple[bytes, str]:
    """The bytes of a picture as it is and the suffix of its format; one that has no file is encoded."""
    if isinstance(images, ImageFolder):
        data = images.read_bytes(name)
        kind = sniff_format(data)
        return data, _SUFFIXES.get(kind, kind.lower())
    return _encode(image, False)


def _encode(image: Image.Image, is_lossy: bool) -> tuple[bytes, str]:
    """A picture as a file and the suffix of its format: a good JPEG for a JPEG, else a PNG."""
    buffer = BytesIO()
    if is_lossy:
        image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
        return buffer.getvalue(), "jpg"
    image.save(buffer, "PNG")
    return buffer.getvalue(), "png"


def _write_picture(folder: Path, data: bytes, suffix: str) -> str:
    """Write a picture under the hash of its bytes, unless it is there; returns the name that records use."""
    name = f"{hashlib.sha256(data).hexdigest()[:NAME_DIGITS]}.{suffix}"
    path = folder / IMAGES / name
    if not path.exists() or path.stat().st_size != len(data):
        write_atomic(path, data)
    return name


def check_names(dataset: Dataset, copies: Sequence[int]) -> None:
    """Check that no variant gets the id that a record has.

    Args:
        dataset: the records.
        copies: how many variants of each.

    Raises:
        DataError: one would; every such record is named.
    """
    known = {example.id for example in dataset.examples}
    rows = [
        BadRow("record.duplicate_id", name, dataset.name, f"a variant of {example.id} would have this id too")
        for example, count in zip(dataset.examples, copies, strict=True)
        for copy in range(1, count + 1)
        if (name := name_copy(example.id, copy)) in known
    ]
    if rows:
        raise DataError(
            f"{dataset.name}: some ids look like those of variants",
            rows,
            hint="Give these records other ids.",
        )
