"""What one training step costs: hkd, TRL's GOLD (off-policy) and a bare loop, on the same rows and loss.

    pip install -c constraints.txt -e ".[bench]"
    python benchmarks/distill_step.py --json benchmarks/distill_step.json

All minimise the forward KL(teacher || student) over the whole vocabulary at the answer tokens of two rows, at
temperature 1, train all weights in float32, clip, and step AdamW. Every contender runs in a fresh process of
one thread, and all of them once in a round:

    gold         trl.experimental.gold.GOLDTrainer with its own data loading and collating
    bare         plain torch, batch in hand: one forward pass per model, the heads at answer positions only
    hkd          the Stepper of a run: images opened from files, collated, losses, clipping, step
    hkd-in-hand  the same with the batch in hand, as the bare loop has it

CPU seconds are those of the process from the end of one step to the end of the next, the first step left out;
the peak is the kernel's mark of resident memory (VmHWM) during the steps, above what is resident before them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from step_contenders import CONTENDERS
from step_rows import save_models

PAIRS = (("hkd", "gold"), ("hkd-in-hand", "bare"))
MEASURED = ("cpu_seconds_per_step", "peak_memory_mb_over_loaded")
PACKAGES = ("torch", "transformers", "accelerate", "trl")
DEFINITIONS = {
    "time_ratio_vs_gold": "CPU seconds per step, GOLD / hkd",
    "memory_ratio_vs_gold": "peak memory over loaded, GOLD / hkd",
    "time_ratio_vs_bare": "CPU seconds per step, hkd-in-hand / bare",
    "memory_ratio_vs_bare": "peak memory over loaded, hkd-in-hand / bare",
    "loss_difference": "largest |hkd - other| / other over the steps",
    "spread": "least and most of the rounds",
}


def compare(
    rounds: Sequence[Mapping[str, Any]],
    pairs: Sequence[tuple[str, str]] = PAIRS,
    definitions: Mapping[str, str] = DEFINITIONS,
) -> dict[str, Any]:
    """Medians over the rounds of every contender, and of how hkd stands to the others.

    Args:
        rounds: what each contender reported, by its name.
        pairs: ours, and what it is compared with.
        definitions: what the ratios are.

    Returns:
        A JSON document. `ValueError` where two contenders had different rows.
    """
    if len({report["rows"] for each in rounds for report in each.values()}) != 1:
        raise ValueError("the contenders did not have the same rows")
    first = rounds[0]
    document: dict[str, Any] = {"definitions": definitions, "loss_difference": {}, "spread": {}}
    document["contenders"] = {
        name: report
        | {key: statistics.median(each[name][key] for each in rounds) for key in MEASURED}
        | {"rounds": {key: [each[name][key] for each in rounds] for key in MEASURED}}
        for name, report in first.items()
    }
    for own, other in pairs:
        if other not in first:
            continue
        losses = zip(first[own]["losses"], first[other]["losses"], strict=True)
        document["loss_difference"][other] = max(abs(mine - theirs) / theirs for mine, theirs in losses)
        for name, key in zip(("time", "memory"), MEASURED, strict=True):
            ratios = [each[other][key] / each[own][key] for each in rounds]
            if other == "bare":
                ratios = [1 / ratio for ratio in ratios]
            document[f"{name}_ratio_vs_{other}"] = statistics.median(ratios)
            document["spread"][f"{name}_ratio_vs_{other}"] = [min(ratios), max(ratios)]
    return document


def run_apart(
    name: str,
    folder: Path,
    options: argparse.Namespace,
    script: Path = Path(__file__),
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """One contender of a script in a process of its own, with one thread and no GPU."""
    out = folder / "report.json"
    command = [sys.executable, script, "--contender", name, "--models", folder, "--json", out]
    command += ["--tokens", options.tokens, "--steps", options.steps, "--hidden-size", options.hidden_size]
    command += ["--vocabulary", *options.vocabulary]
    alone = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    alone["TRL_EXPERIMENTAL_SILENCE"] = "1"
    alone |= environment or {}
    subprocess.run(list(map(str, command)), env=os.environ | alone, check=True, stdout=subprocess.DEVNULL)
    return dict(json.loads(out.read_text()))


def render_table(document: Mapping[str, Any]) -> str:
    lines = ["| | loss | CPU s per step | peak memory over loaded, MB |", "|---|---|---|---|"]
    for name, report in document["contenders"].items():
        figures = f"{report['loss']:.6g} | {report[MEASURED[0]]:.3f} | {report[MEASURED[1]]:.0f}"
        lines.append(f"| {name} | {figures} |")
    for name, (least, most) in document["spread"].items():
        lines.append(f"{name}: {document[name]:.2f} ({least:.2f} to {most:.2f})")
    lines += [f"loss_difference, {name}: {value:.1e}" for name, value in document["loss_difference"].items()]
    return "\n".join(lines)


def describe_machine() -> dict[str, Any]:
    found = {name: version(name) for name in PACKAGES if importlib.util.find_spec(name)}
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {"versions": {"python": platform.python_version(), **found}, "cpu": names[0] if names else ""}


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options on the models that are trained and on their rows."""
    parser.add_argument("--tokens", type=int, default=175, help="of the longer row")
    parser.add_argument(
        "--vocabulary", type=int, nargs=2, default=[151_936, 152_064], metavar=("STUDENT", "TEACHER")
    )
    parser.add_argument("--hidden-size", type=int, default=64, help="of both models that train and teach")
    parser.add_argument("--models", type=Path, help=argparse.SUPPRESS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--without", nargs="+", default=[], choices=("gold", "bare"), help="not to be run")
    add_model_options(parser)
    parser.add_argument("--steps", type=int, default=4, help="of each process; the first is not measured")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each contender")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        torch.set_num_threads(1)
        report = CONTENDERS[options.contender](options.models, options)
        options.json.write_text(json.dumps(report))
        return
    names = [name for name in CONTENDERS if name not in options.without]
    with tempfile.TemporaryDirectory() as folder:
        save_models(Path(folder), options)
        rounds = [
            {name: run_apart(name, Path(folder), options) for name in names} for _ in range(options.rounds)
        ]
    allocator = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("MALLOC_")]
    command = " ".join([*sorted(allocator), "python benchmarks/distill_step.py", *sys.argv[1:]])
    document = {"command": command, **describe_machine(), **compare(rounds)}
    print(render_table(document))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
