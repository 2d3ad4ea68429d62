"""The benchmark of evaluation scores what it says it scores; how long that takes is not tested here."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from evaluate import measure, render_table


def test_all_contenders_score_the_same_file():
    report = measure(records=400, rounds=1, naive=400)
    assert report["records"] == 400 and set(report["seconds"]) >= {"score", "with_intervals", "naive"}
    assert report["half_width"] == pytest.approx(report["half_width_naive"], rel=0.25)
    assert "| with_intervals |" in render_table(report)
