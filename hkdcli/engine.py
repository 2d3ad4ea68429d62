"""The table of contents: one short function per command, each step a call into the layer that knows how.

What predicts has files of its own: `predicting` (a file, a stream, several processes, shards, calibration)
and `picture` (one picture); so has what makes variants of records: `augmenting`; what scores predictions,
compares them and hands them in: `evaluating`, `comparing`, `submitting`; what shares records out:
`splitting`; and what is asked before hours are spent: `preparing`.

Heavy packages are imported inside the functions, so that `hkd --help`, a bad recipe and `hkd evaluate`
never wait for torch. The `Recipe` stops here: everything below takes plain values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hkdcli.augmenting import augment, augment_recipe
from hkdcli.comparing import compare
from hkdcli.errors import UsageError
from hkdcli.evaluating import EvaluateOptions, evaluate
from hkdcli.opening import DataOptions, open_data
from hkdcli.outcome import Outcome, Table
from hkdcli.picture import infer_picture
from hkdcli.predicting import calibrate, infer, infer_in_processes, infer_stream, merge_shards
from hkdcli.preparing import DoctorOptions, OwnData, diagnose, init, plan
from hkdcli.reporter import SILENT, Reporter
from hkdcli.scored_files import PredictionOptions
from hkdcli.splitting import split
from hkdcli.stages import check_stage, describe_run, open_shared_stage, open_stage
from hkdcli.submitting import check_submission, submit
from hkdcli.tables import tabulate

__all__ = [
    "SILENT",
    "DoctorOptions",
    "EvaluateOptions",
    "OwnData",
    "PredictionOptions",
    "augment",
    "augment_recipe",
    "calibrate",
    "check_submission",
    "compare",
    "diagnose",
    "distill_online",
    "distill_refine",
    "evaluate",
    "export",
    "infer",
    "infer_in_processes",
    "infer_picture",
    "infer_stream",
    "init",
    "merge_shards",
    "plan",
    "plan_distillation",
    "schema",
    "split",
    "store_signals",
    "submit",
]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What is exported: see `exporting.export.export_model`."""

    level: str | None = None
    base: str | None = None
    adapter: bool = False
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    check: int = 16


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
    from hkdcli.ranks import leave_ranks
    from hkdcli.recipe import Recipe

    with open_stage(
        recipe_path, Recipe, overrides, out=out, resume=resume, overwrite=overwrite, reporter=reporter
    ) as stage:
        from hkdcli.distill.online import train_levels
        from hkdcli.distill.scores import score_levels

        levels = train_levels(stage)
        return describe_run(stage.run, score_levels(stage, levels) if leave_ranks() else [])


def distill_refine(
    recipe_path: Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Refine a student by what upper models say together, and score it as it was before and as it is now.

    Args:
        recipe_path: The recipe.
        overrides: `key=value` changes to it.
        out: The run folder; null is runs/<name>.
        resume: Go on with the run that is there.
        overwrite: Replace the run that is there; stored signals that still fit stay.
        reporter: Told about progress.

    Returns:
        What each level reached, beside the best constant answer; of several processes the main one knows.
    """
    from hkdcli.ranks import leave_ranks
    from hkdcli.recipe_refine import RefineRecipe

    with open_stage(
        recipe_path, RefineRecipe, overrides, out=out, resume=resume, overwrite=overwrite, reporter=reporter
    ) as stage:
        from hkdcli.distill.refine import refine_student
        from hkdcli.distill.scores import score_levels

        levels = refine_student(stage)
        return describe_run(stage.run, score_levels(stage, levels) if leave_ranks() else [])


def store_signals(
    recipe_path: Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    shard: tuple[int, int] = (0, 1),
    reporter: Reporter = SILENT,
) -> Outcome:
    """Store what the upper models of a recipe of stage two say, as far as it is not stored yet.

    Args:
        recipe_path: The recipe.
        overrides: `key=value` changes to it.
        out: The run folder; null is runs/<name>.
        shard: (index, count): only this share of the records; others may be stored at the same time.
        reporter: Told about progress.

    Returns:
        For each upper model the folder, records and bytes.

    Raises:
        UsageError: The recipe asks its upper models live.
    """
    from hkdcli.recipe_refine import RefineRecipe

    stage = open_shared_stage(recipe_path, RefineRecipe, overrides, out=out, reporter=reporter)
    if stage.recipe.refine.signals == "live":
        raise UsageError(
            "this recipe stores no signals (refine.signals: live)", hint="Leave --only-signals out."
        )
    from hkdcli.distill.refine import store_signals

    rows = store_signals(stage, shard)
    table = Table("Signals", list(rows[0]), [list(map(str, row.values())) for row in rows])
    return Outcome({"signals": rows}, tables=[table])


def plan_distillation(
    command: str,
    recipe_path: Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Check everything that a distilling command needs, and train nothing.

    Args:
        command: distill-online or distill-refine.
        recipe_path: The recipe.
        overrides: `key=value` changes to it.
        out: The run folder; null is runs/<name>.
        reporter: Told about warnings.

    Returns:
        The resolved recipe, the size of each split, the levels, and the device.
    """
    from hkdcli.recipe_schema import STAGES

    return check_stage(recipe_path, STAGES[command], overrides, out=out, reporter=reporter)


def export(
    model: str,
    options: ExportOptions,
    *,
    out: Path,
    data: DataOptions | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Write a model as one folder that plain transformers loads, after seeing that it answers there as here.

    Args:
        model: A run folder, model folder, hub id or scenes:NAME.
        options: What is exported, and how it is checked.
        out: The folder to write.
        data: Records for the check; null takes the run's own, or drawn scenes.
        overwrite: Replace an earlier export.
        reporter: Told about progress.

    Returns:
        What was written, and how far the exported model is from its source.
    """
    from hkdcli.exporting.export import export_model

    summary = export_model(
        model,
        out=out,
        level=options.level,
        base=options.base,
        adapter=options.adapter,
        dtype=options.dtype,
        data=open_data(data, reporter) if data else None,
        check=options.check,
        overwrite=overwrite,
        reporter=reporter,
    ).to_json()
    return Outcome(summary, tables=[tabulate(str(out), summary)])


def schema(kind: str) -> Outcome:
    """Build the JSON Schema of a recipe, or of a file that is written.

    Args:
        kind: distill-online, distill-refine or augment; results, comparison or diagnosis.

    Returns:
        The schema as the document.
    """
    from hkdcli.recipe_schema import KINDS, build_schema

    if kind == "results":
        from hkdcli.evaluation.results import Results

        return Outcome(build_schema(Results))
    if kind == "comparison":
        from hkdcli.evaluation.comparison import Comparison

        return Outcome(build_schema(Comparison))
    if kind == "diagnosis":
        from hkdcli.doctor.checks import Diagnosis

        return Outcome(build_schema(Diagnosis))
    return Outcome(build_schema(KINDS[kind]))
