"""What a teacher has to show before a level is trained on its word.

It answers a sample of records. One that is no better than the best constant answer would teach nonsense, at
the price of a whole training: the run stops. Its score is about what a student can reach by copying it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hkdcli.atomic import read_object, write_json
from hkdcli.data.datasets import Dataset, hash_examples
from hkdcli.distill.answering import answer_all, take_sample
from hkdcli.distill.levels import Stage, TrainedLevel, load_level
from hkdcli.distill.reading import check_runs
from hkdcli.errors import GateError
from hkdcli.evaluation.metrics import evaluate_predictions
from hkdcli.inference.scoring import Scorer
from hkdcli.models.families import unwrap
from hkdcli.models.loading import LoadedModel
from hkdcli.runtime import has_room

if TYPE_CHECKING:
    from hkdcli.recipe import RunRecipe

FILE_NAME = "teacher_check.json"


def check_teacher(
    stage: Stage[RunRecipe], level: TrainedLevel, load: Callable[[], LoadedModel], folder: Path
) -> None:
    """Check a teacher, once: what was found is kept in a folder, and counts for the same records alone.

    Args:
        stage: the run; `teacher_check` of its recipe says how much to ask and what failing does.
        level: the teacher.
        load: gives the same, ready to answer; not called where what was found is at hand.
        folder: where what was found is kept: its own in the run, or that of its stored signals.

    Raises:
        GateError: it scores no higher than the best constant answer on the sample.
    """
    settings = stage.recipe.teacher_check
    if settings is None:
        return
    split = "dev" if "dev" in stage.data else "train"
    sample = take_sample(stage.data[split], settings.size)
    asked: dict[str, Any] = {"split": split, "records": len(sample.examples)}
    asked |= {"quantization": level.quantization, "data": hash_examples(sample.examples)}
    path = folder / FILE_NAME
    if (found := _read(path, asked)) is None:
        found = asked | _examine(stage, level, load(), sample)
        write_json(path, found)
    stage.reporter.note(_describe(level.name, found))
    if found["micro_f1"] > found["constant_micro_f1"]:
        return
    message = (
        f"{level.name} is no better a teacher than the best constant answer: micro-F1 "
        f"{found['micro_f1']:.3f} against {found['constant_micro_f1']:.3f} on {found['records']} records of "
        f"{found['split']}"
    )
    if settings.on_fail == "stop":
        raise GateError(
            message,
            hint="Choose or tune another teacher; teacher_check: {on_fail: warn} goes on all the same.",
        )
    stage.reporter.warn(message)


def _read(path: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was found earlier; None where that is not written, damaged or of other records."""
    found = read_object(path)
    try:
        _describe("", found or {})
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return None
    return found if found is not None and asked.items() <= found.items() else None


def _examine(
    stage: Stage[RunRecipe], level: TrainedLevel, loaded: LoadedModel, sample: Dataset
) -> dict[str, Any]:
    check_runs(loaded, sample)
    said = answer_all(Scorer(loaded), sample, level.batch_size)
    metrics = evaluate_predictions(said, sample.examples).metrics
    found: dict[str, Any] = {name: metrics[name] or 0.0 for name in ("micro_f1", "constant_micro_f1")}
    return found | {"agreement_unquantized": _compare_unquantized(stage, level, loaded, said, sample)}


def _compare_unquantized(
    stage: Stage[RunRecipe], level: TrainedLevel, loaded: LoadedModel, said: list[Any], sample: Dataset
) -> float | None:
    """Share of records that the unquantized level answers alike; None where there is none, or no room."""
    folder = Path(unwrap(loaded.model).config.name_or_path)  # of the base, where the level is an adapter
    if level.quantization == "none" or not has_room(folder, stage.runtime.device):
        return None
    whole = replace(level, quantization="none")
    scorer = Scorer(load_level(whole, stage.runtime))
    others = answer_all(scorer, sample, level.batch_size)
    alike = [one.choices == other.choices for one, other in zip(said, others, strict=True)]
    return sum(alike) / len(alike)


def _describe(name: str, found: dict[str, Any]) -> str:
    text = (
        f"{name} teaches: micro-F1 {found['micro_f1']:.3f} on {found['records']} records of {found['split']} "
        f"(best constant answer {found['constant_micro_f1']:.3f}), about what a copy of it can reach"
    )
    if (agreement := found["agreement_unquantized"]) is not None:
        text += f"; in {found['quantization']} it answers {agreement:.1%} of them as it does unquantized"
    return text
