"""The benchmark of signals compares what it says it compares; what a step costs is not tested here."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from signals import CONTENDERS, build_stepper, measure, open_qwen, open_scenes, render_table, take


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_stored_and_live_signals_have_the_same_losses_and_plain_has_none(tmp_path):
    report = measure(open_qwen(tmp_path, [448, 512], 175), steps=2, rounds=2)
    assert report["loss_difference_stored_live"] < 1e-4
    assert set(report["bytes_per_record"]) == {"teacher", "snapshot"}
    assert report["bytes_per_record"]["teacher"] > report["bytes_per_record"]["snapshot"] > 100
    assert report["plain"]["ratio_vs_plain"] == 1.0
    table = render_table({"qwen": report})
    assert all(f"| qwen | {name} |" in table for name in CONTENDERS)


def test_plain_is_cross_entropy_of_the_same_rows(tmp_path):
    stage = open_qwen(tmp_path, [448, 512], 175)
    plain, live = (build_stepper(stage, name) for name in ("plain", "live"))
    own, other = plain.take_step(0).losses, live.take_step(0).losses
    assert own["loss"].item() == pytest.approx(other["cross_entropy"].item(), rel=1e-6)
    assert "response" not in own and {"response", "feature", "relation"} < set(other)
    assert take(plain, 1) < own["loss"].item()


def test_the_scenes_of_the_benchmark_are_those_of_the_recipe(tmp_path):
    stage = open_scenes(tmp_path, 6)
    assert [level.name for level in stage.recipe.pyramid] == ["large", "small"]
    assert stage.recipe.refine.snapshot and len(stage.data["train"].examples) == 6
