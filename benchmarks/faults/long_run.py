"""Does a long run hold on to memory or files?

    python benchmarks/faults/long_run.py --steps 2000 --json benchmarks/long_run.json

`hkd distill-online` trains one level of the embedded world for so many steps, with a teacher beside it, a checkpoint and
an evaluation every 50 steps. Twice a second its memory (RssAnon: what it holds itself, without mapped files) and its open files
are read from outside, with the last step in its log. After the first quarter, in which allocators and caches fill,
a line through the readings says how both grow.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]
from distill_step import describe_machine

RECIPE = """
name: long-run
data:
  train: {scenes: {split: train, size: 4000}}
  dev: {scenes: {split: dev, size: 60}}
  test: {scenes: {split: test, size: 60}}
pyramid:
  - {name: large, model: "scenes:large", adapter: "scenes:large-tuned", quantization: nf4, train: null}
  - {name: small, model: "scenes:small", tuning: full}
train:
  max_steps: STEPS
  micro_batch_size: 8
  learning_rate: 5e-4
  log_every: 1
  checkpoint_every: 50
  evaluate_every: 50
runtime: {device: cpu}
"""
INTERVAL_S = 0.5
DEFINITIONS = {
    "mb_per_1000_steps": "slope of a line through (step, RssAnon in MB) after the first quarter of the steps",
    "files_per_1000_steps": "the same of open files",
    "peak_growth_mb": "the most memory in the last quarter less the most in the second",
}


def watch(process: subprocess.Popen[bytes], log: Path) -> list[tuple[int, float, int]]:
    """(step, MB, open files) twice a second until the process ends."""
    readings = []
    while process.poll() is None:
        time.sleep(INTERVAL_S)
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            files = len(os.listdir(f"/proc/{process.pid}/fd"))
        except (FileNotFoundError, ProcessLookupError):
            break
        if "RssAnon" in status and (step := read_step(log)):
            kib = int(status.partition("RssAnon:")[2].split()[0])
            readings.append((step, kib / 1000 * 1.024, files))
    return readings


def read_step(log: Path) -> int:
    """The last whole step in a run's log; 0 before there is one."""
    if not log.exists():
        return 0
    start = max(0, log.stat().st_size - 4000)
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().split(b"\n")[bool(start) : -1]
    return int(json.loads(lines[-1])["step"]) if lines else 0


def measure_growth(readings: Sequence[tuple[int, float, int]], steps: int) -> dict[str, Any]:
    """The figures of `DEFINITIONS`, and what they come from.

    Raises:
        ValueError: too few readings after the first quarter.
    """
    settled = [reading for reading in readings if steps / 4 < reading[0] < steps]
    at = [step for step, _, _ in settled]
    if len(set(at)) < 10:
        raise ValueError(f"{len(settled)} readings after the first quarter are too few")
    memory, files = [mb for _, mb, _ in settled], [float(count) for _, _, count in settled]
    second = max(mb for step, mb, _ in settled if step <= steps / 2)
    last = max(mb for step, mb, _ in settled if step > steps * 3 / 4)
    return {
        "readings": len(settled),
        "mb": round(statistics.median(memory), 1),
        "mb_per_1000_steps": round(1000 * statistics.linear_regression(at, memory).slope, 3),
        "peak_growth_mb": round(last - second, 2),
        "files": statistics.median(files),
        "files_per_1000_steps": round(1000 * statistics.linear_regression(at, files).slope, 3),
    }


def main() -> None:
    """Run, watch and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(RECIPE.replace("STEPS", str(options.steps)))
        words = [sys.executable, "-m", "hkdcli", "distill-online", "recipe.yaml", "--out", "run"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        begun_s = time.monotonic()
        with (folder / "said.txt").open("wb") as said:
            process = subprocess.Popen(words, cwd=folder, env=environment, stdout=said, stderr=said)
            readings = watch(process, folder / "run" / "log.jsonl")
        if process.wait() != 0:
            sys.exit((folder / "said.txt").read_text())
        figures = measure_growth(readings, options.steps)
    document = {
        "machine": describe_machine(),
        "definitions": DEFINITIONS,
        "steps": options.steps,
        "seconds": round(time.monotonic() - begun_s),
        **figures,
        "curve": [(step, round(mb, 1), files) for step, mb, files in readings[:: max(1, len(readings) // 100)]],
    }
    print(json.dumps({key: value for key, value in document.items() if key != "curve"}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
