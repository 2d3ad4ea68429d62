"""No operation lies about a label: variants of scene records, answered again from their pixels and texts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hkdcli.augment.operations import get_operations

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from augment_truth import CONTROLS, LEAST_CAUGHT, POLICIES, Tally, find_failures, main, measure, render_table

VARIANTS = 40


@pytest.mark.parametrize("name", [*get_operations(), *POLICIES])
def test_pixels_and_texts_give_the_label_that_an_operation_kept(name):
    tally = measure(name, VARIANTS)
    assert tally.agreed == tally.applied, tally.wrong
    assert tally.applied > VARIANTS / 2
    assert tally.tried == tally.applied + sum(tally.refused.values())


@pytest.mark.parametrize("name", CONTROLS)
def test_an_operation_that_is_wrong_on_purpose_is_caught(name):
    tally = measure(name, VARIANTS)
    assert tally.applied > VARIANTS / 4
    assert tally.applied - tally.agreed > 0.8 * tally.applied
    assert tally.wrong[0]["kept"] != tally.wrong[0]["right"]


def test_a_disagreement_and_a_control_that_passes_are_failures():
    control = next(iter(CONTROLS))
    good = [Tally("flip", 10, 10, 10), Tally(control, 10, 10, int(10 * LEAST_CAUGHT) - 1)]
    assert find_failures(good) == []
    assert "1 of 10 disagree" in find_failures([Tally("flip", 10, 10, 9)])[0]
    assert "is not caught" in find_failures([Tally(control, 10, 10, 9)])[0]
    assert "| flip | 10 | 10 | 10 | 100.00 % |  |" in render_table(good)


def test_the_command_writes_its_figures(tmp_path, monkeypatch, capsys):
    out = tmp_path / "truth.json"
    chosen = ["--records", "4", "--operations", "flip,mirror_picture_alone", "--nproc", "1", "--json"]
    chosen.append(str(out))
    monkeypatch.setattr(sys, "argv", ["augment_truth.py", *chosen])
    main()
    flip, control = json.loads(out.read_text())["operations"]
    assert (flip["name"], flip["applied"], flip["share"], flip["control"]) == ("flip", 4, 1.0, False)
    assert control["control"] and control["share"] < 0.5
    assert "| control: mirror_picture_alone |" in capsys.readouterr().out
