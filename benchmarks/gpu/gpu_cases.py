"""What is measured: which model teaches which, in true shapes, hollow or with random weights."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from random_weights import fill_with_random

from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.data.images import LoadedImage, compute_pixel_hash
from hkdcli.distill.objective import OnlineObjective
from hkdcli.distill.settings import TrainSettings
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.sources import DatasetSource
from hkdcli.models.adapters import attach_lora
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import LoadedModel
from hkdcli.models.memory import enable_gradient_checkpointing
from hkdcli.models.quantization import Quantization
from hkdcli.planning.hollow import build_from_config
from hkdcli.planning.known_models import KnownModel, build_config, build_processor, list_known_models
from hkdcli.planning.records import make_up_records
from hkdcli.planning.staging import Machine

_FAMILY = "Qwen/Qwen2.5-VL-{}-Instruct"
_PICTURE, _TINY_PICTURE = (640, 480), (320, 240)
_RANK, _ALPHA = 16, 32


@dataclass(frozen=True, slots=True)
class Lesson:
    """A training: a frozen teacher in nf4, None: labels alone; a student that learns through LoRA."""

    teacher: str | None
    student: str
    quantization: Quantization = "none"  # of the student
    most: int | None = None  # examples at once


@dataclass(frozen=True, slots=True)
class Asking:
    """Inference: a model that is asked in one order of the choices and in all."""

    model: str
    quantization: Quantization


CASES: dict[str, Lesson | Asking] = {
    "7b-3b": Lesson("7B", "3B"),
    "32b-7b": Lesson("32B", "7B"),
    "72b-7b": Lesson("72B", "7B"),
    "72b-lora": Lesson(None, "72B", "nf4", most=1),
    "shift-7b": Asking("7B", "none"),
    "shift-7b-nf4": Asking("7B", "nf4"),
}


class NoisePictures:
    """Pictures of random pixels, another for each name: nothing that a model sees is constant."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def load(self, name: str) -> LoadedImage:
        """The picture of a name."""
        width, height = self.size
        image = Image.frombytes("RGB", self.size, random.Random(name).randbytes(width * height * 3))
        return LoadedImage(image, compute_pixel_hash(image))


@dataclass(frozen=True, slots=True)
class Shapes:
    """Where models and records come from.

    Attributes:
        machine: device and number type of the run.
        tiny: small stand-ins for models and pictures, to be tried on a CPU.
    """

    machine: Machine
    tiny: bool

    def open_records(self, count: int) -> Dataset:
        """Made-up records with pictures of noise."""
        made = make_up_records(count)
        return Dataset(made.name, made.examples, NoisePictures(_TINY_PICTURE if self.tiny else _PICTURE))

    def build(self, size: str, quantization: Quantization, device: torch.device | None) -> LoadedModel:
        """Build a frozen model.

        Args:
            size: as in its name.
            quantization: how its weights are held.
            device: where random ones are made; None: it stays hollow.

        Returns:
            The model, and the processor of its family.
        """
        known = list_known_models()[_FAMILY.format(size)]
        processor = build_processor(known.family["model_type"])
        model = build_from_config(
            build_config(_shrink(known, size) if self.tiny else known, processor.tokenizer),
            quantization=quantization,
            dtype=self.machine.dtype,
            compute_device=self.machine.device,
        )
        if device is not None:
            fill_with_random(model, device)
        return LoadedModel(model.eval().requires_grad_(False), processor, size, None, quantization)


@dataclass(frozen=True, slots=True)
class BuiltLesson:
    """What a stepper takes, but for how many examples at once."""

    student: AnswerModel
    teachers: LiveTeachers
    objective: OnlineObjective
    source: DatasetSource
    taught: bool

    def choose_settings(self, width: int) -> TrainSettings:
        """Half of the loss is the teacher's, where there is one."""
        return TrainSettings(max_steps=1000, micro_batch_size=width, lambda_start=0.5 if self.taught else 0.0)


def build_lesson(lesson: Lesson, shapes: Shapes, records: int, device: torch.device | None) -> BuiltLesson:
    """Build the models of a lesson as a run would have them.

    Args:
        lesson: who learns from whom.
        shapes: where they come from.
        records: how many there are to learn from.
        device: where they are; None: hollow.

    Returns:
        Student with a fresh adapter, and its teacher.
    """
    teacher = None if lesson.teacher is None else shapes.build(lesson.teacher, "nf4", device)
    loaded = shapes.build(lesson.student, lesson.quantization, device)
    with torch.device(device or "meta"):
        student = attach_lora(loaded.model, rank=_RANK, alpha=_ALPHA)
    enable_gradient_checkpointing(student)
    return BuiltLesson(
        AnswerModel(student),
        LiveTeachers([] if teacher is None else [AnswerModel(teacher.model)]),
        OnlineObjective(vocabulary=len(loaded.processor.tokenizer)),
        DatasetSource(shapes.open_records(records), Collator(loaded.processor)),
        teacher is not None,
    )


def _shrink(known: KnownModel, size: str) -> KnownModel:
    """A model of the same make with few and narrow layers; a larger one is still larger."""
    heads = {"3B": 4, "7B": 6, "32B": 8, "72B": 8}[size]
    hidden = 16 * heads
    text: dict[str, Any] = known.shape["text_config"] | {
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": 4,
        "num_attention_heads": heads,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
    }
    vision: dict[str, Any] = known.shape["vision_config"] | {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": hidden,
        "fullatt_block_indexes": [1],
    }
    shape = known.shape | {"text_config": text, "vision_config": vision}
    return KnownModel(f"tiny {known.name}", shape, known.family)
