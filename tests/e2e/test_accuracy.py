"""What the package promises of its models, measured: minutes each, but for the first tests."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from command_line import read_rows, run_hkd, run_json

from hkdcli.scenes.pretrained import SHIPPED
from hkdcli.scenes.pretraining import ANSWERING, SEEING, pretrain

RECIPES = Path(__file__).parents[2] / "recipes"
HOUR_S = 3600
MARGIN = 0.15  # of the distilled base over the best constant answer
APEX_MICRO_F1 = 0.85
APEX_FOUND_RATE = 0.7
PHENOMENA = {"object", "colour", "size", "position", "relation"}
MAX_SHIPPED_BYTES = 15_000_000


def test_a_shipped_model_answers(tmp_path: Path) -> None:
    out = tmp_path / "p.jsonl"
    counts = run_json("infer", "scenes:small", "scenes:test", "--limit", "16", "--out", out, folder=tmp_path)
    assert counts["total"] == 16 and counts["failed"] == 0
    rows = read_rows(out)
    assert all(row["status"] == "ok" and row["prediction"] for row in rows)
    assert len({tuple(row["prediction"]) for row in rows}) > 1


def test_what_is_shipped_is_small() -> None:
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_SHIPPED_BYTES
    assert not [path.name for path in files if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]


@pytest.mark.parametrize("name", list(SEEING))
def test_the_plans_in_the_code_are_those_that_were_followed(name: str) -> None:
    stories = read_stories(name)
    assert set(stories) == {"seeing", "answering"}
    for story, plan in (("seeing", SEEING[name]), ("answering", ANSWERING[name])):
        assert stories[story]["plan"] == asdict(plan)
        assert [entry[0] for entry in stories[story]["curve"]] == [1, *range(25, plan.steps + 1, 25)]


@pytest.mark.slow
def test_a_short_remake_is_on_the_same_curve() -> None:
    """The first 50 steps from random weights; the later story begins where this one ends."""
    import torch

    from hkdcli.scenes.architecture import build_model
    from hkdcli.scenes.lessons import build_lesson

    torch.set_num_threads(1)
    told = {step: losses for step, *losses in read_stories("small")["seeing"]["curve"]}
    seen: dict[int, list[float]] = {}

    def listen(step: int, lm_loss: float, flag_loss: float) -> None:
        seen[step] = [lm_loss, flag_loss]

    plan = SEEING["small"]
    pretrain(build_model("small", plan.weights_seed), plan, build_lesson, listen, stop_after=50)
    assert len(seen) == 50
    for step in (1, 25, 50):
        assert seen[step] == pytest.approx(told[step], abs=1e-3), f"step {step}"


def read_stories(name: str) -> dict[str, Any]:
    stories: dict[str, Any] = json.loads((SHIPPED / name / "pretraining.json").read_text())
    return stories


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of the quickstart recipe as it ships; read only."""
    run = tmp_path_factory.mktemp("quickstart") / "run"
    recipe = RECIPES / "quickstart.yaml"
    document = run_json("distill-online", recipe, "--out", run, folder=run.parent, deadline_s=HOUR_S)
    (run.parent / "scores.json").write_text(json.dumps(document["scores"]))
    return run


def answer(run: Path, level: str, folder: Path, *options: str) -> Any:
    """Metrics of one level on the whole test split."""
    out = folder / f"{level}.jsonl"
    run_hkd(
        "infer",
        *(run, "scenes:test", "--level", level, "--out", out, *options),
        folder=folder,
        deadline_s=HOUR_S,
    )
    return run_json("evaluate", out, "scenes:test", folder=folder)


@pytest.mark.slow
def test_quickstart_beats_the_best_constant_answer(quickstart: Path, tmp_path: Path) -> None:
    scores = json.loads((quickstart.parent / "scores.json").read_text())
    assert [row["level"] for row in scores] == ["constant answer", "large", "medium", "small"]
    assert scores[-1]["micro_f1"] >= scores[0]["micro_f1"] + MARGIN, scores
    metrics = answer(quickstart, "small", tmp_path, "--shift")["metrics"]
    assert metrics["micro_f1"] >= metrics["constant_micro_f1"] + MARGIN


@pytest.mark.slow
def test_the_refined_quickstart_is_no_worse(quickstart: Path, tmp_path: Path) -> None:
    recipe, run = RECIPES / "quickstart-refine.yaml", tmp_path / "refined"
    levels = (f"pyramid.medium.model={quickstart}", f"pyramid.small.model={quickstart}")
    scores = run_json("distill-refine", recipe, *levels, "--out", run, folder=tmp_path, deadline_s=HOUR_S)[
        "scores"
    ]
    assert [row["level"] for row in scores] == ["constant answer", "large", "medium", "small.before", "small"]
    assert scores[-1]["micro_f1"] >= scores[-2]["micro_f1"], scores


@pytest.mark.slow
def test_the_shipped_apex_is_good_in_every_phenomenon(quickstart: Path, tmp_path: Path) -> None:
    document = answer(quickstart, "large", tmp_path)
    assert document["metrics"]["micro_f1"] >= APEX_MICRO_F1
    phenomena = document["tasks"]["hallucination"]["phenomena"]["phenomena"]
    assert set(phenomena) == PHENOMENA
    found = {name: scores["found_rate"] for name, scores in phenomena.items()}
    assert min(found.values()) >= APEX_FOUND_RATE, found
