"""Both distilling commands with `--nproc 2`, and the launchers of others, from the recipe to the scores."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hkdcli.__main__ import main

ROOT = Path(__file__).parents[2]
SETTINGS = ROOT / "recipes" / "accelerate"
RECIPE = """
name: tiny
data:
  train: {scenes: {split: train, size: 40}}
  dev: {scenes: {split: dev, size: 4}}
  test: {scenes: {split: test, size: 4}}
pyramid:
  - {name: top, model: MODELS/0, tuning: {lora: {rank: 4}}}
  - {name: base, model: MODELS/1, tuning: full}
distill: {teacher_check: null}
train:
  {max_steps: 4, micro_batch_size: 3, learning_rate: 1e-3, log_every: 1, checkpoint_every: 2,
   evaluate_every: 2}
runtime: {device: cpu}
"""
REFINE = "refine: {signals: SIGNALS, snapshot: true, teacher_check: null, min_truth: 0, states: {grid: 3}}"
HKD = [sys.executable, "-m", "hkdcli"]
DEADLINE_S = 600


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyramid of two random models of the embedded world; both are trained, with adapters and in full."""
    from hkdcli.scenes.architecture import build_model
    from hkdcli.scenes.pretrained import build_shipped_processor

    folder = tmp_path_factory.mktemp("command-line")
    for seed in (0, 1):
        build_model("small", seed).save_pretrained(folder / str(seed))
        build_shipped_processor().save_pretrained(folder / str(seed))
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("MODELS", str(folder)))
    return path


@pytest.fixture(scope="module")
def alone(recipe: Path) -> Path:
    """The run of one process."""
    folder = recipe.parent / "alone"
    assert main(command(recipe, folder)) == 0
    return folder


def command(recipe: Path, folder: Path, *more: str) -> list[str]:
    return ["distill-online", str(recipe), "--out", str(folder), *more]


def start(words: Sequence[str | Path], **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*map(str, words)], env={**environment, **variables}, stdout=pipe, stderr=pipe, text=True
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    try:
        return process.communicate(timeout=DEADLINE_S)
    finally:
        process.terminate()


def check_same_end(found: Path, expected: Path, *, rel: float = 1e-5) -> None:
    """Every step of both levels logged once, with the same figures; levels, scores, and no leftovers."""
    rows, others = read_log(found), read_log(expected)
    assert len(rows) == len(others) == 2 * (4 + 2)
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=rel, abs=1e-6)
    for name in ("levels/0-top/adapter/adapter_model.safetensors", "student/model.safetensors"):
        assert (found / name).stat().st_size == (expected / name).stat().st_size
    for level in ("top", "base"):
        assert len((found / "eval" / "test" / level / "predictions.jsonl").read_text().splitlines()) == 4
    assert not list(found.rglob("*.lock")) and not list(found.rglob(".tmp-*"))


def read_log(run: Path) -> list[dict[str, Any]]:
    path = run / "log.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    hidden = ("seconds", "tokens_per_s", "peak_memory_gib", "level")
    return [{k: v for k, v in json.loads(line).items() if k not in hidden} for line in lines]


def write_refine_recipe(recipe: Path, folder: Path, signals: str) -> Path:
    """The same pyramid in stage two, from untrained levels."""
    text = (
        recipe.read_text().replace(", tuning: {lora: {rank: 4}}", "").replace("name: tiny", "name: refined")
    )
    path = folder / "refine.yaml"
    path.write_text(text.replace("distill: {teacher_check: null}", REFINE.replace("SIGNALS", signals)))
    return path


@pytest.mark.parametrize(
    ("signals", "shards"),
    [
        ("stored", "false"),
        pytest.param("live", "false", marks=pytest.mark.slow),
        pytest.param("stored", "true", marks=pytest.mark.slow),
    ],
)
def test_nproc_refines_as_one_process_does_and_shares_the_storing(
    recipe: Path, tmp_path: Path, signals: str, shards: str
) -> None:
    path = write_refine_recipe(recipe, tmp_path, signals)
    runs = []
    for count in ("1", "2"):
        runs.append(tmp_path / count)
        words = [*HKD, "distill-refine", path, "--out", runs[-1], "--nproc", count]
        process = start(words, ACCELERATE_USE_FSDP=shards)
        _, said = finish(process)
        assert process.returncode == 0, said
    rows, others = (read_log(run) for run in runs)
    assert len(rows) == len(others) == 4 + 2 and "believed_snapshot" in rows[0]
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-6)
    found = sorted(file.name for file in (runs[1] / "signals").rglob("*.records"))
    assert found == (["1-of-2.records"] * 2 + ["2-of-2.records"] * 2 if signals == "stored" else [])


def test_nproc_trains_as_one_process_does_and_prints_one_document(
    recipe: Path, alone: Path, tmp_path: Path
) -> None:
    process = start([*HKD, *command(recipe, tmp_path / "run", "--nproc", "2", "--json")])
    out, said = finish(process)
    assert process.returncode == 0, said
    assert [row["level"] for row in json.loads(out)["scores"]] == ["constant answer", "top", "base"]
    assert len(re.findall(r"base, taught by top  4/4", said)) == 1, said
    check_same_end(tmp_path / "run", alone)


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["ddp", "fsdp2"])
def test_accelerate_launch_trains_as_one_process_does(
    recipe: Path, alone: Path, tmp_path: Path, settings: str
) -> None:
    launcher = [sys.executable, "-m", "accelerate.commands.launch"]
    words = [*launcher, "--config_file", SETTINGS / f"{settings}.yaml", "-m", "hkdcli"]
    process = start([*words, *command(recipe, tmp_path / "run")])
    _, said = finish(process)
    assert process.returncode == 0, said
    check_same_end(tmp_path / "run", alone, rel=1e-4)


@pytest.mark.slow
def test_torchrun_trains_as_one_process_does(recipe: Path, alone: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = start([*torchrun, "-m", "hkdcli", *command(recipe, tmp_path / "run", "--json")])
    out, said = finish(process)
    assert process.returncode == 0, said
    assert json.loads(out)["student"] == str(tmp_path / "run" / "student")
    check_same_end(tmp_path / "run", alone)


@pytest.mark.slow
@pytest.mark.parametrize("shards", ["false", "true"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_r05_r18_a_signal_to_the_launcher_saves_once_and_one_process_goes_on(
    recipe: Path, alone: Path, tmp_path: Path, number: signal.Signals, shards: str
) -> None:
    run = tmp_path / "run"
    words = [*HKD, *command(recipe, run, "--nproc", "2")]
    process = start(words, ACCELERATE_USE_FSDP=shards)
    wait_until(lambda: len(read_log(run)) > 0, process)
    process.send_signal(number)
    _, said = finish(process)
    assert process.returncode == 128 + number, said
    assert len(re.findall(r"stopped after step \d; saved to ", said)) == 1 and "Traceback" not in said, said
    assert main(command(recipe, run, "--resume")) == 0
    check_same_end(run, alone, rel=1e-4)


@pytest.mark.slow
def test_r10_a_killed_launcher_takes_its_processes_along(recipe: Path, tmp_path: Path) -> None:
    """They get SIGTERM, so they save first."""
    run = tmp_path / "run"
    process = start([*HKD, *command(recipe, run, "train.max_steps=10000", "--nproc", "2")])
    wait_until(lambda: len(read_log(run)) > 0, process)
    children = list_children(process.pid)
    assert len(children) == 2
    process.kill()
    process.communicate(timeout=DEADLINE_S)  # its processes hold the other ends
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children))
    assert list((run / "levels").rglob("MANIFEST.json"))


def list_children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def wait_until(holds: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, finish(process)
        time.sleep(0.01)
