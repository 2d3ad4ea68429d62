"""The embedded world as a data source: `scenes:SPLIT` in memory, or the same records as files on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import write_examples
from hkdcli.data.images import ImageError, LoadedImage, compute_pixel_hash
from hkdcli.data.records import Task
from hkdcli.errors import BadRow, UsageError
from hkdcli.scenes.records import build_record
from hkdcli.scenes.world import SPLITS, Scene, Split, render_scene

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
        raise UsageError(f"scenes have no split {split!r}", hint=f"choose one of: {', '.join(SPLITS)}")
    if unknown := [task for task in tasks if task not in get_args(Task)]:
        raise UsageError(
            f"scenes have no task {unknown[0]!r}", hint=f"choose from: {', '.join(get_args(Task))}"
        )
    known: Split = split
    count = DEFAULT_SIZE[known] if size is None else size
    records = [
        build_record(known, index, seed=seed, task=tasks[index % len(tasks)]) for index in range(count)
    ]
    images = SceneImages({record.example.image: record.scene for record in records})
    return Dataset(f"scenes:{split}", tuple(record.example for record in records), images)


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
