"""R04, R05, R08 through the command line: however often a run is interrupted, its end is the same."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import interrupt, read_rows, run_hkd

OF_THE_MACHINE = ("seconds", "tokens_per_s", "peak_memory_gib")  # not of what is computed
STEPS = 12


class Moments:
    """What can be seen of a run's progress from outside."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def reached(self, level: str, step: int) -> Callable[[], bool]:
        return lambda: (level, step) in {(row["level"], row["step"]) for row in self._log()}

    def saved(self, level: str, step: int) -> Callable[[], bool]:
        """A checkpoint stands; where it is the level's last, the level itself is being published."""
        return lambda: (self.run / "levels" / level / "checkpoints" / f"step-{step:06d}").exists()

    def answered(self, level: str) -> Callable[[], bool]:
        return lambda: bool(read_rows(self.run / "eval" / "test" / level / "predictions.jsonl"))

    def _log(self) -> list[dict[str, Any]]:
        return read_rows(self.run / "log.jsonl")


def check_same_end(run: Path, whole: Path) -> None:
    """Weights bit for bit, every step logged once, predictions byte for byte; and no lock left."""
    weights = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert Path("student/model.safetensors") in weights
    assert Path("levels/0-top/adapter/adapter_model.safetensors") in weights
    answers = [Path("eval/test") / level / "predictions.jsonl" for level in ("top", "base")]
    for name in (*weights, *answers):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert list_figures(run) == list_figures(whole)
    assert not list(run.rglob("*.lock")) and not list(run.rglob(".tmp-*"))


def list_figures(run: Path) -> list[dict[str, Any]]:
    """The log less figures of the machine; it must hold each step of each level once, and in order."""
    rows = read_rows(run / "log.jsonl")
    trained = [(row["level"], row["step"]) for row in rows if "loss" in row]
    assert trained == [(level, step) for level in ("top", "base") for step in range(1, STEPS + 1)]
    watched = [(row["level"], row["step"]) for row in rows if "loss" not in row]
    assert watched == [(level, step) for level in ("top", "base") for step in (6, 12)]
    return [{key: value for key, value in row.items() if key not in OF_THE_MACHINE} for row in rows]


def test_r04_r05_r08_a_run_interrupted_four_times_ends_as_if_nothing_had_happened(
    recipe: Path, whole_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ["distill-online", recipe, "--out", run]
    at = Moments(run)
    cuts = [
        (at.reached("top", 5), signal.SIGKILL, -signal.SIGKILL),
        (at.reached("top", 8), signal.SIGINT, 130),
        (at.reached("base", 2), signal.SIGTERM, 143),
        (at.answered("top"), signal.SIGKILL, -signal.SIGKILL),
    ]
    for when, number, code in cuts:
        ended, said = interrupt(command, folder=tmp_path, when=when, number=number)
        assert ended == code, said
        assert "Traceback" not in said
        if code > 0:
            assert "saved to" in said and "--resume" in said
        command = ["distill-online", recipe, "--out", run, "--resume"]
    run_hkd(*command, folder=tmp_path)
    check_same_end(run, whole_run)


MOMENTS = {
    "before the first checkpoint": lambda at: at.reached("top", 1),
    "level 1": lambda at: at.reached("top", 6),
    "a checkpoint of level 1": lambda at: at.saved("0-top", 9),
    "between the levels": lambda at: at.saved("0-top", 12),
    "level 2": lambda at: at.reached("base", 4),
    "the student's folder": lambda at: at.saved("1-base", 12),
    "scoring": lambda at: at.answered("top"),
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("moment", MOMENTS)
def test_r04_a_kill_at_any_moment_changes_nothing(
    recipe: Path, whole_run: Path, tmp_path: Path, moment: str, seed: int
) -> None:
    run = tmp_path / "run"
    command = ["distill-online", recipe, "--out", run]
    delay_s = random.Random(f"{moment} {seed}").random() * 0.3
    ended, _ = interrupt(
        command, folder=tmp_path, when=MOMENTS[moment](Moments(run)), number=signal.SIGKILL, delay_s=delay_s
    )
    assert ended == -signal.SIGKILL
    run_hkd(*command, "--resume", folder=tmp_path)
    check_same_end(run, whole_run)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["between the levels", "scoring"])
def test_r05_a_signal_outside_of_training_stops_at_once(
    recipe: Path, whole_run: Path, tmp_path: Path, moment: str, number: int
) -> None:
    """Nothing is in the middle of being learned then, so there is nothing to save."""
    run = tmp_path / "run"
    command = ["distill-online", recipe, "--out", run]
    ended, said = interrupt(
        command, folder=tmp_path, when=MOMENTS[moment](Moments(run)), number=number, delay_s=0.05
    )
    assert ended == 128 + number, said
    assert f"stopped at once by {signal.Signals(number).name}" in said and "Traceback" not in said
    run_hkd(*command, "--resume", folder=tmp_path)
    check_same_end(run, whole_run)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_r05_a_signal_in_infer_keeps_what_is_answered(whole_run: Path, tmp_path: Path, number: int) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "p.jsonl"
    command = ["infer", whole_run, "scenes:test", "--limit", "40", "--batch-size", "4"]
    run_hkd(*command, "--out", whole, folder=tmp_path)
    command += ["--out", out]
    ended, said = interrupt(command, folder=tmp_path, when=lambda: bool(read_rows(out)), number=number)
    assert ended == 128 + number, said
    assert f"stopped at once by {signal.Signals(number).name}" in said and "Traceback" not in said
    assert not list(tmp_path.glob(".*.lock"))
    assert 0 < len(read_rows(out)) < 40
    run_hkd(*command, "--resume", folder=tmp_path)
    assert out.read_bytes() == whole.read_bytes()
