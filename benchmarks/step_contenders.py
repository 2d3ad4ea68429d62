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
from step_rows import InHand, build_source, describe_batch, describe_rows, write_for_gold
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from hkdcli.distill.objective import OnlineObjective
from hkdcli.distill.settings import TrainSettings
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.stepper import Stepper
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model, load_processor
from hkdcli.runtime import choose_runtime

LEARNING_RATE, MAX_GRAD_NORM = 1e-4, 1.0


class StepMeter:
    """Notes loss and CPU time at the end of every step, and how far memory rises over them.

    Args:
        models: loaded; weights that are mapped from a file are read here, so that they count as loaded.
    """

    def __init__(self, *models: nn.Module) -> None:
        for parameter in [parameter for model in models for parameter in model.parameters()]:
            parameter.detach().sum()
        self.losses: list[float] = []
        self.ends = [time.process_time()]
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        self.loaded = read_memory("VmRSS")

    def __call__(self, loss: float) -> None:
        """At the end of a step."""
        self.losses.append(loss)
        self.ends.append(time.process_time())

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
        }


def read_memory(name: str) -> float:
    """A figure of this process in MB (10^6 bytes)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name))


def run_hkd(folder: Path, options: argparse.Namespace, *, in_hand: bool) -> dict[str, Any]:
    choose_runtime("cpu", "float32")  # as a run does
    student, teacher = load_model(folder / "student", trainable=True), load_model(folder / "teacher")
    source = build_source(folder, options.tokens)
    held = InHand(source)
    stepper = Stepper(
        AnswerModel(student.model),
        LiveTeachers([AnswerModel(teacher.model)]),
        OnlineObjective(vocabulary=min(options.vocabulary), choice_weight=0.0),
        held if in_hand else source,
        TrainSettings(
            max_steps=options.steps,
            micro_batch_size=2,
            learning_rate=LEARNING_RATE,
            learning_rate_schedule="constant",
            max_grad_norm=MAX_GRAD_NORM,
            lambda_start=1.0,
        ),
    )
    meter = StepMeter(student.model, teacher.model)
    for step in range(options.steps):
        meter(stepper.take_step(step).losses["loss"].item())
    return meter.report() | describe_batch(held.batch)


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


def run_gold(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    import datasets
    from transformers import TrainerCallback
    from trl.experimental.gold import GOLDConfig, GOLDTrainer

    seen: dict[str, Any] = {}

    class Trainer(GOLDTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
            seen.update(inputs, loss=loss.item())
            return loss

    class Watch(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter(seen["loss"])

    source = build_source(folder, options.tokens)
    student, teacher = (
        AutoModelForImageTextToText.from_pretrained(folder / name) for name in ("student", "teacher")
    )
    rows = datasets.Dataset.from_list(
        [write_for_gold(source, example) for example in source.dataset.examples]
    )
    settings = GOLDConfig(
        output_dir=str(folder / "gold"),
        max_steps=options.steps,
        per_device_train_batch_size=2,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=MAX_GRAD_NORM,
        lmbda=0.0,  # no generation: the rows as they are
        beta=0.0,  # forward KL
        temperature=1.0,
        max_length=None,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        student, teacher, settings, None, rows, None, load_processor(folder / "student"), callbacks=[Watch()]
    )
    meter = StepMeter(student, teacher)
    trainer.train()
    return meter.report() | describe_rows(seen["input_ids"], seen["attention_mask"], seen["labels"] >= 0)


CONTENDERS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "gold": run_gold,
    "bare": run_bare,
    "hkd": partial(run_hkd, in_hand=False),
    "hkd-in-hand": partial(run_hkd, in_hand=True),
}
