"""A recipe of either stage, or of augmentation: what it says, its records, its models, its device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from hkdcli.data.datasets import Dataset, ImageScan
from hkdcli.distill.preflight import check_augment, check_pyramid
from hkdcli.doctor.data import check_leak, examine_records
from hkdcli.doctor.examination import Examination, Finding
from hkdcli.doctor.gpu import explain_no_gpu
from hkdcli.doctor.machine import check_folder
from hkdcli.doctor.model import Plan, examine_model
from hkdcli.errors import SetupError
from hkdcli.opening import Care, ModelSource, open_pyramid, open_source
from hkdcli.recipe import RunRecipe
from hkdcli.recipe_augment import AugmentRecipe
from hkdcli.recipe_blocks import DataSource
from hkdcli.recipe_file import read_recipe
from hkdcli.recipe_schema import KINDS
from hkdcli.runtime import Runtime, choose_runtime
from hkdcli.safe_yaml import parse_yaml


@dataclass(frozen=True, slots=True)
class _Keeping:
    """Every record that can be read is looked at, whatever the recipe does about the others."""

    strict: bool
    on_bad: Literal["keep"] = "keep"
    max_bad: float = 1.0


def examine_recipe(examination: Examination, path: Path, overrides: Sequence[str] = ()) -> None:
    """Check a recipe and everything that it names.

    Args:
        examination: Told what was found.
        path: The file.
        overrides: `key=value` changes to it.
    """
    recipe = examination.look("recipe.resolves", _resolve, path, overrides)
    if isinstance(recipe, AugmentRecipe):
        _examine_splits(examination, {"data": recipe.data}, recipe, needs_gold=False)
        examination.look("recipe.augment", _check_augment, recipe)
    elif recipe is not None:
        _examine_run(examination, recipe)


def tell_command(path: Path) -> str:
    """Tell which command a recipe is of, by its blocks.

    Args:
        path: The file.

    Returns:
        A key of `KINDS`; distill-online where nothing tells.
    """
    try:
        tree, _ = parse_yaml(path.read_text("utf-8-sig"))
    except (OSError, ValueError):
        return "distill-online"  # whose reader says what is wrong with the file
    blocks = tree if isinstance(tree, dict) else {}
    if "refine" in blocks:
        return "distill-refine"
    return (
        "augment"
        if blocks and not {"pyramid", "distill", "train", "name"} & blocks.keys()
        else "distill-online"
    )


def _resolve(path: Path, overrides: Sequence[str]) -> Finding:
    command = tell_command(path)
    recipe = read_recipe(path, KINDS[command], overrides)
    return Finding(f"a recipe of hkd {command}, every field as it should be", value=recipe)


def _examine_run(examination: Examination, recipe: RunRecipe) -> None:
    data = recipe.data
    sources = {"train": data.train, "dev": data.dev, "test": data.test}
    named = {f"data.{name}": source for name, source in sources.items() if source is not None}
    _examine_splits(examination, named, data, needs_gold=True)
    examination.look("recipe.augment", _check_augment, recipe)
    runtime = examination.look("recipe.device", _check_device, recipe)
    examination.look("recipe.output", _check_output, Path("runs") / recipe.name)
    before = len(examination.checks)
    for place, level in enumerate(recipe.pyramid):
        source = examination.look(f"model.{level.name}.source", _find_level, recipe, place)
        if source is not None:
            plan = Plan(source, runtime or choose_runtime("cpu"))
            examine_model(examination, plan, f"model.{level.name}")
    if any(check.status == "failed" and not check.is_absent for check in examination.checks[before:]):
        examination.skip(["recipe.pyramid"], "a level is refused, so the levels were not compared")
    else:
        examination.look("recipe.pyramid", _check_pyramid, recipe)


def _examine_splits(
    examination: Examination, sources: Mapping[str, DataSource], care: Care, *, needs_gold: bool
) -> None:
    """Each split by itself, then what the later ones share with those before them."""
    max_bad = care.max_bad if care.on_bad == "skip" else 0.0
    seen: dict[str, tuple[Dataset, ImageScan | None]] = {}
    for name, source in sources.items():
        dataset = examination.look(f"{name}.source", _open, source, care.strict)
        if dataset is None:
            continue
        scan = examine_records(examination, dataset, name, needs_gold=needs_gold, max_bad=max_bad)
        for other, (known, known_scan) in seen.items():
            before = other.removeprefix("data.")
            examination.look(f"{name}.leak.{before}", check_leak, known, known_scan, dataset, scan)
        seen[name] = dataset, scan


def _open(source: DataSource, strict: bool) -> Finding:
    dataset = open_source(source, _Keeping(strict))
    return Finding(f"{dataset.name}: {len(dataset.examples)} records", value=dataset)


def _check_augment(recipe: Any) -> Finding:
    check_augment(recipe)
    return Finding("no variants" if recipe.augment is None else f"variants by policy {recipe.augment.policy}")


def _check_device(recipe: RunRecipe) -> Finding:
    try:
        chosen: Runtime = choose_runtime(recipe.runtime.device, recipe.runtime.dtype)
    except SetupError as error:
        why = explain_no_gpu()
        return Finding(f"{error.message}: {why.found}", "failed", why.hint or error.hint or "")
    return Finding(chosen.describe(), value=chosen)


def _check_output(folder: Path) -> Finding:
    """Where the run would go; what is there already is no fault, but an option is needed."""
    finding = check_folder(folder, "Give another --out, or work in a folder that can be written.")
    if finding.status == "ok" and (folder / "manifest.json").is_file():
        return replace(finding, found=f"{finding.found}; holds a run, which takes --resume or --overwrite")
    return finding


def _find_level(recipe: RunRecipe, place: int) -> Finding:
    """One level by itself, so that another one that is not there hides nothing."""
    level = recipe.pyramid[place]
    (found,) = open_pyramid(recipe.model_copy(update={"pyramid": (level,)})).pyramid
    source = ModelSource(found.model, found.adapter, found.quantization, found.quantized_parts)
    said = f"level {level.level} of {level.model}" if level.level else level.model
    return Finding(said + (f" with {level.adapter}" if level.adapter else ""), value=source)


def _check_pyramid(recipe: RunRecipe) -> Finding:
    rows = check_pyramid(open_pyramid(recipe))
    said = [f"{row['level']} learns from {row['taught by']}" for row in rows if row["taught by"] != "-"]
    return Finding("the levels can be compared as the recipe wants: " + "; ".join(said))
