"""What the plan says of real shapes against what one GPU shows: memory, time, and orders of the choices.

    python benchmarks/gpu/one_gpu.py --json benchmarks/gpu/one_gpu.json --write docs/results/gpu.md

No weight is downloaded: Qwen2.5-VL-3B to 72B are built with random weights in their true shapes, those of 4
bits as packed bytes on the device, and read made-up records with pictures of noise.

    7b-3b, 32b-7b, 72b-7b   a frozen teacher in nf4, a student that learns through LoRA (rank 16) in bfloat16,
                            with gradient checkpointing: steps of the Stepper, images opened and collated
    72b-lora                the 72B in nf4 that learns through LoRA itself, from labels alone, one example at
                            once
    shift-7b, shift-7b-nf4  the exact posterior over all legal answers in one order of the choices and in all

Every case runs in a process of its own. One that does not fit by the plan, or runs out of memory, says so,
and the others go on. --tiny runs the same on a CPU with tiny shapes in float32; its seconds mean nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from device_figures import ran_out
from flops import PEAK_TFLOPS
from gpu_cases import CASES, Asking, Lesson, Shapes
from gpu_shifts import measure_asking
from gpu_steps import LessonBench, measure_widths, plan_lesson
from gpu_table import render_page, render_tables

from hkdcli.planning.room import choose_room
from hkdcli.planning.staging import Machine
from hkdcli.runtime import choose_runtime

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
DEFINITIONS = {
    "planned": "the most bytes of all tensors in a step, counted in a rehearsal without weights",
    "measured": "the most bytes of all tensors in a step after two others, by torch's allocator",
    "reserved": "what the allocator had taken of the card by then",
    "seconds_per_step": "of the wall, median of the timed steps, images opened and collated",
    "tokens_per_second": "tokens that student and teacher have read",
    "share_of_peak": "operations of matrix products, convolutions and attention per second of a step, those "
    "that checkpointing does again included, over the card's peak in dense bfloat16",
    "all_over_one": "seconds for all orders of the choices over seconds for one",
}


def measure_case(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Plan and measure one case in this process.

    Args:
        name: of the case.
        options: of the command line.

    Returns:
        Its report, with what it ran on.
    """
    runtime = choose_runtime(options.device, "float32" if options.tiny else "auto")
    device = runtime.device
    shapes = Shapes(Machine(device.type, runtime.dtype), options.tiny)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    case = CASES[name]
    if isinstance(case, Asking):
        return {"card": card, **measure_asking_or_say(case, shapes, options.steps, device)}
    widths = [width for width in options.micro_batch_sizes if width <= (case.most or width)]
    widths = widths or [case.most or 1]
    reports = measure_widths(
        lambda: LessonBench(case, shapes, max(8, *widths), device),
        plan_lesson(case, shapes, widths),
        choose_room(device.type).fits,
        options.steps,
        options.peak_tflops or PEAK_TFLOPS.get(card or ""),
    )
    outcomes = {report["outcome"] for report in reports}
    return {"card": card, "widths": reports, "outcome": " or ".join(sorted(outcomes))}


def measure_asking_or_say(case: Asking, shapes: Shapes, rounds: int, device: torch.device) -> dict[str, Any]:
    """What is measured of inference, or that memory ran out."""
    try:
        return measure_asking(case, shapes, rounds, device)
    except Exception as error:
        if not ran_out(error):
            raise
        return {"outcome": "out of memory"}


def run_apart(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One case in a process of its own; one that dies is reported with its last word."""
    kind = {"kind": "lesson" if isinstance(CASES[name], Lesson) else "asking"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.json"
        command = [sys.executable, __file__, *sys.argv[1:], "--only", name, "--report", str(out)]
        code, last = follow(command)
        if code == 0:
            return kind | dict(json.loads(out.read_text()))
    return kind | {"card": None, "outcome": f"failed: {f'signal {-code}' if code < 0 else last}"}


def follow(command: list[str]) -> tuple[int, str]:
    """Run a command and pass on what it says to stderr; its exit code and last line."""
    last = ""
    with subprocess.Popen(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True) as child:
        for line in child.stderr or ():
            print(line, end="", file=sys.stderr)
            last = line.strip() or last
    return child.returncode, last


def run_all(options: argparse.Namespace) -> dict[str, Any]:
    """All cases, one after the other; says on stderr how far it is."""
    document: dict[str, Any] = {
        "command": " ".join(["python benchmarks/gpu/one_gpu.py", *sys.argv[1:]]),
        "card": None,
        "versions": {name: version(name) for name in PACKAGES},
        "definitions": DEFINITIONS,
        "cases": {},
    }
    for name in options.cases:
        started = time.perf_counter()
        report = run_apart(name, options)
        document["card"] = report.pop("card") or document["card"]
        document["cases"][name] = report | {"seconds_in_all": time.perf_counter() - started}
        print(f"{name}: {report['outcome']}, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return document


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--micro-batch-sizes", default="1,2,4", help="examples at once, with commas between them"
    )
    parser.add_argument("--steps", type=int, default=5, help="timed of each")
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda, with --tiny cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes in float32")
    parser.add_argument("--peak-tflops", type=float, help="of the card, where it is not known by its name")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--write", type=Path, help="where a page with the tables goes")
    parser.add_argument("--only", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.micro_batch_sizes = [int(size) for size in options.micro_batch_sizes.split(",")]
    options.device = options.device or ("cpu" if options.tiny else "cuda")
    return options


def main() -> None:
    options = read_options()
    if options.only:
        options.report.write_text(json.dumps(measure_case(options.only, options)), "utf-8")
        return
    document = run_all(options)
    print(render_tables(document))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    if options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(render_page(document), "utf-8")


if __name__ == "__main__":
    main()
