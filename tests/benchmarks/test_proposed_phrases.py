"""The benchmark of proposed phrases counts what its docstring says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_records import make_choices, make_hallucination

from hkdcli.data.examples import write_examples

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "phrases.py"


@pytest.fixture
def records(tmp_path: Path) -> Path:
    # Proposed from the caption: cat, cat on the red mat, red mat.
    choices = make_choices("No hallucination", "red mat", "mat", "on the red", "stray dog")
    example = make_hallucination(caption="A cat on the red mat.", choices=choices, answer=frozenset("B"))
    write_examples(tmp_path / "records.jsonl", [example])
    return tmp_path / "records.jsonl"


def test_shares_are_counted_over_the_choices_that_stand_in_the_caption(records):
    result = json.loads(subprocess.check_output([sys.executable, str(SCRIPT), str(records)]))
    assert (result["captions"], result["not_in_caption"], result["captions_without_phrase"]) == (1, 1, 0)
    assert result["phrases_per_caption"] == {"mean": 3, "max": 3}
    assert result["all"] == {"choices": 3, "equal": 0.333, "within": 1, "similar": 1}
    assert result["hallucinated"] == {"choices": 1, "equal": 1, "within": 1, "similar": 1}
    fewer = subprocess.check_output([sys.executable, str(SCRIPT), str(records), "--most", "1"])
    assert json.loads(fewer)["all"] == {"choices": 3, "equal": 0, "within": 0, "similar": 0}
