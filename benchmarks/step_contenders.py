"""The contenders of the benchmark of a step: each takes the folder of the models, and reports."""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from step_rows import InHand, build_source, describe_batch, describe_rows
from step_trainers import LEARNING_RATE, MAX_GRAD_NORM, build_gold
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from hkdcli.distill.objective import OnlineObjective
from hkdcli.distill.settings import TrainSettings
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.sources import BatchSource
from hkdcli.distill.stepper import Stepper
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model
from hkdcli.runtime import choose_runtime


class StepMeter:
    """Notes what steps cost: loss and CPU time at the end of each, memory, tokens that a head is run on.

    Args:
        models: loaded; weights that are mapped from a file are read here, so that they count as loaded.
    """

    def __init__(self, *models: nn.Module) -> None:
        for parameter in [parameter for model in models for parameter in model.parameters()]:
            parameter.detach().sum()
        for model in models:
            model.get_output_embeddings().register_forward_hook(self._count_rows)
        self.head_rows = 0
        self.losses: list[float] = []
        self.ends = [time.process_time()]
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        self.loaded = read_memory("VmRSS")

    def __call__(self, loss: float) -> None:
        """At the end of a step."""
        self.losses.append(loss)
        self.ends.append(time.process_time())

    def _count_rows(self, head: nn.Module, inputs: Any, logits: Tensor) -> None:
        self.head_rows = max(self.head_rows, logits.numel() // logits.shape[-1])

    def report(self) -> dict[str, Any]:
        """What the steps have cost, the first one's time left out."""
        peak = read_memory("VmHWM")
        steps = [after - before for before, after in itertools.pairwise(self.ends[1:])]
        return {
            "loss": self.losses[0],
            "losses": self.losses,
            "cpu_seconds_per_step": statistics.median(steps),
            "peak_memory_mb_over_loaded": peak - self.loaded,
            "loaded_mb": self.loaded,
            "head_rows": self.head_rows,
        }


def read_memory(name: str) -> float:
    """A figure of this process in MB (10^6 bytes)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name))


def run_hkd(
    folder: Path, options: argparse.Namespace, *, in_hand: bool = False, taught: bool = True
) -> dict[str, Any]:
    """A step of hkd with a teacher, or on labels alone; its batch read in every step, or in hand."""
    choose_runtime("cpu", "float32")  # as a run does
    student = load_model(folder / "student", trainable=True)
    teachers = [load_model(folder / "teacher").model] if taught else []
    source = build_source(folder, options.tokens)
    held = InHand(source)
    settings = build_settings(options, taught)
    stepper = build_stepper(student.model, teachers, held if in_hand else source, settings, options)
    meter = StepMeter(student.model, *teachers)
    for step in range(options.steps):
        meter(stepper.take_step(step).losses["loss"].item())
    return meter.report() | describe_batch(held.batch)


def build_settings(options: argparse.Namespace, taught: bool) -> TrainSettings:
    """Of a training of the two rows at once."""
    return TrainSettings(
        max_steps=options.steps,
        micro_batch_size=2,
        learning_rate=LEARNING_RATE,
        learning_rate_schedule="constant",
        max_grad_norm=MAX_GRAD_NORM,
        lambda_start=float(taught),
    )


def build_stepper(
    student: nn.Module,
    teachers: list[nn.Module],
    source: BatchSource,
    settings: TrainSettings,
    options: argparse.Namespace,
) -> Stepper:
    """The forward KL over the whole vocabulary; without lambda the cross-entropy alone."""
    signals = LiveTeachers([AnswerModel(teacher) for teacher in teachers])
    objective = OnlineObjective(vocabulary=min(options.vocabulary), choice_weight=0.0)
    return Stepper(AnswerModel(student), signals, objective, source, settings)


def run_bare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    student, teacher = (
        AutoModelForImageTextToText.from_pretrained(folder / name) for name in ("student", "teacher")
    )
    student.train()
    teacher.eval()
    batch = InHand(build_source(folder, options.tokens)).batch
    where, columns = (batch.answer_rows, batch.answer_columns), min(options.vocabulary)
    optimizer = torch.optim.AdamW(student.parameters(), LEARNING_RATE, weight_decay=0.0, fused=True)

    def score(model: Any) -> Tensor:
        hidden = model.model(**batch.model_inputs, use_cache=False).last_hidden_state[where]
        return F.log_softmax(model.lm_head(hidden)[:, :columns], dim=-1)

    meter = StepMeter(student, teacher)
    for _ in range(options.steps):
        with torch.no_grad():
            wanted = score(teacher)
        loss = F.kl_div(score(student), wanted, reduction="sum", log_target=True) / len(wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        meter(loss.item())
    return meter.report() | describe_batch(batch)


def run_trainer(
    folder: Path, options: argparse.Namespace, *, build: Callable[[Path, argparse.Namespace], Any]
) -> dict[str, Any]:
    """A trainer of others, with its own data loading."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter(trainer.seen["loss"])

    trainer = build(folder, options)
    trainer.add_callback(Watch())
    teacher = getattr(trainer, "teacher_model", None)
    meter = StepMeter(trainer.model, *([] if teacher is None else [teacher]))
    trainer.train()
    seen = trainer.seen
    return meter.report() | describe_rows(seen["input_ids"], seen["attention_mask"], seen["labels"] >= 0)


CONTENDERS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "gold": partial(run_trainer, build=build_gold),
    "bare": run_bare,
    "hkd": run_hkd,
    "hkd-in-hand": partial(run_hkd, in_hand=True),
}
