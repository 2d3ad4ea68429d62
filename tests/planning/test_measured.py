"""The plan of a training step against the real one on a CPU, in eight settings of tiny models.

Weights, gradients and optimizer are exact; activations, within a tenth, are what torch's profiler sees of its
allocator, with the pixels, which come from numpy and pass it by.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "gpu"))
from device_figures import measure_peak
from gpu_steps import TimedSource
from tiny_models import save_tiny_llava, save_tiny_qwen
from tiny_records import DrawnImages, make_hallucination

from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.distill.objective import MutualObjective, OnlineObjective
from hkdcli.distill.settings import TrainSettings
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.sources import BatchSource, DatasetSource
from hkdcli.distill.stepper import Stepper
from hkdcli.models.adapters import attach_lora
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import LoadedModel, load_model
from hkdcli.models.memory import enable_gradient_checkpointing
from hkdcli.planning.hollow import build_hollow_model
from hkdcli.planning.lesson import HollowSource, TrainingMemory, list_all, rehearse_training
from hkdcli.planning.rehearsal import Ledger, rehearse

WIDTH = 4
CAPTION = "a red square is left of a small blue circle and the shelf displays fresh green vegetables "


@dataclass(frozen=True, slots=True)
class Setting:
    """A way of training; the first of `models` learns, the others teach it."""

    models: tuple[str, ...]
    full: bool = False
    quantization: Any = "none"
    quantized_student: bool = False
    accumulation: int = 1
    checkpointing: bool = False
    own_sources: bool = False
    mutual: bool = False
    bf16: bool = False

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.bf16 else torch.float32


SETTINGS = {
    "lora": Setting(("llava", "llava-wide")),
    "full, accumulation": Setting(("qwen", "qwen-wide"), full=True, accumulation=2),
    "nf4 teacher, checkpointing": Setting(("qwen", "qwen-wide"), quantization="nf4", checkpointing=True),
    "nf4 student, labels alone": Setting(("qwen",), quantization="nf4", quantized_student=True),
    "int8 teacher": Setting(("llava", "llava-wide"), quantization="int8"),
    "two teachers, own sources": Setting(("qwen", "qwen-wide", "llava"), own_sources=True),
    "mutual": Setting(("qwen", "qwen-wide"), mutual=True),
    "bfloat16": Setting(("qwen", "qwen-wide"), bf16=True),
}


@dataclass(frozen=True, slots=True)
class Built:
    """What a stepper takes."""

    student: AnswerModel
    teachers: LiveTeachers
    objective: Any
    sources: tuple[BatchSource, ...]  # the student's, then the teachers' own
    settings: TrainSettings


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    saved = {
        "qwen": partial(save_tiny_qwen, hidden_size=64, layers=3),
        "qwen-wide": partial(save_tiny_qwen, hidden_size=256, layers=2),
        "llava": partial(save_tiny_llava, hidden_size=64, layers=3),
        "llava-wide": partial(save_tiny_llava, hidden_size=128, layers=2),
    }
    return {name: save(folder / name) for name, save in saved.items()}


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """It keeps the precision of the first one of a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def make_records() -> Dataset:
    """Eight records of some hundred tokens."""
    examples = [make_hallucination(f"h{place}", caption=CAPTION * 5) for place in range(2 * WIDTH)]
    return Dataset("long", tuple(examples), DrawnImages())


def build(setting: Setting, folders: dict[str, Path], load: Callable[..., LoadedModel], device: str) -> Built:
    """Put a lesson together from models that are loaded or hollow."""
    learners, loaded = 1 + setting.mutual, []
    for place, name in enumerate(setting.models):
        learns = place < learners
        dtype = torch.float32 if learns and setting.full else setting.dtype
        whole = learns and not setting.quantized_student
        how = {"quantization": "none" if whole else setting.quantization, "trainable": learns}
        loaded.append(load(folders[name], dtype=dtype, **how))
        if learns and not setting.full:
            with torch.device(device):
                loaded[-1] = replace(loaded[-1], model=attach_lora(loaded[-1].model, rank=8, alpha=16))
        if learns and setting.checkpointing:
            enable_gradient_checkpointing(loaded[-1].model)
    data = make_records()
    own = [DatasetSource(data, Collator(each.processor)) for each in loaded]
    objective = OnlineObjective(
        len(loaded[0].processor.tokenizer), choice_weight=0.5 + setting.own_sources / 2
    )
    return Built(
        AnswerModel(loaded[0].model),
        LiveTeachers([AnswerModel(each.model) for each in loaded[1:]], mutual=setting.mutual),
        MutualObjective(objective) if setting.mutual else objective,
        tuple(own if setting.own_sources else own[:1]),
        TrainSettings(
            max_steps=9,
            micro_batch_size=WIDTH,
            gradient_accumulation_steps=setting.accumulation,
            lambda_start=0.5 if setting.models[1:] else 0.0,
        ),
    )


def give_sources(built: Built, wrap: Callable[[BatchSource], Any]) -> list[Any]:
    """The sources, wrapped, those of teachers in their place."""
    wrapped = [wrap(source) for source in built.sources]
    if len(wrapped) > 1:
        built.teachers.sources = wrapped[1:]
    return wrapped


def plan(setting: Setting, folders: dict[str, Path]) -> TrainingMemory:
    built = build(setting, folders, partial(build_hollow_model, compute_device="cpu"), "meta")
    sources = give_sources(built, lambda source: HollowSource(source, WIDTH))
    parts = built.student, built.teachers, built.objective, sources[0], built.settings
    memory = rehearse_training(*parts, bf16=setting.bf16)
    AcceleratorState._reset_state(reset_partial_state=True)
    return memory


def measure(setting: Setting, folders: dict[str, Path]) -> dict[str, int]:
    """The real step, after one that made the optimizer's moments."""
    built = build(setting, folders, load_model, "cpu")
    sources = give_sources(built, TimedSource)
    accelerator = Accelerator(cpu=True, mixed_precision="bf16" if setting.bf16 else "no")
    parts = built.student, built.teachers, built.objective, sources[0], built.settings
    stepper = Stepper(*parts, accelerator)
    weights = sum(tensor.nbytes for tensor in list_all(list(stepper.modules.values()), built.teachers))
    gradients: dict[int, int] = {}
    for parameter in stepper.parameters:
        parameter.register_post_accumulate_grad_hook(
            lambda parameter: gradients.update({id(parameter): parameter.grad.nbytes})
        )
    stepper.take_step(0)
    states: Sequence[dict[str, Any]] = list(stepper.optimizer.optimizer.state.values())
    moments = sum(value.nbytes for state in states for value in state.values())
    peak = measure_peak(torch.device("cpu"), weights + moments, lambda: stepper.take_step(1)).allocated
    known = {"weights": weights, "gradients": sum(gradients.values()), "optimizer": moments}
    pixels = sum(source.float_bytes for source in sources)
    return {**known, "activations": peak + pixels - sum(known.values())}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_takes_what_was_planned(name: str, folders: dict[str, Path]) -> None:
    planned, measured = plan(SETTINGS[name], folders), measure(SETTINGS[name], folders)
    assert planned.teachers + planned.student + planned.trained == measured["weights"]
    assert planned.gradients == measured["gradients"] > 0
    assert planned.optimizer == measured["optimizer"] > 2 * planned.gradients
    assert planned.activations == pytest.approx(measured["activations"], rel=0.1)


def test_a_product_of_few_bits_holds_its_unpacked_weight_for_a_moment(folders: dict[str, Path]) -> None:
    def find_layer(load: Callable[..., LoadedModel]) -> Any:
        model: Any = load(folders["qwen-wide"], quantization="nf4").model
        return model.model.language_model.layers[0].mlp.down_proj

    ledger, few = Ledger(), torch.ones(2, 512)
    layer = find_layer(partial(build_hollow_model, compute_device="cpu"))
    with rehearse(ledger), torch.no_grad():
        layer(few.to("meta"))
    layer = find_layer(load_model)
    with torch.no_grad():
        measured = measure_peak(torch.device("cpu"), 0, lambda: layer(few)).allocated
    assert measured > 4 * layer.in_features * layer.out_features
    assert ledger.peak == pytest.approx(measured, rel=0.15)
