"""The ablation trains what its tables name, once, and its page says what its figures say."""

import json
import statistics
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import ablation
from ablation_arms import Arm, build_chains
from ablation_page import TABLES, draw_plot, render_arms, render_page, render_spread

ROOT = Path(__file__).parents[2]
CHAINS = build_chains(ablation.ONLINE_STEPS, ablation.REFINE_STEPS, ablation.COMPUTE)
ARMS = {arm.name: arm for chain in CHAINS for arm in chain}
RESULTS = ROOT / "docs/results/ablation.json"


def test_every_arm_is_in_a_table_and_has_settings_of_its_own():
    assert len(ARMS) == sum(map(len, CHAINS))
    named = {name for arms in TABLES.values() for name in arms}
    # Others go on from these two.
    assert named - set(ARMS) == set() and set(ARMS) - named == {"medium, taught", "online, short, variants"}
    hashes = {arm.hash_settings(0) for arm in ARMS.values()}
    assert len(hashes) == len(ARMS) and ARMS["labels"].hash_settings(1) not in hashes


def test_an_arm_goes_on_from_earlier_arms_of_its_chain_alone():
    for chain in CHAINS:
        folders = {}
        for arm in chain:
            assert not [each for each in arm.list_changes(0, folders) if "<" in each]
            folders[arm.name] = Path("runs") / arm.name


def test_arms_of_the_table_of_steps_have_as_many_steps():
    stage_two = {"online, refine": "online, short", "online, refine, variants": "online, short, variants"}
    for name in TABLES["steps"]:
        before = ARMS[stage_two[name]].steps if name in stage_two else 0
        assert ARMS[name].steps + before == ablation.ONLINE_STEPS + ablation.REFINE_STEPS


def test_what_is_known_is_trained_again_only_where_something_goes_on_from_it(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(ablation, "train", lambda arm, seed, folders: trained.append(arm.name) or 1.0)
    monkeypatch.setattr(ablation, "score", lambda run: {"plain": {"micro_f1": 0.5}})
    (tmp_path / "0").mkdir()
    chain = (Arm("a", "online", 50), Arm("b", "online", 60, ("pyramid.small.model=<a>",)))
    rows = ablation.run_chain(0, chain, out=tmp_path, known=[])
    assert trained == ["a", "b"] == [row["arm"] for row in rows]
    assert ablation.run_chain(0, chain, out=tmp_path, known=rows) == [] and trained == ["a", "b"]
    again = ablation.run_chain(0, chain, out=tmp_path, known=rows[:1])
    assert trained == ["a", "b", "a", "b"] and again == rows[1:]
    assert ablation.read_rows(tmp_path / "none.json", tmp_path) == rows
    changed = (chain[0], Arm("b", "online", 61, chain[1].changes))
    assert [row["steps"] for row in ablation.run_chain(0, changed, out=tmp_path, known=rows)] == [61]


@pytest.mark.slow
def test_an_arm_is_trained_and_scored_and_gone_on_with(tmp_path):
    chain = (
        Arm("one", "online", 20),
        Arm("two", "refine", 20, ("pyramid.small.model=<one>", "refine.store=<one>-signals")),
    )
    rows = ablation.run_chain(0, chain, out=tmp_path, known=[])
    assert [row["arm"] for row in rows] == ["one", "two"] and all(row["cpu_seconds"] > 0 for row in rows)
    (again,) = ablation.run_chain(0, chain, out=tmp_path, known=rows[:1])
    assert again == {**rows[1], "cpu_seconds": None}


def test_a_table_has_means_spreads_and_gains():
    scores = dict.fromkeys(
        ("hallucination_micro_f1", "factuality_micro_f1", "hallucinated_f1", "exact_match"), 0.5
    )
    rows = [
        {"seed": seed, "arm": arm, "steps": 9, "cpu_seconds": 7.0, "start": start}
        | {way: {"micro_f1": value, **scores} for way in ("plain", "shift", "shift_hallucination")}
        for arm, start, values in (("one", None, (0.1, 0.3)), ("two", "one", (0.2, 0.5)))
        for seed, value in enumerate(values)
    ]
    table = render_arms(rows, ("one", "two", "not yet run"))
    assert "| one | 9 | 7 | 0.200 ± 0.141 |" in table and "| two | 9 + 9 | 14 | 0.350 ± " in table
    assert "- two: +0.100, +0.200" in table
    assert "not yet run" not in table
    assert "| one (1 of 2 seeds) | 9 | 7 | 0.100 |" in render_arms(rows[:1] + rows[2:], ("one", "two"))


def test_the_same_figures_give_the_same_plot(tmp_path):
    pytest.importorskip("matplotlib", reason="of the extra bench")
    rows = json.loads(RESULTS.read_text("utf-8"))["results"]
    for name in ("one.svg", "two.svg"):
        draw_plot(rows, TABLES["steps"], tmp_path / name)
    one, two = ((tmp_path / name).read_bytes() for name in ("one.svg", "two.svg"))
    assert one == two and one.count(b"online, refine, variants") == 1


def test_the_page_says_what_the_figures_say():
    rows = json.loads(RESULTS.read_text("utf-8"))["results"]
    page = RESULTS.with_suffix(".md").read_text("utf-8")
    assert render_page(rows, page) == page
    assert all(f"<!-- {name} -->" in page for name in TABLES)


def test_the_readme_shows_the_same_figures():
    rows, shown = (
        json.loads(RESULTS.read_text("utf-8"))["results"],
        {
            "tuned on the labels": "labels",
            "+ the judge beside it (stage one)": "online",
            "+ refined by what it stored (stage two)": "online, refine",
            "+ records in a new variant each time": "online, refine, variants",
            "*variants without a teacher*": "labels, variants",
            "*1.0M parameters, tuned on the labels*": "medium, labels",
            "*3.4M parameters, tuned on the labels*": "large, labels",
        },
    )
    for words, arm in shown.items():
        of_arm = [row for row in rows if row["arm"] == arm]
        assert len(of_arm) == 3
        cells = [
            render_spread([row[way]["micro_f1"] for row in of_arm])
            for way in ("plain", "shift_hallucination")
        ]
        assert f"| {words} | {cells[0]} | {cells[1]} |" in (ROOT / "README.md").read_text("utf-8")


def test_the_readme_says_what_equal_compute_shows():
    rows, mean = json.loads(RESULTS.read_text("utf-8"))["results"], {}
    for way in ("plain", "shift_hallucination"):
        for arm in TABLES["compute"]:
            scores = [row[way]["micro_f1"] for row in rows if row["arm"] == arm]
            mean[way, arm] = f"{statistics.mean(scores):.3f}"
    plain = {arm: mean["plain", arm] for arm in TABLES["compute"]}
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    for words in (
        f"({plain['online, refine']} against {plain['labels, as dear']} for labels alone)",
        f"({plain['online, variants, as dear']} against {plain['labels, variants, as dear']}, which",
        f"directly: {plain['medium, labels, as dear']} and {plain['large, labels, as dear']};",
        f"the largest has {mean['shift_hallucination', 'large, labels, as dear']})",
    ):
        assert words in readme
