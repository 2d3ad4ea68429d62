"""R04, R05, R08 of stage two: interrupted while signals are stored or while it learns, it ends the same."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import DEADLINE_S, ENVIRONMENT, interrupt, read_rows, run_hkd
from test_kill_resume import OF_THE_MACHINE

STEPS = 12
RECIPE = """
name: refine
data:
  train: {scenes: {split: train, size: 40}}
  dev: {scenes: {split: dev, size: 4}}
  test: {scenes: {split: test, size: 20}}
pyramid:
  - {name: top, model: MODELS/top}
  - {name: base, model: MODELS/base, tuning: full}
refine: {snapshot: true, teacher_check: null, min_truth: 0.0, states: {grid: 3}}
train:
  max_steps: 12
  micro_batch_size: 2
  gradient_accumulation_steps: 2
  learning_rate: 1e-3
  log_every: 1
  checkpoint_every: 3
  evaluate_every: 6
runtime: {device: cpu}
"""


@pytest.fixture(scope="module")
def refine_recipe(models: Path) -> Path:
    path = models / "refine.yaml"
    path.write_text(RECIPE.replace("MODELS", str(models)))
    return path


@pytest.fixture(scope="module")
def whole(refine_recipe: Path) -> Path:
    """The run that nothing interrupted; read only."""
    folder = refine_recipe.parent / "refined"
    run_hkd("distill-refine", refine_recipe, "--out", folder, folder=refine_recipe.parent)
    return folder


class Moments:
    """What can be seen of a run's progress from outside."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def stored(self, upper: str, size: int, shard: str = "1-of-1") -> Callable[[], bool]:
        """So many bytes of signals stand on the disk."""
        path = self.run / "signals" / upper / f"{shard}.records"
        return lambda: path.exists() and path.stat().st_size >= size

    def reached(self, step: int) -> Callable[[], bool]:
        return lambda: step in {row["step"] for row in read_rows(self.run / "log.jsonl")}

    def saved(self, step: int) -> Callable[[], bool]:
        return lambda: (self.run / "levels/1-base/checkpoints" / f"step-{step:06d}").exists()

    def answered(self, level: str) -> Callable[[], bool]:
        return lambda: bool(read_rows(self.run / "eval/test" / level / "predictions.jsonl"))


def check_same_end(run: Path, whole: Path) -> None:
    """Signals, weights and predictions byte for byte, every step logged once; and no lock left."""
    names = [path.relative_to(whole) for path in whole.rglob("*.records")]
    names += [path.relative_to(whole) for path in whole.rglob("*.safetensors")]
    names += [path.relative_to(whole) for path in whole.rglob("predictions.jsonl")]
    wanted = {"signals/top/1-of-1.records", "signals/snapshot/1-of-1.records", "student/model.safetensors"}
    assert wanted < set(map(str, names))
    for name in names:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert list_figures(run) == list_figures(whole)
    assert not list(run.rglob("*.lock")) and not list(run.rglob(".tmp-*"))


def list_figures(run: Path) -> list[dict[str, Any]]:
    """The log less figures of the machine; it must hold each step once, and in order."""
    rows = read_rows(run / "log.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, STEPS + 1))
    return [{key: value for key, value in row.items() if key not in OF_THE_MACHINE} for row in rows]


def test_r04_r05_r08_stage_two_interrupted_five_times_ends_as_if_nothing_had_happened(
    refine_recipe: Path, whole: Path, tmp_path: Path
) -> None:
    run, at = tmp_path / "run", Moments(tmp_path / "run")
    command = ["distill-refine", refine_recipe, "--out", run]
    cuts = [
        (at.stored("top", 30_000), signal.SIGKILL, -signal.SIGKILL),
        (at.stored("top", 60_000), signal.SIGTERM, 143),
        (at.stored("snapshot", 1), signal.SIGKILL, -signal.SIGKILL),
        (at.reached(4), signal.SIGKILL, -signal.SIGKILL),
        (at.reached(8), signal.SIGINT, 130),
    ]
    for when, number, code in cuts:
        ended, said = interrupt(command, folder=tmp_path, when=when, number=number)
        assert ended == code, said
        assert "Traceback" not in said
        if code > 0:
            assert "--resume" in said
        command = ["distill-refine", refine_recipe, "--out", run, "--resume"]
    run_hkd(*command, folder=tmp_path)
    check_same_end(run, whole)


@pytest.mark.slow
def test_signals_stored_by_two_processes_at_once_serve_a_run(
    refine_recipe: Path, whole: Path, tmp_path: Path
) -> None:
    """One is killed and begun again while the other works on; the run finds all there is, and ends alike."""
    run, at = tmp_path / "run", Moments(tmp_path / "run")
    command = ["distill-refine", refine_recipe, "--out", run, "--only-signals", "--shard"]
    other = subprocess.Popen(
        [sys.executable, "-m", "hkdcli", *map(str, command), "2/2"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ended, _ = interrupt(
        [*command, "1/2"], folder=tmp_path, when=at.stored("top", 20_000, "1-of-2"), number=signal.SIGKILL
    )
    assert ended == -signal.SIGKILL
    run_hkd(*command, "1/2", folder=tmp_path)
    assert other.wait(DEADLINE_S) == 0
    said = run_hkd("distill-refine", refine_recipe, "--out", run, folder=tmp_path).stderr
    assert said.count("complete, ") == 2 and "has 40 records" in said
    assert at.reached(STEPS)()
    for name in ("student/model.safetensors", "eval/test/base/predictions.jsonl"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name


MOMENTS = {
    "before anything is stored": lambda at: at.stored("top", 0),
    "signals of the teacher": lambda at: at.stored("top", 50_000),
    "signals of the snapshot": lambda at: at.stored("snapshot", 1),
    "before the first checkpoint": lambda at: at.reached(1),
    "training": lambda at: at.reached(5),
    "a checkpoint": lambda at: at.saved(9),
    "the student's folder": lambda at: at.saved(12),
    "scoring": lambda at: at.answered("top"),
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("moment", MOMENTS)
def test_r04_a_kill_at_any_moment_of_stage_two_changes_nothing(
    refine_recipe: Path, whole: Path, tmp_path: Path, moment: str, seed: int
) -> None:
    run = tmp_path / "run"
    command = ["distill-refine", refine_recipe, "--out", run]
    delay_s = random.Random(f"{moment} {seed}").random() * 0.3
    ended, _ = interrupt(
        command, folder=tmp_path, when=MOMENTS[moment](Moments(run)), number=signal.SIGKILL, delay_s=delay_s
    )
    assert ended == -signal.SIGKILL
    run_hkd(*command, "--resume", folder=tmp_path)
    check_same_end(run, whole)
