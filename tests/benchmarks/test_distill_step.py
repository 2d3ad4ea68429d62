"""The benchmark of a step computes the same for every contender; what it costs is not tested here."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from distill_step import CONTENDERS, DEFINITIONS, MEASURED, compare, render_table
from step_rows import save_models

OPTIONS = Namespace(tokens=175, steps=3, vocabulary=[448, 512], hidden_size=32)


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("step")
    save_models(folder, OPTIONS)
    return {name: CONTENDERS[name](folder, OPTIONS) for name in ("bare", "hkd", "hkd-in-hand")}


def test_hkd_and_the_bare_loop_have_the_same_losses_over_several_steps(reports):
    for name in ("hkd", "hkd-in-hand"):
        assert reports[name]["losses"] == pytest.approx(reports["bare"]["losses"], rel=1e-5)
    assert len(set(reports["bare"]["losses"])) == OPTIONS.steps


def test_every_contender_had_the_rows_that_were_asked_for(reports):
    for report in reports.values():
        assert OPTIONS.tokens <= max(report["tokens"]) < OPTIONS.tokens + 10
        assert report["scored"] == 10


def test_figures_are_medians_of_the_rounds_and_ratios_say_what_their_definitions_say(reports):
    figures = {"bare": 2.0, "hkd": 1.5, "hkd-in-hand": 1.0}
    reports = {name: reports[name] | dict.fromkeys(MEASURED, cost) for name, cost in figures.items()}
    gold, slow = (reports["bare"] | dict.fromkeys(MEASURED, cost) for cost in (9.0, 12.0))
    document = compare([reports | {"gold": each} for each in (gold, slow, slow)])
    assert document["time_ratio_vs_gold"] == pytest.approx(8)
    assert document["memory_ratio_vs_gold"] == pytest.approx(8)
    assert document["spread"]["time_ratio_vs_gold"] == pytest.approx([6, 8])
    assert document["time_ratio_vs_bare"] == document["memory_ratio_vs_bare"] == pytest.approx(0.5)
    assert 0 <= document["loss_difference"]["bare"] < 1e-5
    assert set(DEFINITIONS) <= set(document)
    for report in document["contenders"].values():
        assert {"loss", *MEASURED} <= set(report)
    assert "time_ratio_vs_gold: 8.00 (6.00 to 8.00)" in render_table(document)


def test_contenders_with_different_rows_are_not_compared(reports):
    with pytest.raises(ValueError, match="same rows"):
        compare([reports | {"gold": reports["bare"] | {"rows": "others"}}])
