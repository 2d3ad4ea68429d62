"""A run or model -> a folder of its own that plain transformers loads, or nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils.memory import release_memory

from hkdcli.atomic import check_writable
from hkdcli.data.datasets import Dataset
from hkdcli.data.prompts import PromptBuilder, identity_presentation
from hkdcli.errors import GateError, ModelError, UsageError
from hkdcli.exporting import model_card
from hkdcli.exporting.calibration import carry_calibration
from hkdcli.exporting.origin import Origin, read_origin
from hkdcli.exporting.parity import Asked, Parity, ask_source, choose_tolerance, compare_answers
from hkdcli.exporting.records import EXAMPLE, open_own_records
from hkdcli.exporting.replacing import check_place, hold_place, publish_export
from hkdcli.exporting.weights import copy_processor, name_base, write_adapter, write_whole
from hkdcli.inference.scoring import Scorer
from hkdcli.models.fingerprints import compute_weights_hash
from hkdcli.models.loading import LoadedModel, load_model, read_config
from hkdcli.models.locating import ModelParts, locate_model
from hkdcli.models.prompt_file import write_prompt_file
from hkdcli.opening import ModelSource, find_model
from hkdcli.reporter import SILENT, Reporter
from hkdcli.runtime import Runtime, choose_runtime

Kind = Literal["merged", "whole", "adapter"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What was exported, and what its check has seen; `weights_hash` is of the exported model as loaded."""

    out: Path
    kind: Kind
    dtype: str
    parity: Parity
    weights_hash: str
    calibrated: bool

    def to_json(self) -> dict[str, Any]:
        """One flat JSON object."""
        document = {**asdict(self), "out": str(self.out)}
        parity = document.pop("parity")
        return {**document, **parity, "tolerance": str(self.parity.tolerance)}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done: `load` loads the source in any form, `held` is how it is used."""

    parts: ModelParts
    load: Callable[..., LoadedModel]
    held: dict[str, Any]
    kind: Kind
    dtype: torch.dtype
    rounds: bool
    runtime: Runtime
    reporter: Reporter

    @property
    def quantization(self) -> str:
        return str(self.held["quantization"])


@dataclass(frozen=True, slots=True)
class _Source:
    """What the source was asked, and what it is known by."""

    asked: list[Asked]
    skipped: int
    data: str
    weights_hash: str
    prompt_hash: str
    processor: Any


def export_model(
    model: str,
    *,
    out: Path,
    level: str | None = None,
    base: str | None = None,
    adapter: bool = False,
    dtype: Dtype = "auto",
    data: Dataset | None = None,
    check: int = 16,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> ExportSummary:
    """Export a model as a sealed folder, provided that it answers there as it does here.

    The folder holds weights (or the adapter alone), processor, chat template, prompt.json, calibration.json
    where the source has one, and a model card. It appears as a whole, or not at all: `GateError` where the
    exported model answers differently, `DataError` where no record can be asked.

    Args:
        model: a run folder, model or adapter folder, hub id or scenes:NAME.
        out: the folder to write.
        level: a level of the run; None is the distilled base.
        base: where an adapter's base is, should it have moved.
        adapter: keep the adapter beside its base instead of merging it.
        dtype: number type of the weights; `auto` is that of the base as it is stored.
        data: records for the check; None takes the run's own test or dev split, else drawn scenes.
        check: how many records to compare.
        overwrite: replace an earlier export.
        reporter: told of progress.

    Returns:
        What was written.
    """
    reporter, out = reporter or SILENT, out.absolute()
    check_writable(out.parent)
    source = find_model(model, level)
    plan = _plan(source, base, adapter=adapter, dtype=dtype, check=check, reporter=reporter)
    places = [place for place in (plan.parts.folder, plan.parts.adapter, Path(model)) if place is not None]
    with hold_place(out):
        check_place(out, places, card=model_card.FILE_NAME, overwrite=overwrite)
        origin = read_origin(model, level, base)
        if data is None:
            data = open_own_records(origin.runs[0] if origin.runs else None, check, reporter)
        asked = _ask(plan, data, check)
        summaries: list[ExportSummary] = []
        publish_export(out, lambda folder: summaries.append(_write(folder, out, plan, asked, origin)))
    return summaries[0]


def _plan(
    source: ModelSource, base: str | None, *, adapter: bool, dtype: Dtype, check: int, reporter: Reporter
) -> _Plan:
    """Decide what to do, and refuse what cannot be done, before any weight is read."""
    parts = locate_model(source.model, adapter=source.adapter, base=base)
    if check < 1:
        raise UsageError("an export is checked on at least one record", hint="Give --check 1 or more.")
    if adapter and parts.adapter is None:
        raise UsageError(f"{source.model}: has no adapter", hint="Leave --adapter out: it exports whole.")
    if adapter and dtype != "auto":
        raise UsageError("an adapter is copied as it is", hint="Leave --dtype out.")
    stored = _read_stored_dtype(parts.folder)
    wanted = stored if dtype == "auto" else getattr(torch, dtype)
    kind: Kind = "whole" if parts.adapter is None else "adapter" if adapter else "merged"
    return _Plan(
        parts=parts,
        load=partial(load_model, source.model, adapter=source.adapter, base=base),
        held={"quantization": source.quantization, "quantized_parts": source.quantized_parts},
        kind=kind,
        dtype=wanted,
        rounds=kind == "merged" or (kind == "whole" and wanted != stored),
        runtime=choose_runtime(),
        reporter=reporter,
    )


def _read_stored_dtype(folder: Path) -> torch.dtype:
    stored = getattr(read_config(folder), "dtype", None)
    return stored if stored in (torch.float16, torch.bfloat16) else torch.float32


def _ask(plan: _Plan, records: Dataset, count: int) -> _Source:
    """Ask the source as `hkd infer` would; nothing of it stays on the device."""
    plan.reporter.note(f"checking on {plan.runtime.describe()}")
    loaded = plan.load(device=plan.runtime.device, dtype=plan.runtime.dtype, **plan.held)
    scorer = Scorer(loaded)
    asked, skipped = ask_source(scorer, records, count, plan.reporter)
    for row in skipped[:3]:
        plan.reporter.warn(f"not asked in the check: {row}")
    weights_hash = compute_weights_hash(loaded.model)
    return _Source(asked, len(skipped), records.name, weights_hash, scorer.prompt_hash, loaded.processor)


def _write(folder: Path, out: Path, plan: _Plan, source: _Source, origin: Origin) -> ExportSummary:
    """Write everything, and let it pass the check before the card says so."""
    release_memory()  # the source lies about in cycles, and there may be no room beside it
    plan.reporter.note(f"writing {plan.kind} weights")
    parts = plan.parts
    if plan.kind == "adapter" and parts.adapter is not None:
        write_adapter(folder, parts.adapter, name_base(parts), **plan.held)
    else:
        write_whole(folder, plan.load, plan.dtype, merging=plan.kind == "merged")
    copy_processor(parts.processor, folder)
    write_prompt_file(folder, source.processor)
    release_memory()
    parity, weights_hash = _check(folder, plan, source)
    calibrated = carry_calibration(
        parts.adapter or parts.folder,
        folder,
        before=source.weights_hash,
        after=weights_hash,
        prompt_hash=source.prompt_hash,
        reporter=plan.reporter,
    )
    dtype = str(plan.dtype).removeprefix("torch.")
    prompt = _render_user_text(source.processor)
    exported = model_card.Exported(plan.kind, dtype, plan.quantization, prompt, parity, calibrated)
    (folder / model_card.FILE_NAME).write_text(model_card.render_card(origin, exported), "utf-8")
    return ExportSummary(out, plan.kind, dtype, parity, weights_hash, calibrated)


def _check(folder: Path, plan: _Plan, source: _Source) -> tuple[Parity, str]:
    """Load what was written, and compare; also the hash of its weights."""
    held = plan.held if plan.kind == "adapter" else {}
    try:
        loaded = load_model(folder, device=plan.runtime.device, dtype=plan.runtime.dtype, **held)
    except ModelError as error:
        raise GateError(f"what was to be exported does not load: {error}", hint=error.hint) from error
    names = [str(plan.runtime.dtype).removeprefix("torch.")]
    names += [str(plan.dtype).removeprefix("torch.")] if plan.rounds else []
    names += [plan.quantization] if plan.quantization != "none" and plan.kind != "adapter" else []
    tolerance = choose_tolerance(*names)
    largest = compare_answers(Scorer(loaded), source.asked, tolerance, _advise(plan))
    parity = Parity(source.data, len(source.asked), source.skipped, tolerance, largest)
    return parity, compute_weights_hash(loaded.model)


def _advise(plan: _Plan) -> str:
    """What to do where the exported model answers differently."""
    if plan.quantization != "none" and plan.kind == "merged":
        return (
            f"the adapter was trained on a base in {plan.quantization}, and is merged into whole weights: "
            "--adapter keeps it beside the base as it was"
        )
    if plan.quantization != "none" and plan.kind == "whole":
        return f"the level is used in {plan.quantization}, and exported in whole weights; name its own folder"
    if plan.rounds and plan.dtype != torch.float32:
        return "the weights are rounded: give --dtype float32" + (", or --adapter" * (plan.kind == "merged"))
    return "this should not be: please report it" + ("; --adapter avoids merging" * (plan.kind == "merged"))


def _render_user_text(processor: Any) -> str:
    """A user's text as the model knows it, without what the chat template puts around it."""
    builder = PromptBuilder(processor)
    prompt = builder.build(EXAMPLE, identity_presentation(EXAMPLE))
    return prompt.prefix.removeprefix(builder.frame.head) + prompt.suffix.removesuffix(builder.frame.tail)
