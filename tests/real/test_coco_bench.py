"""`hkd infer` and `hkd evaluate` over real photos and records, as a user calls them."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
from real_data import find_coco_bench, needs_coco_bench

from hkdcli.__main__ import main
from hkdcli.data.examples import read_examples

pytestmark = needs_coco_bench
RECORDS = {"task1.json": 752, "task2.json": 915}


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def run_both(
    capsys: pytest.CaptureFixture[str], model: Path, data: Path, out: Path
) -> tuple[Any, list[dict[str, Any]]]:
    images = find_coco_bench() / "images"
    call(capsys, "infer", model, data, "--images", images, "--out", out, "--batch-size", 16)
    return call(capsys, "evaluate", out, data), [json.loads(line) for line in out.read_text().splitlines()]


def count_micro_f1(rows: list[dict[str, Any]], records: list[dict[str, Any]]) -> float:
    """Option-level micro-F1, counted here from the file alone."""
    gold = {record["id"]: set(record["correct_choice"].replace(" ", "").split(",")) for record in records}
    said = {row["id"]: set(row["prediction"]) for row in rows}
    hits = sum(len(said[key] & gold[key]) for key in gold)
    return 2 * hits / (sum(map(len, gold.values())) + sum(map(len, said.values())))


def check_rows(rows: list[dict[str, Any]], records: list[dict[str, Any]]) -> None:
    assert [row["id"] for row in rows] == [record["id"] for record in records]
    for row, record in zip(rows, records, strict=True):
        ids = {choice["id"] for choice in record["choices"]}
        assert row["status"] == "ok" and row["error"] is None and row["truncated"] is False
        assert row["prediction"] and set(row["prediction"]) <= ids
        assert math.isclose(sum(answer["p"] for answer in row["posterior"]), 1, abs_tol=1e-6)


def check_task(
    capsys: pytest.CaptureFixture[str], model: Path, data: Path, records: list[dict[str, Any]], out: Path
) -> None:
    metrics, rows = run_both(capsys, model, data, out)
    check_rows(rows, records)
    assert metrics["metrics"]["micro_f1"] == pytest.approx(count_micro_f1(rows, records))


@pytest.mark.parametrize("task", RECORDS)
def test_the_first_records(
    task: str, tiny_qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = json.loads((find_coco_bench() / task).read_text())[:24]
    (tmp_path / task).write_text(json.dumps(records))
    check_task(capsys, tiny_qwen, tmp_path / task, records, tmp_path / "p.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("task", RECORDS)
def test_every_record(task: str, tiny_qwen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = json.loads((find_coco_bench() / task).read_text())
    assert len(records) == RECORDS[task]
    check_task(capsys, tiny_qwen, find_coco_bench() / task, records, tmp_path / "p.jsonl")


def test_no_image_is_in_two_splits(tmp_path: Path) -> None:
    files = [str(find_coco_bench() / task) for task in RECORDS]
    assert main(["split", *files, "--out", str(tmp_path)]) == 0
    splits = [read_examples(tmp_path / f"{name}.json").examples for name in ("train", "dev", "test")]
    images = [{example.image for example in examples} for examples in splits]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(images, 2))
    assert sum(map(len, splits)) == sum(RECORDS.values())
    assert all({example.task for example in each} == {"hallucination", "factuality"} for each in splits)
