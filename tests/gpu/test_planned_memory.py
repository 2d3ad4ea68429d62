"""The plan against a GPU: a 7B in nf4 teaches a 3B, true shapes of random weights. pytest -m gpu tests/gpu"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_the_planned_peak_of_a_real_pair_is_within_a_tenth_of_the_measured_one(tmp_path):
    out = tmp_path / "figures.json"
    words = [sys.executable, "benchmarks/gpu/one_gpu.py", "--cases", "7b-3b", "--micro-batch-sizes", "1,4"]
    done = subprocess.run([*words, "--json", str(out)], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    case = json.loads(out.read_text())["cases"]["7b-3b"]
    assert case["outcome"] == "measured", case
    for report in case["widths"]:
        assert report["outcome"] == "measured", report
        assert report["ratios"]["peak"] == pytest.approx(1.0, abs=0.1)
        assert report["ratios"]["weights"] == pytest.approx(1.0, abs=0.01)
        assert report["share_of_peak"] is None or 0 < report["share_of_peak"] < 1
