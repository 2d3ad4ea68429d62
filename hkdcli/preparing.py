"""What is asked before hours are spent: `hkd init`, `hkd plan` and `hkd doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hkdcli.doctor.options import DoctorOptions
from hkdcli.outcome import Outcome
from hkdcli.planning.own_data import OwnData
from hkdcli.reporter import SILENT, Reporter
from hkdcli.tables import tabulate_checks

__all__ = ["DoctorOptions", "OwnData", "diagnose", "init", "plan"]


def plan(
    recipe_path: Path,
    overrides: Sequence[str] = (),
    *,
    out: Path | None = None,
    gpu_gb: float | None = None,
    memory_gib: float | None = None,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Say whether a recipe of either stage fits on a machine, without reading or downloading a weight.

    Args:
        recipe_path: The recipe.
        overrides: `key=value` changes to it.
        out: The run folder, whose log says how long a step took; null is runs/<name>.
        gpu_gb: Plan for a card of so many GB; null: for this machine.
        memory_gib: Plan for so many GiB of memory; null: for this machine.
        reporter: Told about progress, and what had to be made up.

    Returns:
        Memory of every phase, the largest micro-batch, disk, main memory, time, and what would make it fit.
    """
    from hkdcli.planning.plan_tables import describe_plan
    from hkdcli.planning.planner import make_plan
    from hkdcli.recipe_file import guess_kind

    kind = guess_kind(recipe_path)
    made = make_plan(
        recipe_path, kind, overrides, run=out, gpu_gb=gpu_gb, memory_gib=memory_gib, reporter=reporter
    )
    return describe_plan(made)


def diagnose(target: str | None, options: DoctorOptions, *, reporter: Reporter = SILENT) -> Outcome:
    """Find out what is wrong with this machine, with hkd itself, and with a recipe, model or records.

    Args:
        target: What to look at; null is the machine and hkd alone.
        options: What else is named.
        reporter: Told how far it is.

    Returns:
        Every check; the exit code says whether one failed.
    """
    from hkdcli.doctor.diagnosis import diagnose

    diagnosis = diagnose(target, options, reporter)
    counts = ", ".join(f"{count} {status}" for status, count in diagnosis.counts.items() if count)
    document = diagnosis.model_dump(mode="json")
    table = tabulate_checks(document["checks"])
    return Outcome(document, tables=[table], text=counts, verdict_code=diagnosis.exit_code)


def init(
    data: OwnData,
    *,
    out: Path,
    name: str = "mine",
    gpu_gb: float | None = None,
    memory_gib: float | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Write a commented recipe for somebody's own records, with the strongest known pyramid that fits.

    Args:
        data: The files of records, and the folder of their images.
        out: The recipe to write.
        name: Of the run.
        gpu_gb: Choose for a card of so many GB; null: for this machine.
        memory_gib: Choose for so many GiB of memory; null: for this machine.
        overwrite: Replace a recipe that is there.
        reporter: Told what is tried.

    Returns:
        What was chosen, and why nothing larger.
    """
    from hkdcli.planning.first_recipe import write_first_recipe

    return write_first_recipe(
        data,
        out=out,
        name=name,
        gpu_gb=gpu_gb,
        memory_gib=memory_gib,
        overwrite=overwrite,
        reporter=reporter,
    )
