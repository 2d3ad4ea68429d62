"""Stage two as a whole: the student of stage one, refined by what upper models say together.

The upper models are frozen, so what they say is computed once and stored; then they leave the device, and the
student has it to itself. Store and training go on after a kill; a finished student is a sealed folder.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import torch

from hkdcli.checkpoints import is_complete
from hkdcli.distill.asking import build_teaching, open_stores, store_in_common, store_missing
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
    locate_levels,
    publish_level,
)
from hkdcli.distill.reading import check_runs
from hkdcli.distill.refine_objective import PartName, RefineObjective, ResponseSettings
from hkdcli.distill.settings import TrainSettings
from hkdcli.distill.trainer import train
from hkdcli.distill.upper import Coupling, plan_coupling
from hkdcli.models.answers import AnswerModel
from hkdcli.models.memory import enable_gradient_checkpointing

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
    stores, rows = open_stores(stage, coupling), []
    store_missing(stage, coupling, stores, shard)
    for upper, store in zip(coupling.uppers, stores, strict=True):
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
    stores = store_in_common(stage, coupling) if refine.signals == "stored" else None
    student = load_learner(stage, stage.base, start)
    check_runs(student, stage.data["train"])
    tell_quantization(stage, [level.name], [student])
    if level.train is not None and level.train.gradient_checkpointing:
        enable_gradient_checkpointing(student.model)
    source = build_source(stage, student)
    settings = build_refine_settings(stage)
    train(
        AnswerModel(student.model, coupling.states),
        build_teaching(stage, coupling, student, source, stores),
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


def build_refine_settings(stage: Stage[RefineRecipe]) -> TrainSettings:
    """The student's settings; the teachers always teach, so there is no lambda."""
    refine = stage.recipe.refine
    return build_settings(
        stage,
        stage.base,
        lambda_schedule=None,
        projection_learning_rate=refine.projection_learning_rate,
        weight_learning_rate=refine.weight_learning_rate,
    )


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
