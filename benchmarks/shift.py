"""What it costs to ask a record in several orders of its choices, with its prefix reused and without.

    python benchmarks/shift.py --json benchmarks/shift.json

    reuse           Scorer: the exact posterior over all legal answers, 8 records at once
    whole           Scorer(reuse_prefix=False): one whole pass for each order and answer, the same numbers
    letters         one whole pass for each order, the first letter's probabilities alone, 8 records at once
    generate        model.generate for each order, 8 new tokens, 8 records at once: an answer, no posterior
    generate-short  the same with 2 new tokens: a letter and the end of the turn
    generate-alone  generate, one record at a time
    one-image       reuse, 4 records of one image at once
    four-images     reuse, the same 4 records with an image each

on LLaVAs of random weights that see an image as 64, 256 and 1,024 tokens, with records of both tasks in turn
and four choices each. Seconds cover all that a contender does from loaded pictures to numbers. All run in one
process of one thread, each once in a round; ratios are taken within a round. `whole` runs once, on a few
records of the batch, and the run fails unless `reuse` gave the same numbers for them. `batch_sizes`: records
per second of scenes:small at several batch sizes.

Seconds are CPU seconds of the process, on a GPU wall seconds with the device waited for.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from distill_step import describe_machine
from shift_contenders import SHIFTS, Workload, list_contenders, open_random, open_scenes, score
from shift_rows import describe_model

from hkdcli.inference.scoring import Scorer
from hkdcli.inference.shift import shifted_presentations
from hkdcli.runtime import choose_runtime

TOLERANCE = 1e-4
RATIOS = {
    "shift4_over_1": ("reuse 4", "reuse 1"),
    "letters4_over_reuse4": ("letters 4", "reuse 4"),
    "generate4_over_reuse4": ("generate 4", "reuse 4"),
    "generate1_over_reuse1": ("generate 1", "reuse 1"),
    "generate1_over_reuse4": ("generate 1", "reuse 4"),
    "one_image1": ("one-image 1", "four-images 1"),
    "one_image4": ("one-image 4", "four-images 4"),
}
"""Name -> what is divided by what, as contender and orders."""
DEFINITIONS = {
    "seconds_per_record": "median over the rounds, CPU (on a GPU: wall); keys are contender and orders",
    "wall_seconds_per_record": "median over the rounds",
    "records_per_second": "1 / seconds_per_record",
    "spread": "least and most of the rounds",
    "difference": "largest |log p of reuse - log p of whole|, over records, orders and answers",
    "batch_sizes": "records per second of scenes:small, by batch size",
    **{
        name: f"seconds of {above} / {below}, median over the rounds"
        for name, (above, below) in RATIOS.items()
    },
}


class Seconds(NamedTuple):
    """Of the process, on all its threads; and of the clock on the wall."""

    cpu: float
    wall: float


def take_seconds(work: Workload, run: Callable[[Workload], Any]) -> tuple[Seconds, Any]:
    """What a call costs for each record, and what came back; a GPU is waited for before and after."""
    wait = torch.cuda.synchronize if work.device.type == "cuda" else lambda: None
    wait()
    started = time.process_time(), time.perf_counter()
    result = run(work)
    wait()
    cpu, wall = time.process_time() - started[0], time.perf_counter() - started[1]
    return Seconds(cpu / len(work.examples), wall / len(work.examples)), result


def check_whole(work: Workload, records: int) -> tuple[dict[str, Seconds], float]:
    """Run `whole` for every number of orders: its seconds, and how far `reuse` is from it at most.

    Args:
        work: a batch, which `reuse` is asked at once.
        records: how many of it are asked in whole passes, one for each answer and order.

    Returns:
        Both. `ValueError` where the two do not agree.
    """
    seconds, apart, few = {}, 0.0, work.take(records)
    for shifts in SHIFTS:
        seconds[f"whole {shifts}"], slow = take_seconds(few, partial(score, shifts=shifts, reuse=False))
        for one, other in zip(score(work, shifts), slow, strict=False):
            apart = max(apart, float(np.abs(one.log_probs - other.log_probs).max()))
    if not apart <= TOLERANCE:
        raise ValueError(f"reused prefixes are off by {apart:.1e} from whole passes: no figures are given")
    return seconds, apart


def measure(work: Workload, rounds: int, whole_records: int) -> dict[str, Any]:
    """Medians over the rounds of every contender at one number of image tokens."""
    whole, difference = check_whole(work, whole_records)
    runs = list_contenders(work)
    spent: dict[str, list[Seconds]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, contender in runs.items():
            seconds, _ = take_seconds(*contender)
            if turn:  # the first round warms up
                spent[name].append(seconds)
    spent |= {name: [seconds] for name, seconds in whole.items()}
    compared = _choose_clock(work)
    ratios = {
        name: [compared(one) / compared(other) for one, other in zip(spent[above], spent[below], strict=True)]
        for name, (above, below) in RATIOS.items()
    }
    medians = {name: statistics.median(map(compared, each)) for name, each in spent.items()}
    return {
        "tokens": describe_tokens(work),
        "difference": difference,
        "seconds_per_record": medians,
        "wall_seconds_per_record": {n: statistics.median(s.wall for s in each) for n, each in spent.items()},
        "records_per_second": {name: 1 / seconds for name, seconds in medians.items()},
        **{name: statistics.median(each) for name, each in ratios.items()},
        "spread": {name: [min(each), max(each)] for name, each in ratios.items()},
    }


def _choose_clock(work: Workload) -> Callable[[Seconds], float]:
    """CPU seconds, which other work on the machine hardly changes; on a GPU those of the wall."""
    return (lambda seconds: seconds.wall) if work.device.type == "cuda" else (lambda seconds: seconds.cpu)


def describe_tokens(work: Workload) -> dict[str, list[int]]:
    """Tokens before the choices, and of the choices in one order, of the first record of each task."""
    two = work.take(2)
    shown = [shifted_presentations(example, 1) for example in two.examples]
    prepared = Scorer(work.loaded).prepare(two.examples, two.images, shown)
    suffixes = [len(row[0]) for row in prepared.suffixes]
    return {"before_choices": list(prepared.prefixes.lengths), "choices": suffixes}


def measure_batch_sizes(work: Workload, sizes: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    """Records per second of the same records at each batch size, with 1 and 4 orders: medians."""

    def score_all(work: Workload, size: int, shifts: int) -> None:
        for start in range(0, len(work.examples), size):
            part = slice(start, start + size)
            score(replace(work, examples=work.examples[part], images=work.images[part]), shifts)

    compared = _choose_clock(work)
    found: dict[str, dict[str, float]] = {}
    for shifts in (1, 4):
        spent: dict[int, list[float]] = {size: [] for size in sizes}
        for turn in range(rounds + 1):
            for size in sizes:
                seconds, _ = take_seconds(work, partial(score_all, size=size, shifts=shifts))
                if turn:
                    spent[size].append(compared(seconds))
        found[f"{shifts} orders"] = {str(size): 1 / statistics.median(spent[size]) for size in sizes}
    return found


def render_table(document: Mapping[str, Any]) -> str:
    by_tokens = document["image_tokens"]
    lines = ["| contender | orders | " + " | ".join(by_tokens) + " |", "|---|---|" + "---|" * len(by_tokens)]
    for name in next(iter(by_tokens.values()))["seconds_per_record"]:
        contender, shifts = name.split()
        cells = [f"{report['seconds_per_record'][name]:.4f}" for report in by_tokens.values()]
        lines.append(f"| {contender} | {shifts} | " + " | ".join(cells) + " |")
    for name in RATIOS:
        cells = [
            f"{report[name]:.2f} ({report['spread'][name][0]:.2f} to {report['spread'][name][1]:.2f})"
            for report in by_tokens.values()
        ]
        lines.append(f"{name}: " + ", ".join(cells))
    lines += [f"tokens, {count}: {report['tokens']}" for count, report in by_tokens.items()]
    lines += [f"difference, {count}: {report['difference']:.1e}" for count, report in by_tokens.items()]
    for orders, speeds in document["batch_sizes"].items():
        told = ", ".join(f"{speed:.0f} at {size}" for size, speed in speeds.items())
        lines.append(f"scenes:small, {orders}, records per second: {told}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[8, 16, 32], help="image patches along a side"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--whole-records", type=int, default=2, help="on which whole passes are run")
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = choose_runtime(options.device, "float32").device
    command = " ".join(["python benchmarks/shift.py", *sys.argv[1:]])
    gpu = {"gpu": torch.cuda.get_device_name()} if device.type == "cuda" else {}
    document: dict[str, Any] = {"command": command, **describe_machine(), **gpu, "definitions": DEFINITIONS}
    document["image_tokens"] = {}
    for side in options.sides:
        work = open_random(side, device, options.vocabulary)
        document["parameters"] = describe_model(work.loaded.model)
        document["image_tokens"][str(side**2)] = measure(work, options.rounds, options.whole_records)
    document["batch_sizes"] = measure_batch_sizes(open_scenes(128, device), (1, 8, 32, 128), options.rounds)
    document["shift4_over_1"] = {
        tokens: report["shift4_over_1"] for tokens, report in document["image_tokens"].items()
    }
    print(render_table(document))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
