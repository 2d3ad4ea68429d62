"""What `hkd augment` does: records and settings -> a dataset of variants, a sheet to look at, or both."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hkdcli import __version__
from hkdcli.errors import StoppedError, UsageError
from hkdcli.opening import SCENES, DataOptions, open_data, open_source
from hkdcli.outcome import Outcome
from hkdcli.reporter import SILENT, Reporter
from hkdcli.tables import tabulate_variants

if TYPE_CHECKING:
    from hkdcli.augment.policies import Policy
    from hkdcli.data.datasets import Dataset

PREVIEW_RECORDS = 8
CHUNK = 8  # records that a process makes variants of before it hands them over


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """Which variants are made: see `build_policy`; `operations` is a Python file to run for more of them."""

    copies: int = 1
    seed: int = 0
    policy: Literal["light", "standard", "strong"] = "standard"
    probabilities: Mapping[str, float] = field(default_factory=dict)
    evidence: Literal["listed", "record"] = "listed"
    balance: bool = False
    operations: Path | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What is made: a dataset in the folder `out`, a picture `preview`, or both."""

    out: Path | None = None
    preview: Path | None = None
    resume: bool = False
    overwrite: bool = False
    nproc: int | None = None


def augment(
    data: DataOptions, options: AugmentOptions, target: Target, *, reporter: Reporter = SILENT
) -> Outcome:
    """Make variants of the records that the command line names.

    Args:
        data: The records; bad ones are an error or left out.
        options: Which variants.
        target: What is made of them.
        reporter: Told about progress.

    Returns:
        Settings and counts.

    Raises:
        UsageError: There is nothing to make, or facts are given of scenes.
    """
    _check_target(target, Path(data.source))
    if data.facts is not None and data.source.startswith(SCENES):
        raise UsageError(
            "--facts says nothing of drawn scenes, of which everything is known",
            hint="Leave it out, or name a file of records.",
        )
    # "keep" is for commands that owe a row for each record.
    dataset = open_data(replace(data, on_bad="skip" if data.on_bad == "skip" else "error"), reporter)
    return _augment(dataset, options, target, reporter, skips=data.on_bad == "skip")


def augment_recipe(
    recipe_path: Path,
    overrides: Sequence[str],
    target: Target,
    *,
    operations: Path | None = None,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Make variants as a recipe says.

    Args:
        recipe_path: The recipe.
        overrides: `key=value` changes to it.
        target: What is made.
        operations: A Python file to run for more operations; no recipe can name one.
        reporter: Told about progress.

    Returns:
        Settings and counts.
    """
    from hkdcli.recipe_augment import AugmentRecipe
    from hkdcli.recipe_file import read_recipe

    recipe = read_recipe(recipe_path, AugmentRecipe, overrides)
    _check_target(target, Path(recipe.data.file or recipe_path))
    dataset = open_source(recipe.data, recipe)
    for warning in dataset.warnings:
        reporter.warn(warning)
    options = AugmentOptions(
        recipe.copies,
        recipe.seed,
        recipe.augment.policy,
        recipe.augment.probabilities,
        recipe.augment.evidence,
        recipe.balance,
        operations,
    )
    return _augment(dataset, options, target, reporter, skips=recipe.on_bad == "skip", max_bad=recipe.max_bad)


def _check_target(target: Target, source: Path) -> None:
    from hkdcli.runs import check_output

    if target.out is None and target.preview is None:
        raise UsageError("nothing to make", hint="Give --out DIR, --preview SHEET.png, or both.")
    if target.out is not None and target.out.resolve() in (source.resolve() / "x").parents:
        raise UsageError(f"{target.out}: holds the records that are read", hint="Give another --out.")
    if target.preview is not None:
        if target.preview.suffix.lower() != ".png":
            raise UsageError(f"{target.preview}: the sheet is a PNG", hint="Give a name that ends in .png.")
        check_output(target.preview, overwrite=True, inputs=[source])  # it is drawn anew in a moment


def _augment(
    dataset: Dataset,
    options: AugmentOptions,
    target: Target,
    reporter: Reporter,
    *,
    skips: bool,
    max_bad: float = 0.01,
) -> Outcome:
    from hkdcli.augment.policies import build_policy
    from hkdcli.data.datasets import check_dataset, skip_bad_images

    if options.operations is not None:
        from hkdcli.augment.own_operations import load_own_operations

        load_own_operations(options.operations)
    policy = build_policy(options.policy, options.probabilities, evidence=options.evidence)
    if target.out is not None:  # a sheet needs few images, and says of which one it cannot read
        reporter.note(f"checking the images of {len(dataset.examples)} records")
        if skips:
            dataset = skip_bad_images(dataset, max_bad=max_bad)
        check_dataset(dataset, need_answers=False, check_images=not skips)
    document: dict[str, Any] = {"preview": None, "out": None}
    if target.preview is not None:
        _draw_preview(dataset, policy, options, target.preview)
        document["preview"] = str(target.preview)
    if target.out is None:
        return Outcome(document, text=f"sheet: {target.preview}")
    summary = _write(dataset, policy, options, target, target.out, reporter)
    document |= {"out": str(target.out), **summary}
    return Outcome(document, tables=tabulate_variants(summary["counts"]), text=_describe(summary, target.out))


def _draw_preview(dataset: Dataset, policy: Policy, options: AugmentOptions, path: Path) -> None:
    from io import BytesIO

    from hkdcli.atomic import write_atomic
    from hkdcli.augment.preview import build_preview

    buffer = BytesIO()
    build_preview(dataset, policy, options.seed, options.copies, PREVIEW_RECORDS).save(buffer, "PNG")
    write_atomic(path, buffer.getvalue())


def _write(
    dataset: Dataset,
    policy: Policy,
    options: AugmentOptions,
    target: Target,
    out: Path,
    reporter: Reporter,
) -> dict[str, Any]:
    """Write the dataset, several processes making its parts, and this one putting them down in order."""
    from hkdcli.ahead import Ahead
    from hkdcli.augment.making import Plan
    from hkdcli.augment.writing import open_writer
    from hkdcli.stopping import listen_for_stop

    copies = _choose_copies(dataset, options)
    settings = _build_settings(dataset, policy, options)
    with open_writer(out, settings, copies, resume=target.resume, overwrite=target.overwrite) as writer:
        plan, total = Plan(dataset, copies, policy, options.seed, out), len(dataset.examples)
        chunks = [range(at, min(at + CHUNK, total)) for at in range(writer.done, total, CHUNK)]
        nproc = target.nproc or _count_cores()
        make = Ahead(partial(_make_chunk, plan), nproc if nproc > 1 else 0, reporter, task="makes variants")
        reporter.start("augment", total, writer.done)
        try:
            with listen_for_stop() as stop:
                for lines in make.run(chunks):
                    writer.append(lines)
                    reporter.advance(writer.done, variants=writer.tally.variants)
                    if stop.signal_number is not None:
                        raise StoppedError(
                            f"stopped; variants of {writer.done} of {total} records are in {out}",
                            signal_number=stop.signal_number,
                            hint="The same command with --resume goes on from there.",
                        )
        finally:
            reporter.finish()
        return writer.finish()


def _make_chunk(plan: Any, places: Sequence[int]) -> list[Any]:
    from hkdcli.augment.making import make_lines

    return [line for place in places for line in make_lines(plan, place)]


def _choose_copies(dataset: Dataset, options: AugmentOptions) -> tuple[int, ...]:
    from hkdcli.augment.balancing import balance_copies
    from hkdcli.augment.making import check_names, name_class

    copies = (options.copies,) * len(dataset.examples)
    if options.balance:
        classes = [(example.task, name_class(example)) for example in dataset.examples]
        copies = balance_copies(classes, options.copies, options.seed)
    check_names(dataset, copies)
    return copies


def _build_settings(dataset: Dataset, policy: Policy, options: AugmentOptions) -> dict[str, Any]:
    """All that decides which bytes are written, but for the pixels of the pictures."""
    from hkdcli.data.datasets import hash_examples, hash_facts

    own = options.operations
    return {
        "hkd": __version__,
        "pillow": metadata.version("pillow"),
        "numpy": metadata.version("numpy"),
        "records": hash_examples(dataset.examples),
        "facts": hash_facts(dataset),
        "seed": options.seed,
        "copies": options.copies,
        "balance": options.balance,
        "policy": options.policy,
        "probabilities": dict(policy.probabilities),
        "strength": policy.strength,
        "evidence": policy.evidence,
        "operations": None if own is None else hashlib.sha256(own.read_bytes()).hexdigest(),
    }


def _count_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _describe(summary: Mapping[str, Any], out: Path) -> str:
    from hkdcli.augment.evidence import NOTHING_KNOWN

    counts = summary["counts"]
    left_out = f", {counts['left_out']} left out as nothing was applied" if counts["left_out"] else ""
    lines = [
        f"{out / 'records.jsonl'}: {counts['records']} records and {counts['variants']} variants{left_out}"
    ]
    if any(NOTHING_KNOWN in each["reasons"] for each in counts["operations"].values()):
        lines.append(
            "Words were not swapped where nothing is known of the image: --facts FILE tells, "
            "--evidence record does without."
        )
    return "\n".join(lines)
