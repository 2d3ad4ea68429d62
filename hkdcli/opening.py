"""What a user names on the command line or in a recipe -> usable records, loadable models."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from hkdcli.atomic import read_object
from hkdcli.errors import UsageError
from hkdcli.reporter import Reporter

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset
    from hkdcli.data.images import ImageSource
    from hkdcli.recipe import Level, RunRecipe
    from hkdcli.recipe_blocks import Data, DataSource, Quantization, QuantizedParts

SCENES = "scenes:"

R = TypeVar("R", bound="RunRecipe")


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Where records come from: a file, or `scenes:SPLIT`; as `hkd infer` takes them."""

    source: str
    images: Path | None = None
    on_bad: Literal["error", "skip", "keep"] = "keep"
    limit: int | None = None
    encoding: str = "utf-8"
    strict: bool = False
    allow_outside_root: bool = False
    facts: Path | None = None


@dataclass(frozen=True, slots=True)
class ModelSource:
    """What to hand to the model loader: a folder, hub id or scenes:NAME, and what belongs on it."""

    model: str
    adapter: str | None = None
    quantization: Quantization = "none"
    quantized_parts: QuantizedParts = "language"


def open_data(options: DataOptions, reporter: Reporter) -> Dataset:
    """Open records for inference or evaluation.

    Args:
        options: Where they come from.
        reporter: Told about warnings.

    Returns:
        The records and the source of their images.
    """
    if options.source.startswith(SCENES):
        from hkdcli.scenes.source import load_scenes

        dataset = load_scenes(options.source.removeprefix(SCENES))
    else:
        from hkdcli.data.datasets import load_dataset
        from hkdcli.data.images import ImagePolicy

        dataset = load_dataset(
            options.source,
            images=options.images,
            policy=ImagePolicy(allow_outside_root=options.allow_outside_root),
            on_bad=options.on_bad,
            encoding=options.encoding,
            strict=options.strict,
            facts=options.facts,
        )
    for warning in dataset.warnings:
        reporter.warn(warning)
    if options.limit is None:
        return dataset
    examples = dataset.examples[: options.limit]
    # Unreadable records have no place in the order: they count only where the readable ones are too few.
    return replace(dataset, examples=examples, bad_rows=dataset.bad_rows[: options.limit - len(examples)])


def open_images(options: DataOptions) -> ImageSource:
    """Open the folder of the images of records that come from elsewhere; by default the current one."""
    from hkdcli.data.images import ImageFolder, ImagePolicy

    policy = ImagePolicy(allow_outside_root=options.allow_outside_root)
    return ImageFolder(options.images or Path(), policy)


def open_splits(data: Data, reporter: Reporter) -> dict[str, Dataset]:
    """Open and check every split of a recipe, before anything expensive starts.

    Args:
        data: The recipe's data block.
        reporter: Told about warnings.

    Returns:
        The splits by name: train, and dev and test where the recipe has them.
    """
    from hkdcli.data.datasets import check_dataset, skip_bad_images

    sources = {"train": data.train, "dev": data.dev, "test": data.test}
    splits = {name: open_source(source, data) for name, source in sources.items() if source is not None}
    for name, split in splits.items():
        if data.on_bad == "skip":
            splits[name] = skip_bad_images(split, max_bad=data.max_bad)
        check_dataset(splits[name], need_answers=True, check_images=data.on_bad == "error")
    for name, split in splits.items():
        for warning in split.warnings:
            reporter.warn(f"{name}: {warning}")
    return splits


class Care(Protocol):
    """What a recipe says of bad rows: see `load_dataset`."""

    @property
    def on_bad(self) -> Literal["error", "skip", "keep"]: ...  # noqa: D102

    @property
    def max_bad(self) -> float: ...  # noqa: D102

    @property
    def strict(self) -> bool: ...  # noqa: D102


def open_source(source: DataSource, care: Care) -> Dataset:
    """Open what a recipe names as the source of records; none of its images is opened yet.

    Args:
        source: Scenes, or a file.
        care: What to do about bad rows.

    Returns:
        The records and the source of their images.
    """
    if source.scenes is not None:
        from hkdcli.scenes.source import load_scenes

        drawn = source.scenes
        return load_scenes(drawn.split, size=drawn.size, seed=drawn.seed, tasks=drawn.tasks)
    from hkdcli.data.datasets import load_dataset
    from hkdcli.data.images import ImagePolicy

    return load_dataset(
        source.file or "",
        images=None if source.images is None else Path(source.images),
        policy=ImagePolicy(allow_outside_root=source.allow_outside_root),
        on_bad=care.on_bad,
        max_bad=care.max_bad,
        encoding=source.encoding,
        strict=care.strict,
        facts=None if source.facts is None else Path(source.facts),
    )


def find_model(
    model: str, level: str | None, *, download: bool = True, seen: frozenset[Path] = frozenset()
) -> ModelSource:
    """Find what to load: a level of a run, or the model itself.

    Args:
        model: A run folder, model folder, hub id or scenes:NAME.
        level: A level of the run; null is the distilled base.
        download: Whether a model of the hub is fetched, should it not be here.
        seen: Runs that led here, each naming the next.

    Returns:
        What to load; where a model is fetched, `find_model_folder` says what is refused.

    Raises:
        UsageError: A level was asked of something that is no run, the run has no such level, or has not
            come so far, its manifest is damaged, or runs name each other in a circle.
    """
    folder = Path(model)
    if not os.path.isfile(folder / "manifest.json"):  # False too for a name that no file can have
        if level is not None:
            raise UsageError(
                f"{model}: is no run folder, so it has no level {level}",
                hint="Leave --level out, or name a run folder.",
            )
        return ModelSource(model, **_read_held(_find_folder(model, download)))
    pyramid = _read_pyramid(folder)
    names = [entry["name"] for entry in pyramid]
    if level is not None and level not in names:
        raise UsageError(f"{model}: has no level {level}", hint=f"There are: {', '.join(names)}.")
    if folder.resolve() in seen:
        raise UsageError(
            f"{model}: the level {level} is said to be in a run that says it is in this one",
            hint="Name the folder that holds its weights.",
        )
    place = len(names) - 1 if level is None else names.index(level)
    is_base = place == len(names) - 1
    return _find_level(folder, place, pyramid[place], is_base=is_base, seen=seen | {folder.resolve()})


def _read_pyramid(folder: Path) -> list[dict[str, Any]]:
    """The levels of a run, apex first, as its manifest has them."""
    recipe = (read_object(folder / "manifest.json") or {}).get("recipe")
    pyramid = recipe.get("pyramid") if isinstance(recipe, dict) else None
    if not isinstance(pyramid, list) or not pyramid or not all(map(_is_level, pyramid)):
        raise UsageError(
            f"{folder / 'manifest.json'}: is no manifest of a run, so its levels are not known",
            hint=f"Put the file back, or name a level's own folder, as {folder / 'student'}.",
        )
    return pyramid


def _is_level(entry: Any) -> bool:
    """Whether an entry of a pyramid has a name, and says nothing that is no text where a text belongs."""
    if not isinstance(entry, dict):
        return False
    model = entry.get("model", None if _comes_ready(entry) else "")
    texts = (entry.get("name"), model, entry.get("adapter") or "", entry.get("level") or "")
    return all(isinstance(text, str) for text in texts) and bool(re.fullmatch(r"[\w.-]{1,64}", entry["name"]))


def _comes_ready(entry: Mapping[str, Any]) -> bool:
    """Whether a level was not trained by its run."""
    return entry.get("train", {}) is None


def _find_folder(model: str, download: bool) -> Path:
    """Where a model is, or would be; one of the hub has to be here, for it may say how it is held."""
    from hkdcli.models.folders import find_local_folder, find_model_folder
    from hkdcli.models.hub import is_hub_id

    if not is_hub_id(model):
        return Path(model)
    return find_model_folder(model) if download else find_local_folder(model) or Path(model)


def _read_held(folder: Path) -> dict[str, Any]:
    """How an exported adapter wants its base to be held; nothing where the folder is something else."""
    return _take_held(read_object(folder / "base.json") or {})


def _take_held(said: Mapping[str, Any]) -> dict[str, Any]:
    known = {"quantization": ("none", "int8", "nf4"), "quantized_parts": ("language", "all")}
    return {name: said[name] for name, values in known.items() if said.get(name) in values}


def open_pyramid(recipe: R) -> R:
    """Find the levels of a recipe that are levels of other runs.

    Args:
        recipe: Of either stage.

    Returns:
        The same recipe with the folder of the level where it named the run; `find_model` says what is
        refused.
    """
    return recipe.model_copy(update={"pyramid": tuple(map(_open_level, recipe.pyramid))})


def _open_level(level: Level) -> Level:
    if level.level is None and not os.path.isfile(Path(level.model) / "manifest.json"):
        return level
    found = find_model(level.model, level.level)
    if found.adapter is not None and level.adapter is not None:
        raise UsageError(
            f"{level.name}: that level of {level.model} has an adapter already",
            hint="Leave adapter out: the level brings its own.",
        )
    return level.model_copy(
        update={"model": found.model, "adapter": level.adapter or found.adapter, "level": None}
    )


def _find_level(
    folder: Path, place: int, entry: dict[str, Any], *, is_base: bool, seen: frozenset[Path]
) -> ModelSource:
    """A trained level is in the run folder; one that came ready, and stayed so, where the recipe says."""
    own = folder / "levels" / f"{place}-{entry['name']}"
    held = _take_held(entry)
    for candidate in (folder / "student",) if is_base else (own / "mutual", own / "model", own / "adapter"):
        if candidate.is_dir():
            return ModelSource(str(candidate), **held)
    if _comes_ready(entry) and entry.get("level") is not None:
        return replace(find_model(entry["model"], entry["level"], seen=seen), **held)
    if _comes_ready(entry):
        return ModelSource(entry["model"], entry.get("adapter"), **held)
    raise UsageError(f"{folder}: level {entry['name']} is not trained yet", hint="Go on with --resume.")
