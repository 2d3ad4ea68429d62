"""What both distilling commands do before anything is trained: recipe, data, run folder, device, checks."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hkdcli.atomic import check_writable
from hkdcli.errors import UsageError
from hkdcli.opening import open_pyramid, open_splits
from hkdcli.outcome import Outcome, Table
from hkdcli.reporter import Reporter
from hkdcli.tables import tabulate_levels

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset
    from hkdcli.distill.levels import Stage
    from hkdcli.recipe import Level, RunRecipe
    from hkdcli.runs import Facts, RunFolder

R = TypeVar("R", bound="RunRecipe")


@contextmanager
def open_stage(
    recipe_path: Path,
    kind: type[R],
    overrides: Sequence[str],
    *,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    reporter: Reporter,
) -> Iterator[Stage[R]]:
    """Open everything that a run needs, and hold its folder, in each of the processes that share it.

    Args:
        recipe_path: The recipe.
        kind: What it is a recipe of.
        overrides: `key=value` changes to it.
        out: The run folder; null is runs/<name>.
        resume: Go on with the run that is there.
        overwrite: Replace the run that is there.
        reporter: Told about progress.

    Yields:
        Stage[R]: While the run folder is held.
    """
    from hkdcli.ranks import join_ranks
    from hkdcli.recipe_file import read_recipe
    from hkdcli.runs import RunFolder, open_run

    with join_ranks():
        from hkdcli.distill.preflight import list_models
        from hkdcli.models.hub import list_commits

        recipe = read_recipe(recipe_path, kind, overrides)
        splits = open_splits(recipe.data, reporter)
        folder = out or Path("runs") / recipe.name
        check_writable(folder)
        if resume:
            _hold_commits(folder)
        found = open_pyramid(recipe)
        if overwrite:
            _check_spares_levels([*recipe.pyramid, *found.pyramid], folder)
        # What is refused is refused before the folder is claimed; --overwrite drops signals of its own.
        stage = _build_stage(found, splits, RunFolder(folder, resumed=resume), reporter)
        if not overwrite:
            _check_stores(stage)
        facts = build_facts(recipe, splits, list_commits(list_models(found)))
        with open_run(folder, facts, resume=resume, overwrite=overwrite) as run:
            yield replace(stage, run=run)


def open_shared_stage(
    recipe_path: Path, kind: type[R], overrides: Sequence[str], *, out: Path | None, reporter: Reporter
) -> Stage[R]:
    """Open everything that a run needs but its folder, which other processes may hold.

    Args:
        recipe_path: The recipe.
        kind: What it is a recipe of.
        overrides: `key=value` changes to it.
        out: The run folder; null is runs/<name>.
        reporter: Told about progress.

    Returns:
        The stage; nothing is written.
    """
    from hkdcli.recipe_file import read_recipe
    from hkdcli.runs import RunFolder

    recipe = read_recipe(recipe_path, kind, overrides)
    splits = open_splits(recipe.data, reporter)
    run = RunFolder(out or Path("runs") / recipe.name, resumed=False)
    return _build_stage(open_pyramid(recipe), splits, run, reporter)


def check_stage(
    recipe_path: Path, kind: type[R], overrides: Sequence[str], *, out: Path | None, reporter: Reporter
) -> Outcome:
    """Check everything that a run needs, and train nothing.

    Args:
        recipe_path: The recipe.
        kind: What it is a recipe of.
        overrides: `key=value` changes to it.
        out: The run folder; null is runs/<name>.
        reporter: Told about warnings.

    Returns:
        The resolved recipe, the size of each split, the levels, and the device.
    """
    from hkdcli.recipe_file import read_recipe, render_recipe

    recipe = read_recipe(recipe_path, kind, overrides)
    splits = open_splits(recipe.data, reporter)
    from hkdcli.distill.levels import Stage
    from hkdcli.distill.preflight import check_augment, check_devices, check_pyramid, fetch_pyramid
    from hkdcli.models.hub import is_offline
    from hkdcli.runs import RunFolder
    from hkdcli.runtime import choose_runtime

    check_augment(recipe)
    found, run = open_pyramid(recipe), RunFolder(out or Path("runs") / recipe.name, resumed=False)
    check_writable(run.path)
    chosen = choose_runtime(recipe.runtime.device, recipe.runtime.dtype)
    check_devices(found, chosen.device)
    levels = check_pyramid(found)
    if is_offline():
        fetch_pyramid(found)  # nothing is, but what is missing is said
    _check_stores(Stage(found, splits, run, chosen, reporter))
    runtime = chosen.describe()
    counts = {name: _count(split) for name, split in splits.items()}
    rows = [(name, *map(str, count.values())) for name, count in counts.items()]
    data = Table("Data", ("split", "records", "images", "left out"), rows)
    pyramid = Table("Pyramid", list(levels[0]), [list(level.values()) for level in levels])
    document = {
        "recipe": recipe.model_dump(mode="json"),
        "data": counts,
        "pyramid": levels,
        "runtime": runtime,
    }
    return Outcome(document, tables=[data, pyramid], text=f"{render_recipe(recipe)}\n{runtime}\n")


def describe_run(run: RunFolder, scores: Sequence[Mapping[str, Any]]) -> Outcome:
    """What a finished run came to."""
    document = {"run": str(run.path), "student": str(run.student), "scores": list(scores)}
    tables = [tabulate_levels(scores)] if scores else []
    return Outcome(document, tables=tables, text=f"student: {run.student}")


def build_facts(recipe: RunRecipe, splits: Mapping[str, Dataset], commits: Mapping[str, str]) -> Facts:
    """Gather what a run depends on, so that a resume with anything else is refused.

    Args:
        recipe: The resolved recipe.
        splits: Its data.
        commits: What each hub id of it stands for.

    Returns:
        The facts, as the run's manifest keeps them.
    """
    from hkdcli.data.datasets import hash_examples, hash_facts
    from hkdcli.recipe_file import render_recipe
    from hkdcli.runs import Facts

    data = {name: hash_examples(split.examples) for name, split in splits.items()}
    if recipe.augment is not None:  # words are swapped by them
        data["facts"] = hash_facts(splits["train"])
    return Facts(
        recipe=recipe.model_dump(mode="json"),
        recipe_text=render_recipe(recipe),
        data=data,
        models=commits,
        command=shlex.join(["hkd", *sys.argv[1:]]),
    )


def _build_stage(recipe: R, splits: dict[str, Dataset], run: RunFolder, reporter: Reporter) -> Stage[R]:
    from hkdcli.distill.levels import Stage
    from hkdcli.distill.preflight import check_augment, check_devices, check_pyramid, fetch_pyramid
    from hkdcli.runtime import choose_runtime

    runtime = choose_runtime(recipe.runtime.device, recipe.runtime.dtype)
    reporter.note(runtime.describe())
    check_augment(recipe)
    check_devices(recipe, runtime.device)
    check_pyramid(recipe)  # of all levels, before the first of them takes its hours
    if fetch_pyramid(recipe):
        check_pyramid(recipe)
    return Stage(recipe, splits, run, runtime, reporter)


def _hold_commits(folder: Path) -> None:
    """Let hub ids stand for the commits that a run was begun with, whatever the hub has now."""
    from hkdcli.models.hub import hold_commits
    from hkdcli.runs import read_manifest

    models = (read_manifest(folder) or {}).get("models")
    if isinstance(models, dict):
        hold_commits({str(name): str(commit) for name, commit in models.items()})


def _check_stores(stage: Stage[Any]) -> None:
    """Refuse stored signals that are not those a recipe of stage two asks for."""
    from hkdcli.recipe_refine import RefineRecipe

    if isinstance(stage.recipe, RefineRecipe):
        from hkdcli.distill.asking import check_stores

        check_stores(stage)


def _check_spares_levels(levels: Sequence[Level], folder: Path) -> None:
    """Refuse to overwrite the run that a level comes from, named by the recipe or by a run that it names."""
    for level in levels:
        for name in (level.model, level.adapter or ""):
            if name and Path(name).exists() and folder.resolve() in (Path(name) / "x").resolve().parents:
                raise UsageError(
                    f"{folder}: --overwrite would remove {name}, which level {level.name} needs",
                    hint="Give another --out, or move that folder away first.",
                )


def _count(split: Dataset) -> dict[str, int]:
    images = len({example.image for example in split.examples})
    return {"records": len(split.examples), "images": images, "left_out": len(split.bad_rows)}
