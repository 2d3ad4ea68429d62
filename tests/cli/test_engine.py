"""The engine: opening data and models, a dry run, and one whole run through the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hkdcli import engine
from hkdcli.__main__ import main
from hkdcli.errors import DataError, UsageError
from hkdcli.opening import DataOptions, ModelSource, find_model, open_data
from hkdcli.options import choose_shifts
from hkdcli.reporter import SilentReporter

sys.path.insert(0, str(Path(__file__).parents[1]))

ROW = {
    "image_id": "x.jpg",
    "system1_question": "What?",
    "system1_answer": "A red ball.",
    "system2_question": "Which?",
    "correct_choice": "B",
    "choices": [{"id": "A", "choice": "No hallucination"}, {"id": "B", "choice": "red ball"}],
}
RECIPE = """
name: tiny
data:
  train: {scenes: {split: train, size: 8}}
  test: {scenes: {split: test, size: 4}}
pyramid:
  - {name: large, model: LARGE, train: null}
  - {name: small, model: SMALL, tuning: full}
distill: {teacher_check: null}
train: {max_steps: 2, micro_batch_size: 2, log_every: 1}
"""


def open_quietly(options: DataOptions) -> Any:
    return open_data(options, SilentReporter())


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_data_comes_from_scenes_or_a_file(tmp_path: Path) -> None:
    assert len(open_quietly(DataOptions("scenes:test", limit=3)).examples) == 3
    (tmp_path / "r.json").write_text(json.dumps([{**ROW, "id": "1"}, {**ROW, "id": "2", "choices": []}]))
    kept = open_quietly(DataOptions(str(tmp_path / "r.json")))
    assert [example.id for example in kept.examples] == ["1"] and len(kept.bad_rows) == 1
    with pytest.raises(DataError):
        open_quietly(DataOptions(str(tmp_path / "r.json"), on_bad="error"))
    with pytest.raises(UsageError, match="no split"):
        open_quietly(DataOptions("scenes:tset"))


def test_shifts() -> None:
    assert choose_shifts(False, None) == 1
    assert choose_shifts(False, 3) == 3
    assert choose_shifts(True, None) is None
    with pytest.raises(UsageError, match="exclude"):
        choose_shifts(True, 3)


def test_models_are_found_by_level(tmp_path: Path) -> None:
    levels = [
        {"name": "large", "model": "scenes:large", "adapter": "a", "quantization": "nf4", "train": None},
        {"name": "medium", "model": "m", "adapter": None, "quantization": "int8", "train": {}},
        {"name": "small", "model": "s", "adapter": None, "quantization": "none", "train": {}},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"recipe": {"pyramid": levels}}))
    run = str(tmp_path)
    assert find_model(run, "large") == ModelSource("scenes:large", "a", "nf4")
    for level in ("medium", "small", None):
        with pytest.raises(UsageError, match="not trained yet"):
            find_model(run, level)
    (tmp_path / "student").mkdir()
    (tmp_path / "levels" / "1-medium" / "adapter").mkdir(parents=True)
    assert find_model(run, None) == find_model(run, "small") == ModelSource(str(tmp_path / "student"))
    medium = ModelSource(str(tmp_path / "levels" / "1-medium" / "adapter"), quantization="int8")
    assert find_model(run, "medium") == medium
    with pytest.raises(UsageError, match="no level tiny"):
        find_model(run, "tiny")
    assert find_model("scenes:small", None) == ModelSource("scenes:small")
    with pytest.raises(UsageError, match="no run folder"):
        find_model("scenes:small", "large")


def test_evaluate_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.json").write_text(json.dumps([{**ROW, "id": "1"}]))
    (tmp_path / "p.jsonl").write_text('{"id": "1", "prediction": ["B"], "status": "ok"}\n')
    out = tmp_path / "m.json"
    code, document = call(
        capsys, "evaluate", str(tmp_path / "p.jsonl"), str(tmp_path / "r.json"), "--out", str(out)
    )
    assert code == 0 and document["metrics"]["micro_f1"] == 1.0
    assert json.loads(out.read_text()) == document
    assert main(["evaluate", str(tmp_path / "p.jsonl"), str(tmp_path / "r.json")]) == 0
    assert "hallucinated choice" in capsys.readouterr().out


def test_a_dry_run_checks_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE.replace("LARGE", '"scenes:medium"').replace("SMALL", "org/not-here"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # nor does it ask the hub
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", None)
    code, document = call(capsys, "distill-online", "r.yaml", "seed=3", "runtime.device=cpu", "--dry-run")
    assert code == 0
    assert document["pyramid"][1] == {
        "level": "small",
        "model": "org/not-here",
        "weights": "to download",
        "quantization": "none",
        "learns": "in full, 2 steps",
        "taught by": "large",
    }
    assert document["pyramid"][0]["weights"].endswith("MiB")
    assert document["recipe"]["seed"] == 3
    assert document["data"]["train"] == {"records": 8, "images": 8, "left_out": 0}
    assert "CPU" in document["runtime"]
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]
    code, document = call(capsys, "distill-online", "r.yaml", "data.test={file: absent.json}", "--dry-run")
    assert code == 3 and "absent.json" in document["error"]["message"]
    Path("empty").mkdir()
    code, document = call(capsys, "distill-online", "r.yaml", "pyramid.small.model=./empty", "--dry-run")
    assert code == 3 and "empty" in document["error"]["message"]


def test_a_dry_run_refuses_levels_that_cannot_be_compared(
    tiny_llava: Path, tiny_qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE.replace("LARGE", str(tiny_qwen)).replace("SMALL", str(tiny_llava)))
    code, document = call(capsys, "distill-online", str(recipe), "--dry-run")
    assert code == 3 and "only by choice" in document["error"]["message"]
    assert call(capsys, "distill-online", str(recipe), "distill.choice_weight=1", "--dry-run")[0] == 0


def test_a_whole_run_through_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tiny_models import save_tiny_llava

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for seed, name in enumerate(("LARGE", "SMALL")):
        save_tiny_llava(tmp_path / name, seed=seed)
    Path("r.yaml").write_text(RECIPE)
    capsys.readouterr()
    code, document = call(capsys, "distill-online", "r.yaml")
    assert code == 0
    assert [row["level"] for row in document["scores"]] == ["constant answer", "large", "small"]
    code, again = call(capsys, "distill-online", "r.yaml", "--resume")
    assert code == 0 and again == document
    assert call(capsys, "distill-online", "r.yaml")[0] == 2
    assert call(capsys, "distill-online", "r.yaml", "seed=1", "--resume")[0] == 2
    code, counts = call(
        capsys, "infer", "runs/tiny", "scenes:test", "--limit", "4", "--shift", "--out", "p.jsonl"
    )
    assert code == 0 and counts["total"] == 4
    assert call(capsys, "infer", "runs/tiny", "scenes:test", "--out", "p.jsonl")[0] == 2
    assert not list(tmp_path.glob(".*.lock"))
    code, metrics = call(capsys, "evaluate", "p.jsonl", "scenes:test")
    assert code == 0 and metrics["counts"]["missing"] == 596


def test_the_risk_of_the_most_confident_is_a_table_where_rows_say_how_sure_they_are(tmp_path: Path) -> None:
    from hkdcli.scenes.source import load_scenes

    examples = load_scenes("test", size=10).examples
    for name, certain in (("plain", {}), ("sure", {"confidence": 0.5})):
        rows = [
            {"id": example.id, "prediction": sorted(example.answer or ()), **certain} for example in examples
        ]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        outcome = engine.evaluate(tmp_path / name, DataOptions("scenes:test", limit=10))
        tables = {table.title: table for table in outcome.tables}
        assert ("Risk among the most confident" in tables) == bool(certain)
    assert [row[1] for row in tables["Risk among the most confident"].rows] == ["0.000"] * 5


@pytest.mark.parametrize("missed", ["colour", "relation"])
def test_kinds_of_choices_that_are_missed_stand_in_a_table(tmp_path: Path, missed: str) -> None:
    from hkdcli.scenes.source import load_scenes

    examples = [each for each in load_scenes("test", size=20).examples if each.task == "hallucination"]
    with (tmp_path / "p.jsonl").open("w") as file:
        for example in examples:
            kinds = example.extra["meta"]["phenomena"]
            found = [letter for letter in example.answer or () if kinds.get(letter) != missed]
            file.write(json.dumps({"id": example.id, "prediction": sorted(found)}) + "\n")
    outcome = engine.evaluate(tmp_path / "p.jsonl", DataOptions("scenes:test", limit=20))
    rows = next(table for table in outcome.tables if table.title == "Choices").rows
    assert {row[1]: row[2] for row in rows} == {
        f"phenomena: {kind}": "0.000" if kind == missed else "1.000"
        for kind in ("colour", "object", "position", "relation", "size")
    }
