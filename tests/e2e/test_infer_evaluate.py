"""`hkd infer` and `hkd evaluate` as people use them, against scikit-learn and against an interruption."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import DEADLINE_S, ENVIRONMENT, interrupt, read_rows, run_hkd, run_json
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

RECORDS = 40
BROKEN = {  # what is wrong with a record's image, and what its row must say
    "h-test-0-000000": (b"", "image.empty"),
    "f-test-0-000001": (b"<html>404</html>", "image.not_an_image"),
    "h-test-0-000038": (None, "image.truncated"),
}


@pytest.fixture(scope="module")
def predictions(whole_run: Path, scenes_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the distilled base answers to the 40 records, every shift averaged; read only."""
    out = tmp_path_factory.mktemp("predictions") / "p.jsonl"
    counts = run_json(*infer(whole_run, scenes_files, out), folder=out.parent)
    assert counts["total"] == RECORDS and counts["failed"] == 0
    return out


def infer(model: Path, data: Path, out: Path) -> list[str | Path]:
    return ["infer", model, data / "records.json", "--shift", "--batch-size", "2", "--out", out]


def list_decisions(predictions: Path, records: Path, prefix: str = "") -> tuple[list[bool], list[bool]]:
    """Every choice of every record as one decision, gold and predicted; no prediction is the empty set."""
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    said = {row["id"]: row["prediction"] or [] for row in rows}
    gold, predicted = [], []
    for record in json.loads(records.read_text()):
        if record["id"].startswith(prefix):
            for choice in record["choices"]:
                gold.append(choice["id"] in record["correct_choice"].split(","))
                predicted.append(choice["id"] in said.get(record["id"], []))
    return gold, predicted


def check_scores(document: dict[str, Any], predictions: Path, data: Path) -> None:
    """The numbers of `hkd evaluate` are those of scikit-learn, over all records and per task."""
    parts = {"": document["metrics"]}
    parts |= {name[0]: task["metrics"] for name, task in document["tasks"].items()}
    assert set(parts) == {"", "h", "f"}
    for prefix, metrics in parts.items():
        gold, predicted = list_decisions(predictions, data / "records.json", prefix)
        expected = precision_recall_fscore_support(gold, predicted, average="binary", pos_label=True)
        found = [metrics[f"micro_{name}"] for name in ("precision", "recall", "f1")]
        assert found == pytest.approx(expected[:3], abs=1e-12)
        assert 0 < metrics["micro_f1"] < 1  # of predictions that are all right or all wrong little is seen


def test_scores_are_those_of_scikit_learn(predictions: Path, scenes_files: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    records = scenes_files / "records.json"
    document = run_json("evaluate", predictions, records, "--out", out, folder=tmp_path)
    assert json.loads(out.read_text()) == document
    assert document["counts"]["missing"] == document["counts"]["invalid"] == 0
    check_scores(document, predictions, scenes_files)
    rows = {row["id"]: row["prediction"] for row in read_rows(predictions)}
    factual = [record for record in json.loads(records.read_text()) if "claim" in record]
    gold = [record["correct_choice"] for record in factual]
    accuracy = accuracy_score(gold, [rows[record["id"]][0] for record in factual])
    assert document["tasks"]["factuality"]["metrics"]["micro_f1"] == pytest.approx(accuracy)


def test_d24_missing_predictions_are_empty_sets(
    predictions: Path, scenes_files: Path, tmp_path: Path
) -> None:
    lines = predictions.read_text().splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    (tmp_path / "some.jsonl").write_text("".join(lines[:29]))
    document = run_json("evaluate", "some.jsonl", scenes_files / "records.json", folder=tmp_path)
    assert document["counts"]["missing"] == RECORDS - 29
    check_scores(document, tmp_path / "some.jsonl", scenes_files)


def test_scenes_by_name_are_the_scenes_on_disk(predictions: Path, scenes_files: Path, tmp_path: Path) -> None:
    """Predictions made from files are joined with `scenes:test`, whose other records then are missing."""
    document = run_json("evaluate", predictions, "scenes:test", folder=tmp_path)
    assert document["counts"]["missing"] == document["counts"]["records"] - RECORDS
    assert document["counts"]["extra"] == 0


def test_d03_r06_a_killed_infer_resumes_to_the_same_bytes(
    whole_run: Path, predictions: Path, scenes_files: Path, tmp_path: Path
) -> None:
    out = tmp_path / "p.jsonl"
    command = infer(whole_run, scenes_files, out)
    seen = random.Random(6).randrange(4, RECORDS // 2)
    ended, _ = interrupt(
        command, folder=tmp_path, when=lambda: len(read_rows(out)) >= seen, number=signal.SIGKILL
    )
    assert ended == -signal.SIGKILL
    assert seen <= len(read_rows(out)) < RECORDS
    with out.open("ab") as file:
        file.write(predictions.read_bytes()[:77])  # as if the kill had cut a line short
    counts = run_json(*command, "--resume", folder=tmp_path)
    assert seen <= counts["resumed"] < counts["total"] == RECORDS
    assert out.read_bytes() == predictions.read_bytes()


@pytest.fixture
def broken_files(scenes_files: Path, tmp_path: Path) -> Path:
    """The 40 records, three of them with an image that cannot be read."""
    folder = shutil.copytree(scenes_files, tmp_path / "broken")
    for name, (content, _) in BROKEN.items():
        image = folder / "images" / f"{name}.png"
        image.write_bytes(image.read_bytes()[:-60] if content is None else content)
    return folder


def test_i01_i02_i03_broken_images_fail_alone(
    whole_run: Path, predictions: Path, broken_files: Path, tmp_path: Path
) -> None:
    """I01-I03: exit 5, a row that says why, and the other records answered as ever."""
    out = tmp_path / "p.jsonl"
    counts = run_json(*infer(whole_run, broken_files, out), folder=tmp_path, code=5)
    assert counts["total"] == RECORDS and counts["failed"] == len(BROKEN)
    usual = {row["id"]: row["prediction"] for row in read_rows(predictions)}
    for row in read_rows(out):
        if row["id"] in BROKEN:
            assert row["status"] == "error" and row["prediction"] is None
            assert row["error"]["code"] == BROKEN[row["id"]][1]
        else:
            assert row["status"] == "ok" and row["prediction"] == usual[row["id"]]
    document = run_json("evaluate", out, broken_files / "records.json", folder=tmp_path)
    assert document["counts"]["error"] == len(BROKEN) and document["counts"]["missing"] == 0
    check_scores(document, out, broken_files)


@pytest.mark.parametrize("option", ["", "--json"])
def test_c12_a_reader_that_leaves_is_no_error(
    predictions: Path, scenes_files: Path, tmp_path: Path, option: str
) -> None:
    command = f'"{sys.executable}" -m hkdcli evaluate "{predictions}" "{scenes_files}/records.json" {option}'
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr and "Broken pipe" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("number", "codes"), [(signal.SIGINT, (130,)), (signal.SIGTERM, (143, -15))])
def test_r05_a_stopped_infer_keeps_its_rows(
    whole_run: Path,
    predictions: Path,
    scenes_files: Path,
    tmp_path: Path,
    number: int,
    codes: tuple[int, ...],
) -> None:
    out = tmp_path / "p.jsonl"
    command = infer(whole_run, scenes_files, out)
    ended, said = interrupt(command, folder=tmp_path, when=lambda: len(read_rows(out)) >= 4, number=number)
    assert ended in codes and "Traceback" not in said, said
    run_hkd(*command, "--resume", folder=tmp_path)
    assert out.read_bytes() == predictions.read_bytes()
