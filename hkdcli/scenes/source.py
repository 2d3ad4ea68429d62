"""The embedded world as a data source: `scenes:SPLIT` in memory, or the same records as files on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import permutations, product
from pathlib import Path
from typing import get_args

from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import write_examples
from hkdcli.data.facts import NOTHING_KNOWN, ImageFacts
from hkdcli.data.images import ImageError, LoadedImage, compute_pixel_hash
from hkdcli.data.records import Task
from hkdcli.errors import BadRow, UsageError
from hkdcli.scenes import phrases
from hkdcli.scenes.records import build_record
from hkdcli.scenes.world import COLOURS, SHAPES, SIZES, SPLITS, Scene, Split, render_scene

DEFAULT_SIZE: dict[Split, int] = {"train": 4000, "dev": 400, "test": 600}


class SceneImages:
    """Draws the image of a record when it is asked for."""

    def __init__(self, scenes: Mapping[str, Scene]) -> None:
        self._scenes = scenes

    def load(self, name: str) -> LoadedImage:
        """Draw the scene that a record calls `name`.

        Args:
            name: the record's `image`.

        Returns:
            The 72 x 72 picture.

        Raises:
            ImageError: no record of this source has that name.
        """
        if name not in self._scenes:
            raise ImageError(BadRow("image.missing", "", name, "no such scene in this source"))
        image = render_scene(self._scenes[name])
        return LoadedImage(image, compute_pixel_hash(image))

    def get_facts(self, name: str) -> ImageFacts:
        """Everything that is true of the scene that a record calls `name`; nothing where there is none."""
        return build_facts(self._scenes[name]) if name in self._scenes else NOTHING_KNOWN


def build_facts(scene: Scene) -> ImageFacts:
    """What can be said of a scene.

    Args:
        scene: what is drawn.

    Returns:
        Its visible things as "large red circle", no listing where one may be covered; and every true phrase
        about them. So much is true of what is seen, and nothing is said of what is not.
    """
    things = scene.visible
    said = [
        phrase
        for t in things
        for phrase in (
            f"{t.colour} {t.shape}",
            f"{t.shape} in {t.colour}",
            f"{t.size} {t.colour} shape",
            f"{t.colour} shape at {phrases.render_cell(t.cell)}",
        )
    ]
    said += [
        f"{a.colour} shape {relation} {b.colour} shape"
        for a, b in permutations(things, 2)
        for relation in phrases.OPPOSITES
        if phrases.holds(relation, a.cell, b.cell)
    ]
    objects = tuple(f"{t.size} {t.colour} {t.shape}" for t in things)
    return ImageFacts(objects if scene.covered is None else None, tuple(said), _list_names())


@cache
def _list_names() -> frozenset[str]:
    """What a thing can be called."""
    return frozenset(map(" ".join, product(SIZES, COLOURS, SHAPES)))


def load_scenes(
    split: str,
    *,
    size: int | None = None,
    seed: int = 0,
    tasks: Sequence[Task] = ("hallucination", "factuality"),
) -> Dataset:
    """Build `size` records of a split, the tasks in turn.

    Args:
        split: `train`, `dev` or `test`; no two splits share a scene, whatever their seeds.
        size: how many records; by default 4,000, 400 and 600.
        seed: which records; the same arguments give the same records.
        tasks: which tasks they ask.

    Returns:
        The dataset; its images are drawn on demand.

    Raises:
        UsageError: there is no such split or task.
    """
    if split not in SPLITS:
        raise UsageError(f"scenes have no split {split!r}", hint=f"Choose one of: {', '.join(SPLITS)}.")
    if unknown := [task for task in tasks if task not in get_args(Task)]:
        raise UsageError(
            f"scenes have no task {unknown[0]!r}", hint=f"Choose from: {', '.join(get_args(Task))}."
        )
    known: Split = split
    count = DEFAULT_SIZE[known] if size is None else size
    records = [
        build_record(known, index, seed=seed, task=tasks[index % len(tasks)]) for index in range(count)
    ]
    images = SceneImages({record.example.image: record.scene for record in records})
    return Dataset(f"scenes:{split}", tuple(record.example for record in records), images, facts=images)


def write_scenes(folder: Path, dataset: Dataset) -> None:
    """Write a dataset of scenes as challenge-format files: `records.json` and `images/*.png`.

    Args:
        folder: created if need be; files of the same names are replaced.
        dataset: what `load_scenes` returned.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for example in dataset.examples:
        dataset.images.load(example.image).image.save(folder / "images" / example.image)
    write_examples(folder / "records.json", dataset.examples)
