"""`hkd init`: from somebody's own files to a recipe that fits."""

from __future__ import annotations

import shlex
from pathlib import Path

from hkdcli.errors import DataError, UsageError
from hkdcli.opening import DataOptions, open_data
from hkdcli.outcome import Outcome, Table
from hkdcli.planning.own_data import OwnData
from hkdcli.planning.room import GIB
from hkdcli.planning.starting import Started, Wishes, start_recipe
from hkdcli.reporter import Reporter
from hkdcli.runs import check_output, write_atomic


def write_first_recipe(
    data: OwnData,
    *,
    out: Path,
    name: str,
    gpu_gb: float | None,
    memory_gib: float | None,
    overwrite: bool,
    reporter: Reporter,
) -> Outcome:
    """Write a recipe for somebody's own records.

    Args:
        data: the files; every record of them must have gold.
        out: the recipe to write.
        name: of the run.
        gpu_gb: plan for such a card; None: for this machine.
        memory_gib: plan for so much memory; None likewise.
        overwrite: replace a recipe that is there.
        reporter: told what is tried.

    Returns:
        What was chosen, and why nothing larger.
    """
    _check_printable(out, data)
    check_output(out, overwrite=overwrite, resumable=False, inputs=data.splits.values())
    counts = {split: _count_labelled(path, data.images, reporter) for split, path in data.splits.items()}
    wishes = Wishes(name, data.splits, data.images, counts["train"])
    started = start_recipe(wishes, gpu_gb=gpu_gb, memory_gib=memory_gib, reporter=reporter)
    own_name = shlex.quote(str(out))
    write_atomic(out, started.text.replace("THIS_FILE", own_name).encode())
    return _describe(out, started, counts)


def _check_printable(out: Path, data: OwnData) -> None:
    """A line break in a path would end a comment of the recipe; other control characters YAML refuses."""
    for path in (out, data.images, *data.splits.values()):
        if path is not None and not str(path).isprintable():
            raise UsageError(f"{str(path)!r}: has characters that a recipe cannot hold", hint="Rename it.")


def _count_labelled(path: Path, images: Path | None, reporter: Reporter) -> int:
    if str(path).startswith("scenes:"):
        raise UsageError(
            f"{path}: drawn scenes have recipes of their own", hint="See recipes/quickstart.yaml."
        )
    examples = open_data(DataOptions(str(path), images, on_bad="error"), reporter).examples
    unlabelled = [example.id for example in examples if not example.answer]
    if unlabelled:
        raise DataError(
            f"{path}: {len(unlabelled)} of {len(examples)} records have no gold, {unlabelled[0]!r} the first",
            hint="Write correct_choice into every record: training and scoring need it.",
        )
    return len(examples)


def _describe(out: Path, started: Started, counts: dict[str, int]) -> Outcome:
    document = {
        "recipe": str(out),
        "records": counts,
        "pyramid": [
            {"name": name, "model": model, "quantization": held}
            for name, model, held in started.candidate.levels
        ],
        "micro_batch_size": started.micro_batch_size,
        "need_gib": round(started.need / GIB, 2),
        "usable_gib": round(started.room.usable / GIB, 2),
        "passed_over": [{"pyramid": name, "reason": why} for name, why in started.passed_over],
    }
    tables = [Table("Passed over", ("pyramid", "why"), started.passed_over)] if started.passed_over else []
    path = shlex.quote(str(out))
    text = (
        f"{out}: {started.candidate}, {started.micro_batch_size} at once; "
        f"{started.need / GIB:.1f} of {started.room.usable / GIB:.1f} GiB on {started.room.name}\n"
        f"next: hkd plan {path}; hkd doctor {path}; hkd distill-online {path}"
    )
    return Outcome(document, tables=tables, text=text)
