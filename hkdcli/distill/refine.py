"""Stage two as a whole: the student of stage one, refined by what upper models say together.

The upper models are frozen, so what they say is computed once and stored; then they leave the device, and the
student has it to itself. Store and training go on after a kill; a finished student is a sealed folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch

from hkdcli.checkpoints import is_complete
from hkdcli.data.batches import Batch
from hkdcli.data.prompts import compute_prompt_hash
from hkdcli.distill.assembly import (
    build_accelerator,
    build_evaluate,
    build_log,
    build_settings,
    build_source,
    tell_quantization,
)
from hkdcli.distill.levels import (
    Stage,
    TrainedLevel,
    get_start,
    load_learner,
    load_level,
    locate_levels,
    publish_level,
)
from hkdcli.distill.live_signals import LiveSignals, LiveUpper
from hkdcli.distill.order import Draw
from hkdcli.distill.reading import check_runs
from hkdcli.distill.refine_objective import PartName, RefineObjective, ResponseSettings
from hkdcli.distill.signal_building import build_signals
from hkdcli.distill.signal_keys import build_store_key
from hkdcli.distill.signal_store import SignalStore, drop_stale_store
from hkdcli.distill.signals import Signals
from hkdcli.distill.sources import DatasetSource
from hkdcli.distill.stored_signals import StoredSignals
from hkdcli.distill.teacher_check import check_teacher
from hkdcli.distill.teacher_signal import TeacherSignal
from hkdcli.distill.trainer import train
from hkdcli.distill.upper import SNAPSHOT, Coupling, UpperModel, plan_coupling
from hkdcli.models.answers import AnswerModel
from hkdcli.models.fingerprints import compute_revision
from hkdcli.models.loading import LoadedModel
from hkdcli.models.memory import enable_gradient_checkpointing
from hkdcli.ranks import find_place, wait_for_all

if TYPE_CHECKING:
    from hkdcli.recipe_refine import RefineRecipe


def refine_student(stage: Stage[RefineRecipe]) -> list[TrainedLevel]:
    """Train the student of stage two, and store what the upper models say where the recipe wants that.

    Args:
        stage: recipe, data and run folder; the split `train` is learned from, `dev` watched.

    Returns:
        The upper levels, the student as it was before, the student.
    """
    start = get_start(stage, stage.base)
    if is_complete(stage.get_folder(stage.base)):
        stage.reporter.note(f"{start.name} is refined already")
    else:
        _refine(stage, plan_coupling(stage), start)
    *uppers, student = locate_levels(stage)
    return [*uppers, replace(start, name=f"{start.name}.before"), student]


def store_signals(stage: Stage[RefineRecipe], shard: tuple[int, int] = (0, 1)) -> list[dict[str, Any]]:
    """Store what the upper models say about the split `train`, as far as it is not stored yet.

    Args:
        stage: the run.
        shard: (index, count): only this share of the records, so that several processes can share the work.

    Returns:
        For each upper model its name, the folder, and the records and bytes that are stored.
    """
    coupling = plan_coupling(stage)
    rows = []
    for upper, store in zip(coupling.uppers, _store_missing(stage, coupling, shard), strict=True):
        size = store.describe()
        each = round(size.bytes / size.records) if size.records else None
        rows.append(
            {
                "upper": upper.level.name,
                "folder": str(store.folder),
                "records": size.records,
                "bytes": size.bytes,
                "bytes_per_record": each,
            }
        )
    return rows


def _refine(stage: Stage[RefineRecipe], coupling: Coupling, start: TrainedLevel) -> None:
    """Train and write the student; of the models nothing is held afterwards."""
    level, run, refine = stage.recipe.pyramid[stage.base], stage.run, stage.recipe.refine
    if refine.signals == "stored":
        _drop_stale(stage, coupling)
        place = find_place()
        _store_missing(stage, coupling, (place.rank, place.size))
        wait_for_all()
    student = load_learner(stage, stage.base, start)
    check_runs(student, stage.data["train"])
    tell_quantization(stage, [level.name], [student])
    if level.train is not None and level.train.gradient_checkpointing:
        enable_gradient_checkpointing(student.model)
    source = build_source(stage, student)
    settings = build_settings(
        stage,
        stage.base,
        lambda_schedule=None,
        projection_learning_rate=refine.projection_learning_rate,
        weight_learning_rate=refine.weight_learning_rate,
    )
    train(
        AnswerModel(student.model, coupling.states),
        build_teaching(stage, coupling, student, source),
        build_objective(stage, coupling),
        source,
        settings,
        run.level(stage.base, level.name),
        stage.reporter,
        log=build_log(stage, level.name),
        accelerator=build_accelerator(stage.runtime),
        resume=run.resumed,
        task=f"{level.name}, refined by {' and '.join(upper.level.name for upper in coupling.uppers)}",
        evaluate=build_evaluate(stage, student, settings.micro_batch_size),
    )
    publish_level(stage.get_folder(stage.base), student, level)


def build_objective(stage: Stage[RefineRecipe], coupling: Coupling) -> RefineObjective:
    """Build the loss as the recipe has it, on the run's device; projections follow from the run's seed."""
    refine, states = stage.recipe.refine, coupling.states
    parts: dict[PartName, float | None] = {}
    for name in get_args(PartName):
        if (part := getattr(refine, name)) is not None:
            parts[name] = part.weight
    chosen = {} if refine.response is None else refine.response.model_dump(exclude={"weight", "top_k"})
    torch.manual_seed(stage.recipe.seed)
    return RefineObjective(
        parts,
        ResponseSettings(coupling.vocabulary, **chosen),
        [upper.level.name for upper in coupling.uppers],
        kappa=refine.kappa,
        min_truth=refine.min_truth,
        widths=coupling.widths,
        layers=len(states.layers) if states else 1,
        cells=states.cells if states else 1,
    ).to(stage.runtime.device)


def build_teaching(
    stage: Stage[RefineRecipe], coupling: Coupling, student: LoadedModel, source: DatasetSource
) -> Signals[TeacherSignal]:
    """Open what the upper models say: read from stores that are full, or asked beside the student.

    Args:
        stage: the run.
        coupling: who teaches.
        student: reads records in its own way; upper models that do likewise share its batches.
        source: of the student's batches.

    Returns:
        One TeacherSignal per upper model and micro-batch.
    """
    if stage.recipe.refine.signals == "stored":
        return StoredSignals([_open_store(stage, upper) for upper in coupling.uppers], source)
    reading, uppers = compute_prompt_hash(student.processor), []
    for place, upper in enumerate(coupling.uppers):
        own = None if compute_prompt_hash(upper.processor) == reading else build_source(stage, upper)
        folder = stage.run.path / "levels" / f"{place}-{upper.level.name}"
        uppers.append(_load_upper(stage, upper, folder, own))
    return LiveSignals(uppers)


# Signals


def _store_missing(
    stage: Stage[RefineRecipe], coupling: Coupling, shard: tuple[int, int]
) -> list[SignalStore]:
    """Ask each upper model for what its store lacks; one that lacks nothing is not loaded."""
    stores, pixel_hashes = [], dict[str, str]()
    for upper in coupling.uppers:
        store = _open_store(stage, upper)
        build_signals(
            store,
            _ask_when_needed(stage, upper, store.folder),
            build_source(stage, upper),
            batch_size=upper.level.batch_size,
            shard=shard,
            reporter=stage.reporter,
            task=f"signals of {upper.level.name}",
            pixel_hashes=pixel_hashes,
        )
        stores.append(store)
    return stores


def _drop_stale(stage: Stage[RefineRecipe], coupling: Coupling) -> None:
    """Where a run replaces another, signals of its own that are not those asked for any more go with it."""
    if not stage.run.overwritten or stage.recipe.refine.store is not None:
        return
    if find_place().is_main:
        for upper in coupling.uppers:
            if drop_stale_store(*_locate_store(stage, upper)):
                stage.reporter.note(f"signals of {upper.level.name}: others were stored; they are removed")
    wait_for_all()


def _open_store(stage: Stage[RefineRecipe], upper: UpperModel) -> SignalStore:
    """The store of an upper model; signals of any other key in its folder are refused."""
    return SignalStore.open(*_locate_store(stage, upper))


def _locate_store(stage: Stage[RefineRecipe], upper: UpperModel) -> tuple[Path, dict[str, Any]]:
    """Folder and key of an upper model's store."""
    level, parts, store = upper.level, upper.parts, stage.recipe.refine.store
    folder = stage.run.signals if store is None else Path(store)
    key = build_store_key(
        model=compute_revision(parts.folder),
        adapter=None if parts.adapter is None else compute_revision(parts.adapter),
        quantization=level.quantization,
        quantized_parts=level.quantized_parts,
        number_type=str(stage.runtime.dtype).removeprefix("torch."),
        prompt_hash=compute_prompt_hash(upper.processor),
        max_length=build_source(stage, upper).collator.max_length,
        plan=upper.plan,
    )
    return folder / level.name, key


def _ask_when_needed(
    stage: Stage[RefineRecipe], upper: UpperModel, folder: Path
) -> Callable[[Batch, Sequence[Draw]], TeacherSignal]:
    """An upper model that is loaded when it is first asked."""
    loaded: list[LiveUpper] = []

    def ask(batch: Batch, draws: Sequence[Draw]) -> TeacherSignal:
        if not loaded:
            loaded.append(_load_upper(stage, upper, folder))
        said: TeacherSignal = loaded[0](batch.to(stage.runtime.device), draws)
        return said

    return ask


def _load_upper(
    stage: Stage[RefineRecipe], upper: UpperModel, folder: Path, own: DatasetSource | None = None
) -> LiveUpper:
    """Load an upper model that has shown that it can teach; the student's snapshot need not."""
    model = load_level(upper.level, stage.runtime)
    tell_quantization(stage, [upper.level.name], [model])
    if upper.level.name != SNAPSHOT:
        check_teacher(stage, upper.level, model, folder)
    return LiveUpper(AnswerModel(model.model, upper.plan.states), upper.plan, own)
