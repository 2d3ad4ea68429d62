"""What both stages put together alike: where records come from, settings, log, and how dev is watched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from hkdcli.augment.online import Showing, VariantShowing, show_as_it_is
from hkdcli.augment.policies import build_policy
from hkdcli.data.collate import Collator
from hkdcli.distill.answering import answer_all
from hkdcli.distill.levels import Stage
from hkdcli.distill.log import TrainLog
from hkdcli.distill.reading import Reader
from hkdcli.distill.settings import TrainSettings
from hkdcli.distill.sources import DatasetSource
from hkdcli.evaluation.metrics import evaluate_predictions
from hkdcli.inference.scoring import Scorer
from hkdcli.models.loading import LoadedModel
from hkdcli.models.quantization import describe_quantization
from hkdcli.runtime import Runtime

if TYPE_CHECKING:
    from hkdcli.recipe import RunRecipe


def build_source(stage: Stage[RunRecipe], reader: Reader) -> DatasetSource:
    """The records that are learned from, as a model's own processor reads them, in variants if so wanted."""
    data, wanted = stage.data["train"], stage.recipe.augment
    show: Showing = show_as_it_is
    if wanted is not None:
        policy = build_policy(wanted.policy, wanted.probabilities, evidence=wanted.evidence)
        show = VariantShowing(policy, stage.recipe.seed, data.facts)
    return DatasetSource(data, Collator(reader.processor), stage.recipe.data.on_bad, show)


def build_settings(stage: Stage[RunRecipe], place: int, **teaching: Any) -> TrainSettings:
    """The training settings of a level.

    Args:
        stage: the run.
        place: of the level in the pyramid.
        **teaching: what the stage adds: the course of lambda, the objective's learning rates.

    Returns:
        The settings.
    """
    chosen = stage.recipe.pyramid[place].train
    own = {} if chosen is None else chosen.model_dump(exclude={"gradient_checkpointing"})
    return TrainSettings(**own, **teaching, max_bad=stage.recipe.data.max_bad, seed=stage.recipe.seed)


def build_log(stage: Stage[RunRecipe], level: str) -> TrainLog:
    """The run's log, for one level."""
    run = stage.run.path
    return TrainLog(run / "log.jsonl", stage.reporter, level=level, tensorboard=run / "tensorboard")


def build_accelerator(runtime: Runtime) -> Accelerator:
    """Computing in the runtime's number type."""
    precision = "bf16" if runtime.dtype == torch.bfloat16 else "no"
    return Accelerator(cpu=runtime.device.type == "cpu", mixed_precision=precision)


def build_evaluate(
    stage: Stage[RunRecipe], student: LoadedModel, batch_size: int
) -> Callable[[], Mapping[str, float | None]] | None:
    """How the student answers the dev split at the moment; None where there is none."""
    if (dev := stage.data.get("dev")) is None:
        return None
    scorer = Scorer(student)

    def evaluate() -> Mapping[str, float | None]:
        said = answer_all(scorer, dev, batch_size)
        metrics: dict[str, Any] = {**evaluate_predictions(said, dev.examples).metrics}
        return {f"dev_{name}": value for name, value in metrics.items()}

    return evaluate


def tell_quantization(stage: Stage[RunRecipe], names: Sequence[str], loaded: Sequence[LoadedModel]) -> None:
    """Note what a quantized level is held in."""
    for name, model in zip(names, loaded, strict=True):
        if model.quantization != "none":
            stage.reporter.note(f"{name} is held in {describe_quantization(model.model)}")
