"""What a step of stage two costs with stored and with live signals, beside plain fine-tuning of the student.

    python benchmarks/signals.py --json benchmarks/signals.json

    plain   cross-entropy alone, no upper model
    stored  all three parts of stage two, what the upper models say read from the store and verified
    live    the same with both upper models asked beside the student, in every step

on two workloads: `scenes`, the recipe recipes/scenes/refine.yaml from untuned weights (a judge of 3.4M
parameters in 4 bits and a snapshot teach 0.3M, 32 records a step), and `qwen`, a random Qwen2.5-VL of width
64 with heads as large as real ones (152,064 and 151,936 columns; a teacher and a snapshot, 2 records of 175
tokens a step).

All contenders of a workload run in one process of one thread, on the same records; in a round each takes its
steps in turn. CPU seconds are those of the process for one step; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from distill_step import describe_machine
from step_rows import build_source as build_rows
from step_rows import save_models

from hkdcli.distill.asking import build_teaching, open_stores
from hkdcli.distill.assembly import build_settings, build_source
from hkdcli.distill.levels import Stage, get_start, load_learner
from hkdcli.distill.objective import OnlineObjective
from hkdcli.distill.refine import build_objective, store_signals
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.stepper import Stepper
from hkdcli.distill.upper import plan_coupling
from hkdcli.models.answers import AnswerModel
from hkdcli.opening import open_splits
from hkdcli.recipe_file import build_recipe, read_recipe
from hkdcli.recipe_refine import RefineRecipe
from hkdcli.reporter import SilentReporter
from hkdcli.runs import RunFolder
from hkdcli.runtime import choose_runtime

SCENES = Path(__file__).parents[1] / "recipes" / "scenes" / "refine.yaml"
QWEN = """
name: qwen
data: {train: {scenes: {split: train, size: 2}}}
pyramid:
  - {name: teacher, model: FOLDER/teacher}
  - {name: student, model: FOLDER/student, tuning: full}
refine: {snapshot: true, teacher_check: null}
train: {micro_batch_size: 2}
"""
CONTENDERS = ("plain", "stored", "live")
DEFINITIONS = {
    "cpu_seconds_per_step": "median over the rounds of the mean over a round's steps",
    "ratio_vs_plain": "CPU seconds of a step, contender / plain, median over the rounds",
    "spread": "least and most of the rounds",
    "bytes_per_record": "of the store of an upper model, headers and checksums included",
}


def open_scenes(folder: Path, records: int) -> Stage[RefineRecipe]:
    """The recipe of the scenes, from the shipped weights."""
    changes = ["pyramid.small.model=scenes:small", f"data.train.scenes.size={records}", "data.dev=null"]
    changes += ["data.test=null", "train.evaluate_every=null"]
    recipe = read_recipe(SCENES, RefineRecipe, changes)
    return build_stage(recipe, folder, open_splits(recipe.data, SilentReporter()))


def open_qwen(folder: Path, vocabulary: Sequence[int], tokens: int) -> Stage[RefineRecipe]:
    """Two rows for a random model with heads of real size."""
    save_models(folder, argparse.Namespace(vocabulary=vocabulary, hidden_size=64))
    recipe = build_recipe(QWEN.replace("FOLDER", str(folder)), RefineRecipe)
    return build_stage(recipe, folder, {"train": build_rows(folder, tokens).dataset})


def build_stage(recipe: RefineRecipe, folder: Path, data: Mapping[str, Any]) -> Stage[RefineRecipe]:
    run = RunFolder(folder / "run", resumed=False)
    return Stage(recipe, data, run, choose_runtime("cpu", "float32"), SilentReporter())


def build_stepper(stage: Stage[RefineRecipe], contender: str) -> Stepper:
    """A contender with a student of its own."""
    student = load_learner(stage, stage.base, get_start(stage, stage.base))
    source = build_source(stage, student)
    if contender == "plain":
        objective = OnlineObjective(vocabulary=1, choice_weight=0.0)
        settings = build_settings(stage, stage.base)  # lambda is 0
        return Stepper(AnswerModel(student.model), LiveTeachers(), objective, source, settings)
    coupling = plan_coupling(stage)
    settings = build_settings(stage, stage.base, lambda_schedule=None)
    stores = open_stores(stage, coupling) if contender == "stored" else None
    teaching = build_teaching(stage, coupling, student, source, stores)
    model = AnswerModel(student.model, coupling.states)
    return Stepper(model, teaching, build_objective(stage, coupling), source, settings)


def measure(stage: Stage[RefineRecipe], steps: int, rounds: int) -> dict[str, Any]:
    """Store signals, then let all contenders take the same steps, round by round."""
    stores = store_signals(stage)
    steppers = {name: build_stepper(stage, name) for name in CONTENDERS}
    losses = {name: [take(stepper, 0)] for name, stepper in steppers.items()}  # to warm up
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for turn in range(rounds):
        for name, stepper in steppers.items():
            started = time.process_time()
            losses[name] += [take(stepper, 1 + turn * steps + step) for step in range(steps)]
            seconds[name].append((time.process_time() - started) / steps)
    report: dict[str, Any] = {
        "records_per_step": stage.recipe.pyramid[-1].train.micro_batch_size,
        "bytes_per_record": {row["upper"]: row["bytes_per_record"] for row in stores},
        "loss_difference_stored_live": max(
            abs(one - other) / max(1.0, abs(other))
            for one, other in zip(losses["stored"], losses["live"], strict=True)
        ),
    }
    for name in CONTENDERS:
        ratios = [own / plain for own, plain in zip(seconds[name], seconds["plain"], strict=True)]
        report[name] = {
            "cpu_seconds_per_step": statistics.median(seconds[name]),
            "ratio_vs_plain": statistics.median(ratios),
            "spread": [min(ratios), max(ratios)],
        }
    return report


def take(stepper: Stepper, step: int) -> float:
    return stepper.take_step(step).losses["loss"].item()


def render_table(workloads: Mapping[str, Mapping[str, Any]]) -> str:
    lines = ["| workload | signals | CPU s per step | against plain | spread |", "|---|---|---|---|---|"]
    for workload, report in workloads.items():
        for name in CONTENDERS:
            found = report[name]
            least, most = found["spread"]
            figures = f"{found['cpu_seconds_per_step']:.3f} | {found['ratio_vs_plain']:.2f}"
            lines.append(f"| {workload} | {name} | {figures} | {least:.2f} to {most:.2f} |")
    for workload, report in workloads.items():
        sizes = ", ".join(f"{upper} {size}" for upper, size in report["bytes_per_record"].items())
        lines.append(f"{workload}: bytes per record: {sizes}")
        lines.append(f"{workload}: stored against live loss: {report['loss_difference_stored_live']:.1e}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=5, help="of each contender in a round")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--records", type=int, default=256, help="scenes records whose signals are stored")
    parser.add_argument("--tokens", type=int, default=175, help="of the longer row of qwen")
    parser.add_argument(
        "--vocabulary", type=int, nargs=2, default=[151_936, 152_064], metavar=("STUDENT", "TEACHER")
    )
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    openers: dict[str, Callable[[Path], Stage[RefineRecipe]]] = {
        "scenes": lambda folder: open_scenes(folder, options.records),
        "qwen": lambda folder: open_qwen(folder, options.vocabulary, options.tokens),
    }
    workloads = {}
    for name, open_stage in openers.items():
        with tempfile.TemporaryDirectory() as folder:
            workloads[name] = measure(open_stage(Path(folder)), options.steps, options.rounds)
    print(render_table(workloads))
    if options.json:
        command = " ".join(["python benchmarks/signals.py", *sys.argv[1:]])
        document = {"command": command, **describe_machine(), "definitions": DEFINITIONS}
        options.json.write_text(json.dumps({**document, "workloads": workloads}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
