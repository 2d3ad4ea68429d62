"""The table of contents: one short function per command, each step a call into the layer that knows how.

Heavy packages are imported inside the functions, so that `hkd --help`, a bad recipe and `hkd evaluate`
never wait for torch. The `Recipe` stops here: everything below takes plain values.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hkdcli.errors import UsageError
from hkdcli.opening import DataOptions, ModelSource, find_model, open_data, open_splits
from hkdcli.outcome import Outcome, Table
from hkdcli.reporter import Reporter, SilentReporter
from hkdcli.tables import tabulate, tabulate_levels, tabulate_metrics

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset
    from hkdcli.inference.scoring import Scorer
    from hkdcli.recipe import Recipe
    from hkdcli.runs import Facts

SILENT = SilentReporter()


@dataclass(frozen=True, slots=True)
class InferOptions:
    """How to predict; `shifts` None is every cyclic shift, `level` None the base of the pyramid.

    `base` says where an adapter's base model is, should it have moved.
    """

    level: str | None = None
    base: str | None = None
    shifts: int | None = 1
    batch_size: int = 8


def distill_online(
    recipe_path: Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Train the levels of a pyramid top-down, each taught by those above, and score them all.

    Args:
        recipe_path: The recipe.
        overrides: `key=value` changes to it.
        out: The run folder; null is runs/<name>.
        resume: Go on with the run that is there.
        overwrite: Replace the run that is there.
        reporter: Told about progress.

    Returns:
        What each level reached, beside the best constant answer; of several processes the main one knows.
    """
    from hkdcli.ranks import join_ranks, leave_ranks
    from hkdcli.recipe_file import read_recipe
    from hkdcli.runs import open_run

    with ExitStack() as stack:
        stack.enter_context(join_ranks())
        recipe = read_recipe(recipe_path, overrides)
        splits = open_splits(recipe.data, reporter)
        folder, facts = out or Path("runs") / recipe.name, build_facts(recipe, splits)
        if overwrite:
            _check_spares_levels(recipe, folder)
        run = stack.enter_context(open_run(folder, facts, resume=resume, overwrite=overwrite))
        from hkdcli.distill.levels import Stage
        from hkdcli.distill.online import train_levels
        from hkdcli.distill.preflight import check_pyramid
        from hkdcli.distill.scores import score_levels
        from hkdcli.runtime import choose_runtime

        runtime = choose_runtime(recipe.runtime.device, recipe.runtime.dtype)
        reporter.note(runtime.describe())
        check_pyramid(recipe)  # of all levels, before the first of them takes its hours
        stage = Stage(recipe, splits, run, runtime, reporter)
        levels = train_levels(stage)
        scores = score_levels(stage, levels) if leave_ranks() else []
    document = {"run": str(folder), "student": str(run.student), "scores": scores}
    return Outcome(
        document, tables=[tabulate_levels(scores)] if scores else [], text=f"student: {run.student}"
    )


def plan_distill_online(
    recipe_path: Path, overrides: Sequence[str] = (), *, reporter: Reporter = SILENT
) -> Outcome:
    """Check everything that `distill_online` needs, and train nothing.

    Args:
        recipe_path: The recipe.
        overrides: `key=value` changes to it.
        reporter: Told about warnings.

    Returns:
        The resolved recipe, the size of each split, the levels, and the device.
    """
    from hkdcli.recipe_file import read_recipe, render_recipe

    recipe = read_recipe(recipe_path, overrides)
    splits = open_splits(recipe.data, reporter)
    from hkdcli.distill.preflight import check_pyramid
    from hkdcli.runtime import choose_runtime

    levels = check_pyramid(recipe)
    runtime = choose_runtime(recipe.runtime.device, recipe.runtime.dtype).describe()
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


def infer(
    model: str,
    data: DataOptions,
    options: InferOptions,
    *,
    out: Path,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Predict an answer for every record and write one row for each.

    Args:
        model: A run folder, model folder, hub id or scenes:NAME.
        data: The records.
        options: How to predict.
        out: The file to write.
        resume: Go on with the file that is there.
        overwrite: Replace the file that is there.
        reporter: Told about progress.

    Returns:
        Counts of what was written.
    """
    from hkdcli.locks import hold_lock
    from hkdcli.runs import check_output

    check_output(out, resume=resume, overwrite=overwrite)
    source = find_model(model, options.level)
    dataset = open_data(data, reporter)
    out.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(out.with_name(f".{out.name}.lock")):
        from hkdcli.inference.predict import predict

        scorer = _load_scorer(source, options, reporter)
        if overwrite:
            out.unlink(missing_ok=True)
        summary = predict(
            dataset,
            scorer,
            shifts=options.shifts,
            batch_size=options.batch_size,
            out=out,
            resume=resume,
            reporter=reporter,
        )
    counts = summary.to_json()
    return Outcome(counts, tables=[tabulate(str(out), counts)], failed_records=summary.failed)


def evaluate(
    predictions: Path, data: DataOptions, *, out: Path | None = None, reporter: Reporter = SILENT
) -> Outcome:
    """Score predictions against the answers in the data.

    Args:
        predictions: The file that `infer` wrote.
        data: The records with their answers.
        out: Where to write the metrics as JSON; null writes nothing.
        reporter: Told about warnings.

    Returns:
        The metrics.
    """
    from hkdcli.atomic import write_json
    from hkdcli.evaluation.metrics import evaluate_predictions
    from hkdcli.evaluation.predictions import read_predictions

    rows = read_predictions(predictions)
    metrics = evaluate_predictions(rows, open_data(data, reporter).examples)
    for warning in metrics.warnings:
        reporter.warn(warning)
    if out is not None:
        write_json(out, metrics.to_json())
    return Outcome(metrics.to_json(), tables=tabulate_metrics(metrics))


def schema() -> Outcome:
    """Build the JSON Schema of a recipe.

    Returns:
        The schema as the document.
    """
    from hkdcli.recipe_file import build_schema

    return Outcome(build_schema())


# Steps


def _check_spares_levels(recipe: Recipe, folder: Path) -> None:
    """Refuse to overwrite the run that a level of the recipe comes from."""
    for level in recipe.pyramid:
        for name in (level.model, level.adapter or ""):
            if name and Path(name).exists() and folder.resolve() in (Path(name) / "x").resolve().parents:
                raise UsageError(
                    f"{folder}: --overwrite would remove {name}, which level {level.name} needs",
                    hint="Give another --out, or move that folder away first.",
                )


def _load_scorer(source: ModelSource, options: InferOptions, reporter: Reporter) -> Scorer:
    from hkdcli.inference.scoring import Scorer
    from hkdcli.models.loading import load_model
    from hkdcli.runtime import choose_runtime

    runtime = choose_runtime("auto", "auto")
    reporter.note(runtime.describe())
    return Scorer(
        load_model(
            source.model,
            adapter=source.adapter,
            base=options.base,
            quantization=source.quantization,
            quantized_parts=source.quantized_parts,
            device=runtime.device,
            dtype=runtime.dtype,
        )
    )


def _count(split: Dataset) -> dict[str, int]:
    images = len({example.image for example in split.examples})
    return {"records": len(split.examples), "images": images, "left_out": len(split.bad_rows)}


def build_facts(recipe: Recipe, splits: Mapping[str, Dataset]) -> Facts:
    """Gather what a run depends on, so that a resume with anything else is refused.

    Args:
        recipe: The resolved recipe.
        splits: Its data.

    Returns:
        The facts, as the run's manifest keeps them.
    """
    from hkdcli.data.datasets import hash_examples
    from hkdcli.recipe_file import render_recipe
    from hkdcli.runs import Facts

    return Facts(
        recipe=recipe.model_dump(mode="json"),
        recipe_text=render_recipe(recipe),
        data={name: hash_examples(split.examples) for name, split in splits.items()},
        command=shlex.join(["hkd", *sys.argv[1:]]),
    )


def choose_shifts(every: bool, count: int | None) -> int | None:
    """Say how many shifts `--shift` and `--shifts K` ask for.

    Args:
        every: `--shift` was given.
        count: K of `--shifts K`.

    Returns:
        The number of shifts, null for all of them.

    Raises:
        UsageError: Both were given.
    """
    if every and count is not None:
        raise UsageError(
            "--shift and --shifts exclude each other", hint="--shift uses every shift, --shifts K uses K."
        )
    return None if every else count or 1
