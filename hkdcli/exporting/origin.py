"""Where a model comes from, as far as can be told: the runs that made it, their data, base and licence."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkdcli.atomic import read_object
from hkdcli.errors import HkdError
from hkdcli.models.folders import SCENES, find_local_folder, is_adapter_folder
from hkdcli.safe_yaml import parse_yaml

SCENES_LICENCE = "apache-2.0"  # bundled models are part of this package
_LONGEST = 16  # runs and adapters in a row, lest they name each other in a circle
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")
_LICENCE = re.compile(r"[\w .:/()+-]{1,200}", re.ASCII)
_LICENCE_KEYS = ("license", "license_name", "license_link")


@dataclass(frozen=True, slots=True)
class Run:
    """One run on the way to a model: its manifest, the level in question, and its scores if it has any.

    Attributes:
        folder: the run folder.
        manifest: its manifest.json.
        level: the entry of the level in the recipe's pyramid.
        metrics: results.json of the level on the test split.
    """

    folder: Path
    manifest: Mapping[str, Any]
    level: Mapping[str, Any]
    metrics: Mapping[str, Any] | None

    @property
    def recipe(self) -> Mapping[str, Any]:
        """The resolved recipe."""
        found: Mapping[str, Any] = self.manifest["recipe"]
        return found

    @property
    def data(self) -> dict[str, Mapping[str, Any]]:
        """The recipe's data source of each split that it has."""
        data = self.recipe.get("data") or {}
        return {name: data[name] for name in ("train", "dev", "test") if isinstance(data.get(name), Mapping)}

    def list_scores(self) -> Iterator[tuple[str, str, float]]:
        """(task or "all", figure, value) on the test split, as far as the run has them."""
        metrics = self.metrics or {}
        tasks = metrics.get("tasks")
        for task, part in {"all": metrics, **(tasks if isinstance(tasks, Mapping) else {})}.items():
            figures = part.get("metrics") if isinstance(part, Mapping) else None
            for name, value in figures.items() if isinstance(figures, Mapping) else ():
                if isinstance(value, float | int) and not isinstance(value, bool):
                    yield str(task), str(name), float(value)

    @property
    def uppers(self) -> list[Mapping[str, Any]]:
        """Entries of the levels above, apex first."""
        pyramid: list[Mapping[str, Any]] = self.recipe["pyramid"]
        return pyramid[: pyramid.index(self.level)]


@dataclass(frozen=True, slots=True)
class Origin:
    """All that a model card tells of the past.

    Attributes:
        name: of the model.
        base: what the first run began from, as a person would name it: never a path of this machine.
        base_id: the base on the hub, without revision; null where it is not from there.
        licence: of the base, with the keys of a model card; empty where it is not known.
        runs: newest first; none for a model that no run made.
    """

    name: str
    base: str
    base_id: str | None
    licence: Mapping[str, str]
    runs: tuple[Run, ...]


def read_origin(model: str, level: str | None, base: str | None) -> Origin:
    """Read where a model comes from.

    Args:
        model: a run folder, model folder, hub id or scenes:NAME.
        level: a level of the run; null is the distilled base.
        base: where an adapter's base is, should it have moved.

    Returns:
        What is known; a damaged file tells nothing.
    """
    runs: list[Run] = []
    start, wanted = model, level
    for _ in range(_LONGEST):
        if (run := read_run(Path(start), wanted)) is not None:
            runs.append(run)
            start, wanted = str(run.level["model"]), run.level.get("level")
        elif (found := _read_base(start, base)) is not None:
            start, wanted = found, None
        else:
            break
    name = runs[0].recipe["name"] + (f"-{level}" if level else "") if runs else _show(model)
    folder = _find_folder(start)
    base_id = start.partition("@")[0] if folder is not None and _is_hub_id(start) else None
    return Origin(str(name), _show(start), base_id, _read_licence(start, folder), tuple(runs))


def read_run(folder: Path, level: str | None) -> Run | None:
    """Read what a run folder says of one of its levels.

    Args:
        folder: of a run.
        level: its name; null is the distilled base.

    Returns:
        The run; null where the folder is none or says nothing of that level.
    """
    manifest = _read_json(folder / "manifest.json")
    try:
        pyramid = manifest["recipe"]["pyramid"]
        entry = pyramid[-1] if level is None else next(each for each in pyramid if each["name"] == level)
        metrics = _read_json(folder / "eval" / "test" / entry["name"] / "results.json")
        known = isinstance(manifest["recipe"]["name"], str) and isinstance(entry["model"], str)
    except (KeyError, TypeError, LookupError, StopIteration):
        return None
    return Run(folder.resolve(), manifest, entry, metrics or None) if known else None


def name_data(source: Mapping[str, Any]) -> str:
    """A data source in a word; the name of a file with its ending is no data set of the hub by chance."""
    return "hkd-scenes" if source.get("scenes") else Path(str(source.get("file"))).name


def _read_base(model: str, base: str | None) -> str | None:
    """The base of an adapter folder, null of anything else."""
    folder = _find_folder(model)
    if folder is None or not is_adapter_folder(folder):
        return None
    return (
        base or str(_read_json(folder / "adapter_config.json").get("base_model_name_or_path") or "") or None
    )


def _find_folder(model: str) -> Path | None:
    """Where a model is on this machine, a cache of the hub included."""
    try:
        return find_local_folder(model)
    except HkdError:
        return None


def _show(model: str) -> str:
    """A name without the path of this machine."""
    return model if model.startswith(SCENES) or _is_hub_id(model) else Path(model).resolve().name


def _is_hub_id(model: str) -> bool:
    return not os.path.exists(model) and _HUB_ID.fullmatch(model) is not None


def _read_licence(model: str, folder: Path | None) -> dict[str, str]:
    if model.startswith(SCENES):
        return {"license": SCENES_LICENCE}
    if folder is None:
        return {}
    for told in (_read_front_matter(folder / "README.md"), _read_json(folder / "config.json")):
        values = {key: told[key] for key in _LICENCE_KEYS if key in told}
        plain = all(isinstance(value, str) and _LICENCE.fullmatch(value) for value in values.values())
        if plain and "license" in values:
            return values
    return {}


def _read_front_matter(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
        lead, block, _ = text.split("---\n", 2)
    except (OSError, ValueError):
        return {}
    value, _ = parse_yaml(block) if not lead.strip() else (None, [])
    return value if isinstance(value, dict) else {}


def _read_json(path: Path) -> dict[str, Any]:
    return read_object(path) or {}
