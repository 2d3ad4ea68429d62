"""The table of contents: one short function per command, each step a call into the layer that knows how.

Heavy packages are imported inside the functions, so that `hkd --help`, a bad recipe and `hkd evaluate`
never wait for torch. The `Recipe` stops here: everything below takes plain values.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hkdcli.errors import UsageError
from hkdcli.outcome import Outcome, Table
from hkdcli.reporter import Reporter, SilentReporter

if TYPE_CHECKING:
    from hkdcli.data.datasets import Dataset
    from hkdcli.evaluation.metrics import Metrics
    from hkdcli.recipe import Data, DataSource, Recipe
    from hkdcli.runs import Facts

SCENES = "scenes:"
SILENT = SilentReporter()


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
        What each level reached, beside the best constant answer.
    """
    from hkdcli.recipe_file import read_recipe
    from hkdcli.runs import open_run

    recipe = read_recipe(recipe_path, overrides)
    splits = open_splits(recipe.data, reporter)
    folder = out or Path("runs") / recipe.name
    with open_run(folder, build_facts(recipe, splits), resume=resume, overwrite=overwrite) as run:
        from hkdcli.distill.online import score_levels, train_levels

        levels = train_levels(recipe, splits, run, reporter)
        scores = score_levels(levels, splits.get("test"), run, reporter)
    return Outcome({"run": str(folder), "levels": scores}, tables=[_tabulate_levels(scores)])


def plan_distill_online(
    recipe_path: Path, overrides: Sequence[str] = (), *, reporter: Reporter = SILENT
) -> Outcome:
    """Check everything that `distill_online` needs, and train nothing.

    Args:
        recipe_path: The recipe.
        overrides: `key=value` changes to it.
        reporter: Told about warnings.

    Returns:
        The resolved recipe, the size of each split, and the device.
    """
    from hkdcli.recipe_file import read_recipe, render_recipe

    recipe = read_recipe(recipe_path, overrides)
    splits = open_splits(recipe.data, reporter)
    from hkdcli.runtime import choose_runtime

    runtime = choose_runtime(recipe.runtime.device, recipe.runtime.dtype).describe()
    counts = {
        name: {"records": len(split.examples), "bad": len(split.bad_rows)} for name, split in splits.items()
    }
    table = Table(
        "Data", ("split", "records", "bad"), [(n, *map(str, c.values())) for n, c in counts.items()]
    )
    document = {"recipe": recipe.model_dump(mode="json"), "data": counts, "runtime": runtime}
    return Outcome(document, tables=[table], text=f"{render_recipe(recipe)}\n{runtime}\n")


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
    dataset = open_data(data, reporter)
    out.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(out.with_name(f".{out.name}.lock")):
        from hkdcli.inference.predict import predict
        from hkdcli.inference.scoring import Scorer
        from hkdcli.models.loading import load_model
        from hkdcli.runtime import choose_runtime

        runtime = choose_runtime("auto", "auto")
        reporter.note(runtime.describe())
        loaded = load_model(
            find_model(model, options.level), base=options.base, device=runtime.device, dtype=runtime.dtype
        )
        summary = predict(
            dataset,
            Scorer(loaded),
            shifts=options.shifts,
            batch_size=options.batch_size,
            out=out,
            resume=resume,
            reporter=reporter,
        )
    return Outcome(
        summary.to_json(), tables=[_tabulate(str(out), summary.to_json())], failed_records=summary.failed
    )


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
    return Outcome(metrics.to_json(), tables=_tabulate_metrics(metrics))


def schema() -> Outcome:
    """Build the JSON Schema of a recipe.

    Returns:
        The schema as the document.
    """
    from hkdcli.recipe_file import build_schema

    return Outcome(build_schema())


# Steps


def open_data(options: DataOptions, reporter: Reporter = SILENT) -> Dataset:
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
        )
    for warning in dataset.warnings:
        reporter.warn(warning)
    return replace(dataset, examples=dataset.examples[: options.limit])


def open_splits(data: Data, reporter: Reporter = SILENT) -> dict[str, Dataset]:
    """Open and check every split of a recipe, before anything expensive starts.

    Args:
        data: The recipe's data block.
        reporter: Told about warnings.

    Returns:
        The splits by name: train, and dev and test where the recipe has them.
    """
    from hkdcli.data.datasets import check_dataset

    sources = {"train": data.train, "dev": data.dev, "test": data.test}
    splits = {name: _open_split(source, data) for name, source in sources.items() if source is not None}
    for name, split in splits.items():
        check_dataset(split, need_answers=True, check_images=True)
        for warning in split.warnings:
            reporter.warn(f"{name}: {warning}")
    return splits


def _open_split(source: DataSource, data: Data) -> Dataset:
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
        on_bad=data.on_bad,
        max_bad=data.max_bad,
        encoding=source.encoding,
        strict=data.strict,
    )


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


def find_model(model: str, level: str | None) -> str:
    """Find what to load: a level of a run folder, or the model itself.

    Args:
        model: A run folder, model folder, hub id or scenes:NAME.
        level: A level of the run; null is the distilled base.

    Returns:
        A model folder, hub id or scenes:NAME.

    Raises:
        UsageError: A level was asked of something that is no run, or the run has not got it.
    """
    folder = Path(model)
    if not (folder / "manifest.json").is_file():
        if level is not None:
            raise UsageError(f"{model}: is no run folder, so it has no level {level}")
        return model
    found = {path.parent.name.partition("-")[2]: path for path in sorted(folder.glob("levels/*/model"))}
    chosen = folder / "student" if level is None else found.get(level)
    if chosen is None:
        raise UsageError(
            f"{model}: has no level {level}", hint=f"There are: {', '.join(found) or 'none yet'}."
        )
    if not chosen.is_dir():
        raise UsageError(f"{model}: is not finished; it has no student yet", hint="Go on with --resume.")
    return str(chosen)


# Tables


def _tabulate(title: str, values: Mapping[str, Any]) -> Table:
    return Table(title, ("figure", "value"), [(name, _render(value)) for name, value in values.items()])


def _tabulate_metrics(metrics: Metrics) -> list[Table]:
    scores = {"all": metrics.metrics, **{name: task.metrics for name, task in metrics.tasks.items()}}
    names = list(dict.fromkeys(name for values in scores.values() for name in values))
    rows = [[name, *(_render(values.get(name)) for values in scores.values())] for name in names]
    classes = [
        [task, label, *(_render(values.get(name)) for name in ("precision", "recall", "f1", "support"))]
        for task, found in metrics.tasks.items()
        for label, values in found.per_class.items()
    ]
    return [
        Table("Scores", ("metric", *scores), rows),
        Table("Per class", ("task", "class", "precision", "recall", "f1", "support"), classes),
        _tabulate("Counts", metrics.counts),
    ]


def _tabulate_levels(scores: Sequence[Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for level in scores for name in level))
    return Table("Levels", names, [[_render(level.get(name)) for name in names] for level in scores])


def _render(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
