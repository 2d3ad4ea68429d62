"""What hkd, TRL's GOLD, transformers' Trainer and a `generate` loop cost and could not do, on a CPU.

    pip install -c constraints.txt -e ".[bench]"
    python benchmarks/peers.py --json docs/results/peers.json --write docs/results/peers.md

Training, each contender in fresh processes of one thread, once in a round, on the rows and weights of
`distill_step.py`:

    hkd          forward KL to a teacher at the answer tokens
    gold         the same by trl.experimental.gold.GOLDTrainer, off-policy
    hkd-labels   cross-entropy at the answer tokens, no teacher
    trainer      the same by transformers.Trainer, labels -100 outside the answer
    ...-kept     as above; glibc told to keep freed memory, as hkd tells it on a CPU

No figures are given where contenders of one objective differ in the loss of their first step. What each could
not do is tried out (`peers_abilities.py`), inference is `peers_inference.py`, the page `peers_page.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from distill_step import add_model_options, compare, describe_machine, run_apart
from peers_abilities import EXAMINED
from peers_inference import MODELS, measure
from peers_page import render_page
from step_contenders import run_hkd, run_trainer
from step_rows import save_models
from step_trainers import build_gold, build_plain

from hkdcli.runtime import choose_runtime

KEPT = {"MALLOC_MMAP_THRESHOLD_": "1000000000", "MALLOC_TRIM_THRESHOLD_": "1000000000"}
TRAINED = ("hkd", "gold", "gold-kept", "hkd-labels", "trainer", "trainer-kept")
PAIRS = (
    ("hkd", "gold"),
    ("hkd", "gold-kept"),
    ("hkd-labels", "trainer"),
    ("hkd-labels", "trainer-kept"),
)
"""Ours, and the one of the same objective."""
TOLERANCE = 1e-5
CONTENDERS: dict[str, Callable[[Path, argparse.Namespace], Any]] = {
    "hkd": run_hkd,
    "gold": partial(run_trainer, build=build_gold),
    "hkd-labels": partial(run_hkd, taught=False),
    "trainer": partial(run_trainer, build=build_plain),
    **{f"abilities-{name}": examine for name, examine in EXAMINED.items()},
}
DEFINITIONS = {
    "cpu_seconds_per_step": "of the process, median over the steps after the first, median over the rounds",
    "peak_memory_mb_over_loaded": "VmHWM of the steps less what is resident before them, 10^6 bytes, median",
    "time_ratio_vs_...": "CPU seconds per step, the other / hkd of its objective, within a round, median",
    "memory_ratio_vs_...": "the same of peak memory over loaded",
    "loss_difference": "largest |hkd - other| / other over the steps",
    "head_rows": "most tokens that a head gave logits for at once",
    "scored": "answer tokens of the rows",
    "spread": "least and most of the rounds",
    "abilities": "able: whether it could; found: what the run showed; null: nothing to ask",
    "cpu_seconds_per_record": "of the process, from loaded pictures to answers, median over the rounds",
    "answered, unread, illegal": "records by what came back; the lenient parser of `evaluate` reads texts",
    "posteriors": "records with a probability for every legal answer, together 1",
    "same_answer_alone": "records with the same answer alone as in a batch",
}


def check_losses(document: Mapping[str, Any]) -> None:
    """`ValueError` where the losses of the first step differ in a pair of one objective."""
    contenders = document["contenders"]
    for own, other in PAIRS:
        mine, theirs = contenders[own]["loss"], contenders[other]["loss"]
        if not abs(mine - theirs) <= TOLERANCE * abs(theirs):
            raise ValueError(f"{own} and {other} differ in their first loss, {mine} and {theirs}: no figures")


def judge_heads(contenders: Mapping[str, Any]) -> dict[str, Any]:
    """Whether heads gave logits for answer tokens alone, of hkd, GOLD and Trainer."""
    return {
        name: {
            "able": contenders[name]["head_rows"] <= contenders[name]["scored"],
            "found": f"logits for {contenders[name]['head_rows']} tokens, of which "
            f"{contenders[name]['scored']} are answers",
        }
        for name in EXAMINED
    }


def measure_training(options: argparse.Namespace) -> dict[str, Any]:
    """Every contender once in a round, each in a process of its own."""
    script, rounds = Path(__file__), []
    with tempfile.TemporaryDirectory() as folder:
        save_models(Path(folder), options)
        for _ in range(options.rounds):
            rounds.append({})
            for name in TRAINED:
                kept = KEPT if name.endswith("-kept") else {}
                plain = name.removesuffix("-kept")
                rounds[-1][name] = run_apart(plain, Path(folder), options, script, kept)
    document = compare(rounds, PAIRS, {})
    check_losses(document)
    return document


def examine(options: argparse.Namespace, contenders: Mapping[str, Any]) -> dict[str, Any]:
    """What each could and could not do, by name and ability; on tiny models, but for the heads."""
    tiny = argparse.Namespace(**{**vars(options), "vocabulary": [448, 512], "hidden_size": 32})
    heads, found = judge_heads(contenders), {}
    for name in EXAMINED:
        with tempfile.TemporaryDirectory() as folder:
            save_models(Path(folder), tiny)
            tried = run_apart(f"abilities-{name}", Path(folder), tiny, Path(__file__))
        found[name] = {**tried, "answer_tokens_alone": heads[name]}
    return found


def find_commit() -> str:
    """Of the code that runs; empty where it is no checkout."""
    command = ["git", "describe", "--always", "--abbrev=7", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add_model_options(parser)
    parser.add_argument("--steps", type=int, default=4, help="of each training; the first is not measured")
    parser.add_argument("--rounds", type=int, default=3, help="of training and of inference")
    parser.add_argument("--records", type=int, default=128, help="that are asked about")
    parser.add_argument("--batch", type=int, default=16, help="records asked at once")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--write", type=Path, help="where the page goes")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    options = build_parser().parse_args()
    torch.set_num_threads(1)
    if options.contender:
        report = CONTENDERS[options.contender](options.models, options)
        options.json.write_text(json.dumps(report))
        return
    command = " ".join(["python benchmarks/peers.py", *sys.argv[1:]])
    document: dict[str, Any] = {"command": command, "code": find_commit(), **describe_machine()}
    training = measure_training(options)
    document |= {"definitions": DEFINITIONS, "tokens": options.tokens, "training": training}
    document["abilities"] = examine(options, training["contenders"])
    choose_runtime("cpu", "float32")
    document["inference"] = {
        model: measure(model, options.records, options.batch, options.rounds) for model in MODELS
    }
    page = render_page(document)
    print(page)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    if options.write:
        options.write.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
