"""What hkd, TRL's GOLD and transformers' Trainer can do: each answer is what two rows and tiny models showed.

resume        four steps against two, a checkpoint, a new process' objects and two more: are the weights
              restored, and is the end the same bit for bit?
accumulation  is the norm of a step's gradient the same with two rows at once as with one after the other?
not_finite    an infinite gradient in the second of three steps: are all weights finite in the end?
wider_student where the student's head has more columns: does the teacher's head stay as it is?
bad_teacher   is a teacher of random weights found out before it teaches?
teacher       does it learn from a teacher at all?
"""

from __future__ import annotations

import argparse
import inspect
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from step_contenders import build_settings, build_stepper
from step_rows import build_source, save_models
from step_trainers import build_gold, build_plain
from torch import Tensor, nn
from transformers import TrainerCallback

from hkdcli.__main__ import main as run_command
from hkdcli.distill.stepper import Stepper
from hkdcli.distill.trainer import train
from hkdcli.models.loading import load_model
from hkdcli.reporter import SilentReporter

STEPS, HALF = 4, 2
SAME_NORM = 1e-3  # largest relative difference of gradient norms that counts as the same
REFUSED = 6  # the exit code of a gate that is not met
RECIPE = """
name: bad-teacher
data: {train: {scenes: {split: train, size: 32}}}
pyramid:
  - {name: teacher, model: "FOLDER/teacher", train: null}
  - {name: student, model: "FOLDER/student", tuning: full}
train: {max_steps: 1, micro_batch_size: 2}
"""
Weights = dict[str, Tensor]
Found = dict[str, Any]
Build = Callable[..., Any]


class Watch(TrainerCallback):
    """Calls functions, with state and model, at the points of a training that they are named after."""

    def __init__(self, **calls: Callable[[Any, nn.Module], None]) -> None:
        for name, call in calls.items():
            setattr(self, name, lambda _, state, *rest, call=call, **given: call(state, given["model"]))


class Watching(SilentReporter):
    """Keeps the weights that a training of ours begins with, and those after half of its steps."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.weights = model, dict[str, Weights]()

    def start(self, task: str, total: int | None, done: int = 0) -> None:
        """At the begin, after a checkpoint was read."""
        self.weights["begin"] = copy_weights(self.model)

    def advance(self, done: int, **figures: Any) -> None:
        """After each step."""
        if done == HALF:
            self.weights["half"] = copy_weights(self.model)


def copy_weights(model: nn.Module) -> Weights:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def judge_resume(saved: Weights, begun: Weights, end: Weights, resumed_end: Weights) -> Found:
    """Able where the resumed training began with what was saved, and ended as the other one."""
    restored, ended = (
        sum(torch.equal(one[name], other[name]) for name in one)
        for one, other in ((saved, begun), (end, resumed_end))
    )
    total = len(saved)
    found = f"{restored} of {total} tensors restored, {ended} of {total} the same in the end"
    return {"able": restored == ended == total, "found": found}


def judge_norms(together: float, apart: float) -> Found:
    """Able where both norms of a gradient are the same."""
    able = math.isclose(together, apart, rel_tol=SAME_NORM)
    return {"able": able, "found": f"norm {apart:.4g} in two micro-batches, {together:.4g} in one"}


def judge_finite(model: nn.Module) -> Found:
    """Able where all weights are finite."""
    bad = sum(not torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    return {"able": bad == 0, "found": f"{bad} of {len(model.state_dict())} tensors not finite"}


def judge_head(before: int, after: int) -> Found:
    """Able where a teacher's head has the columns that it had."""
    return {"able": before == after, "found": f"the teacher's head had {before} columns, and has {after}"}


def poison(model: nn.Module) -> Callable[[bool], None]:
    """Make a gradient of a model infinite, while the function that comes back was last called with True."""
    factor = [1.0]
    next(model.parameters()).register_hook(lambda gradient: gradient * factor[0])

    def turn(on: bool) -> None:
        factor[0] = math.inf if on else 1.0

    return turn


def examine_trainer(build: Build, folder: Path, options: argparse.Namespace) -> dict[str, Found | None]:
    """What a trainer of others can do; None where there is nothing to ask."""
    options = argparse.Namespace(**{**vars(options), "steps": STEPS})
    accepted = inspect.signature(type(build(folder, options)).__mro__[1]).parameters
    taught = ", ".join(name for name in accepted if "teacher" in name)
    found: dict[str, Found | None] = {
        "teacher": {"able": bool(taught), "found": f"its constructor takes {taught or 'no teacher'}"},
        "resume": _resume_trainer(build, folder, options),
        "accumulation": judge_norms(*(_find_norm(build, folder, options, rows) for rows in (2, 1))),
        "not_finite": _poison_trainer(build, folder, options),
    }
    if not taught:
        return found | {"wider_student": None, "bad_teacher": None}
    wider = build(save_wider_student(folder, options), options, max_steps=1)
    wider.train()
    done = build(folder, options)
    done.train()
    steps = done.state.global_step
    return found | {
        "wider_student": judge_head(min(options.vocabulary), count_columns(wider.teacher_model)),
        "bad_teacher": {"able": steps < STEPS, "found": f"learned from it for {steps} steps"},
    }


def _resume_trainer(build: Build, folder: Path, options: argparse.Namespace) -> Found:
    out, kept = folder / f"resume-{build.__name__}", dict[str, Weights]()

    def keep_half(state: Any, model: nn.Module) -> None:
        if state.global_step == HALF:
            kept["half"] = copy_weights(model)

    saving = {"output_dir": str(out), "save_strategy": "steps", "save_steps": HALF}
    whole, again = build(folder, options, **saving), build(folder, options, **saving)
    whole.add_callback(Watch(on_step_end=keep_half))
    whole.train()
    again.add_callback(Watch(on_train_begin=lambda _, model: kept.update(begin=copy_weights(model))))
    again.train(resume_from_checkpoint=str(out / f"checkpoint-{HALF}"))
    return judge_resume(kept["half"], kept["begin"], copy_weights(whole.model), copy_weights(again.model))


def _find_norm(build: Build, folder: Path, options: argparse.Namespace, rows: int) -> float:
    """Of the gradient of the first step, before any clipping."""
    norms: list[float] = []

    def note(_: Any, model: nn.Module) -> None:
        gradients = [each.grad for each in model.parameters() if each.grad is not None]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())

    cut = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": 2 // rows}
    trainer = build(folder, options, max_steps=1, max_grad_norm=0.0, **cut)
    trainer.add_callback(Watch(on_pre_optimizer_step=note))
    trainer.train()
    return norms[0]


def _poison_trainer(build: Build, folder: Path, options: argparse.Namespace) -> Found:
    trainer = build(folder, options, max_steps=3)
    turn = poison(trainer.model)
    trainer.add_callback(Watch(on_step_begin=lambda state, _: turn(state.global_step == 1)))
    trainer.train()
    return judge_finite(trainer.model)


def count_columns(model: Any) -> int:
    return len(model.get_output_embeddings().weight)


def save_wider_student(folder: Path, options: argparse.Namespace) -> Path:
    """The same models with their vocabularies exchanged, in a folder of their own."""
    wider = folder / "wider"
    wider.mkdir(exist_ok=True)
    save_models(wider, argparse.Namespace(**{**vars(options), "vocabulary": options.vocabulary[::-1]}))
    return wider


def examine_hkd(folder: Path, options: argparse.Namespace) -> dict[str, Found]:
    """The same of hkd."""
    options = argparse.Namespace(**{**vars(options), "steps": STEPS})
    poisoned = _build(folder, options)
    turn = poison(poisoned.modules["student"])
    for step in range(3):
        turn(step == 1)
        poisoned.take_step(step)
    shapes = ({}, {"micro_batch_size": 1, "gradient_accumulation_steps": 2})
    norms = [_build(folder, options, **shape).take_step(0).grad_norm.item() for shape in shapes]
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("FOLDER", str(folder)))
    code = run_command(["distill-online", str(recipe), "--out", str(folder / "run"), "--overwrite"])
    wider = _build(save_wider_student(folder, options), options)
    wider.take_step(0)
    (teacher,) = wider.signals.teachers
    return {
        "teacher": {"able": True, "found": "took steps with one"},
        "resume": _resume_hkd(folder, options),
        "accumulation": judge_norms(*norms),
        "not_finite": judge_finite(poisoned.modules["student"]),
        "wider_student": judge_head(min(options.vocabulary), count_columns(teacher.model)),
        "bad_teacher": {"able": code == REFUSED, "found": f"hkd distill-online: exit {code}"},
    }


def _build(folder: Path, options: argparse.Namespace, **changes: Any) -> Stepper:
    student, teacher = load_model(folder / "student", trainable=True), load_model(folder / "teacher")
    settings = replace(build_settings(options, taught=True), **changes)
    source = build_source(folder, options.tokens)
    return build_stepper(student.model, [teacher.model], source, settings, options)


def _resume_hkd(folder: Path, options: argparse.Namespace) -> Found:
    whole, again = folder / "whole", folder / "again"
    seen: list[Mapping[str, Weights]] = []
    ends: list[Weights] = []
    for place in (whole, again):
        built = _build(folder, options, checkpoint_every=HALF)
        student = built.modules["student"]
        watching = Watching(student)
        parts = (student, built.signals, built.objective, built.source, built.settings)
        train(*parts, place, watching, resume=place is again)
        seen.append(watching.weights)
        ends.append(copy_weights(student))
        if place is whole:
            shutil.copytree(whole, again)
            shutil.rmtree(again / "checkpoints" / f"step-{STEPS:06d}")
    return judge_resume(seen[0]["half"], seen[1]["begin"], *ends)


EXAMINED: dict[str, Callable[[Path, argparse.Namespace], Mapping[str, Found | None]]] = {
    "hkd": examine_hkd,
    "gold": partial(examine_trainer, build_gold),
    "trainer": partial(examine_trainer, build_plain),
}
