"""Two processes that train one model, against one process that does the same."""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_program import STOPPED_AT, train_llava, train_mutually, train_toy
from safetensors.torch import load_file

from hkdcli.checkpoints import find_latest_checkpoint
from hkdcli.launch import launch

PROGRAM = Path(__file__).parent / "rank_program.py"
EXAMPLES, STEPS, PER_STEP = 13, 9, 8


class Cut(Exception):
    """Ends a training of one process in the middle of its steps."""


def cut_short(loads: int) -> None:
    if loads == 5 * 4:  # four micro-batches a step: within the fifth, after the checkpoint of step 4
        raise Cut


@pytest.fixture(scope="module")
def runs(tiny_llava: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes did, beside what one has done (in `alone`)."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    with pytest.raises(Cut):
        train_toy(folder / "grown", on_load=cut_short)
    alone = folder / "alone"
    train_toy(alone / "whole")
    train_mutually(alone / "mutual")
    train_llava(alone / "shards", tiny_llava, checkpoint_every=2)
    shutil.copytree(alone / "shards", folder / "shards-grown")
    shutil.rmtree(folder / "shards-grown" / "checkpoints" / "step-000004")
    assert launch([sys.executable, str(PROGRAM), "together", str(folder), str(tiny_llava)], 2) == 0
    return folder


def read_log(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    hidden = ("seconds", "tokens_per_s", "peak_memory_gib")
    return [{key: value for key, value in row.items() if key not in hidden} for row in rows]


def check_same_log(found: Path, expected: Path) -> None:
    rows, others = read_log(found), read_log(expected)
    assert [row["step"] for row in rows] == [row["step"] for row in others]
    for row, other in zip(rows, others, strict=True):
        assert row == pytest.approx(other, rel=1e-5)
        # The weights of later steps have been rounded apart; those of the first are the same.
        assert row["step"] > 1 or row == pytest.approx(other, rel=1e-6)


def check_same_weights(found: Path, expected: Path) -> None:
    weights, others = read_tensors(found, "weights"), read_tensors(expected, "weights")
    assert weights.keys() == others.keys()
    for name, tensor in weights.items():
        if name.endswith("k_proj.bias"):
            continue  # attention does not depend on it: its gradient is rounding, which Adam scales up
        torch.testing.assert_close(tensor, others[name], rtol=1e-3, atol=1e-4)


def read_tensors(run: Path, name: str) -> dict[str, torch.Tensor]:
    latest = find_latest_checkpoint(run / "checkpoints")
    assert latest is not None
    tensors: dict[str, torch.Tensor] = load_file(latest / f"{name}.safetensors")
    return tensors


def read_draws(*files: Path) -> Counter[tuple[int, int]]:
    lines = [line for file in files for line in file.read_text().splitlines()]
    return Counter((epoch, index) for epoch, index in map(json.loads, lines))


def check_each_seen_once(draws: Counter[tuple[int, int]]) -> None:
    """Whole epochs hold every example once, the last, uneven one as many as are left."""
    assert draws.total() == STEPS * PER_STEP and set(draws.values()) == {1}
    whole, rest = divmod(STEPS * PER_STEP, EXAMPLES)
    seen = Counter(epoch for epoch, _ in draws)
    assert seen == {**dict.fromkeys(range(whole), EXAMPLES), whole: rest}


@pytest.mark.parametrize(
    ("run", "alone"), [("whole", "whole"), ("mutual", "mutual"), ("mutual-shards", "mutual")]
)
def test_two_processes_learn_what_one_learns(runs: Path, run: str, alone: str) -> None:
    """Ragged answers, gradient accumulation, a teacher that learns too, and that beside shards."""
    check_same_log(runs / run, runs / "alone" / alone)
    check_same_weights(runs / run, runs / "alone" / alone)


def test_shards_learn_what_a_whole_student_learns(runs: Path) -> None:
    check_same_log(runs / "shards", runs / "alone" / "shards")
    check_same_weights(runs / "shards", runs / "alone" / "shards")


def test_a_checkpoint_of_shards_has_the_files_of_any_other(runs: Path, tiny_llava: Path) -> None:
    """So each resumes from the other's, and comes to the same end."""
    for name in ("weights", "optimizer"):
        found, expected = (
            {key: (value.shape, value.dtype) for key, value in read_tensors(run / "shards", name).items()}
            for run in (runs, runs / "alone")
        )
        assert found == expected and found
    check_same_log(runs / "shards-grown", runs / "alone" / "shards")
    shutil.rmtree(runs / "shards" / "checkpoints" / "step-000004")
    train_llava(runs / "shards", tiny_llava, resume=True)
    check_same_log(runs / "shards", runs / "alone" / "shards")


def test_processes_share_the_examples_of_a_step(runs: Path) -> None:
    draws = [runs / "whole" / f"draws-{rank}.jsonl" for rank in (0, 1)]
    assert read_draws(draws[0]).total() == read_draws(draws[1]).total() == STEPS * PER_STEP / 2
    check_each_seen_once(read_draws(*draws))


def test_r05_a_signal_to_one_process_stops_all_after_the_same_step(runs: Path) -> None:
    for rank in (0, 1):
        said = (runs / f"stopped-{rank}.txt").read_text()
        assert said.startswith(f"143 stopped after step {STOPPED_AT}; saved to ")
        assert f"step-{STOPPED_AT:06d}" in said


def test_r18_one_process_goes_on_where_two_have_stopped(runs: Path) -> None:
    train_toy(runs / "stopped", resume=True)
    check_same_log(runs / "stopped", runs / "alone" / "whole")
    draws = read_draws(*(runs / "stopped").glob("draws-*.jsonl"))
    check_each_seen_once(draws)


def test_r18_two_processes_go_on_where_one_was_cut_off(runs: Path) -> None:
    check_same_log(runs / "grown", runs / "alone" / "whole")
    draws = read_draws(*(runs / "grown").glob("draws-*.jsonl"))
    repeated = {draw for draw, count in draws.items() if count > 1}
    assert len(repeated) == PER_STEP  # the step that was cut off, and no other
    check_each_seen_once(Counter(set(draws)))


def test_r16_a_row_that_one_process_cannot_read_is_left_out_and_told_of_once(runs: Path) -> None:
    rows = read_log(runs / "lost")
    assert len(rows) == 4 and all(row["loss"] > 0 for row in rows)
    for rank in (0, 1):  # every process knows; only the main one has somebody to tell
        said = (runs / "lost" / f"warnings-{rank}.txt").read_text().splitlines()
        assert len(said) == 1 and said[0].startswith("not learned from: h1.png [h1]: image.truncated")


def test_r16_too_many_unreadable_rows_are_an_error_in_every_process(runs: Path) -> None:
    for rank in (0, 1):
        said = (runs / f"too-many-{rank}.txt").read_text()
        assert said.startswith("1 of 7 examples became unreadable") and "h1" in said


def test_random_states_of_all_processes_are_kept_and_differ(runs: Path) -> None:
    states = read_tensors(runs / "whole", "random")
    assert not torch.equal(states["0/cpu"], states["1/cpu"])
