"""The records that an export is checked on where none are given, and the one that its card shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import Choice, Example
from hkdcli.errors import HkdError
from hkdcli.exporting.origin import Run
from hkdcli.opening import DataOptions, open_data
from hkdcli.reporter import SILENT, Reporter
from hkdcli.scenes.source import load_scenes

EXAMPLE = Example(
    id="example",
    task="hallucination",
    image="picture.png",
    question="Which of the following systems' outputs belong to hallucination?",
    choices=(
        Choice("A", "No hallucination"),
        Choice("B", "fresh vegetables"),
        Choice("C", "blue wire shelf"),
    ),
    caption="Fresh vegetables are arranged on a blue wire shelf.",
    caption_question="What type of shelf are the vegetables arranged on?",
)


def open_own_records(run: Run | None, count: int, reporter: Reporter) -> Dataset:
    """Open held-out records of a run, else of the embedded world.

    Args:
        run: whose test or dev split; null has none.
        count: how many are wanted.
        reporter: told where a split cannot be opened, as after its files have moved.

    Returns:
        A dataset with at least `count` records where it has as many.
    """
    for split in ("test", "dev") if run is not None else ():
        source = run.data.get(split) if run is not None else None
        try:
            if source is not None:
                return _open(source, count)
        except (HkdError, KeyError, TypeError, ValueError) as error:
            reporter.note(f"the run's {split} split cannot be opened: {error}")
    return load_scenes("test", size=count)


def _open(source: Mapping[str, Any], count: int) -> Dataset:
    if drawn := source.get("scenes"):
        return load_scenes(drawn["split"], size=count, seed=drawn["seed"], tasks=drawn["tasks"])
    images = source.get("images")
    options = DataOptions(
        source["file"],
        images=None if images is None else Path(images),
        encoding=source["encoding"],
        allow_outside_root=source["allow_outside_root"],
    )
    return open_data(options, SILENT)
