"""`hkd infer --calibrate`: stored with the model, used from then on, and never where it does not belong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import call_hkd, read_rows
from safetensors.torch import load_file, save_file

from hkdcli.scenes.pretrained import model_folder
from hkdcli.scenes.source import load_scenes, write_scenes

Rows = list[dict[str, Any]]
DEV = ("--calibrate", "scenes:dev")


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that `--calibrate` wrote calibration.json into; read only."""
    run = make_run(tmp_path_factory.mktemp("calibrated") / "run")
    said = call_hkd("infer", run, *DEV, "--limit", "120", "--json")
    document = said.document
    assert document["calibration"] == str(run / "student" / "calibration.json")
    halves = [
        task[half]["correct"] for task in document["fit"]["tasks"].values() for half in task if "half" in half
    ]
    assert [len(half) for half in halves] == [30] * 4  # --limit holds for DEV too
    assert json.loads((run / "student" / "calibration.json").read_text())["fits"] == [document["fit"]]
    return run


@pytest.fixture
def run(calibrated: Path, tmp_path: Path) -> Path:
    """A calibrated run folder to change."""
    return Path(shutil.copytree(calibrated, tmp_path / "run"))


def make_run(folder: Path) -> Path:
    """What `hkd distill-online` leaves, of which inference takes the student."""
    torch.set_num_threads(1)
    shutil.copytree(model_folder("small"), folder / "student")
    (folder / "manifest.json").write_text(json.dumps({"recipe": {"pyramid": [{"name": "base"}]}}))
    return folder


def infer(model: Path, *options: str | Path, limit: int = 12, data: str = "scenes:test") -> tuple[Rows, str]:
    """Rows, and what was said beside them."""
    out = model / "p.jsonl"
    said = call_hkd("infer", model, data, "--limit", str(limit), "--out", out, "--overwrite", *options)
    return read_rows(out), said.err


def refuse(model: Path, *options: str | Path, code: int) -> str:
    out = model / "none.jsonl"
    said = call_hkd("infer", model, "scenes:test", "--limit", "12", "--out", out, *options, code=code)
    assert not out.exists() and said.out == ""
    return said.err


def write_records(folder: Path, scenes_files: Path, *, is_labelled: bool) -> Path:
    records = json.loads((scenes_files / "records.json").read_text())
    for record in records:
        if not is_labelled:
            del record["correct_choice"], record["correct_answer"]
    (folder / "records.json").write_text(json.dumps(records))
    return folder / "records.json"


def test_a_calibration_is_used_by_default_and_left_alone_on_demand(run: Path) -> None:
    rows, said = infer(run)
    plain, said_plain = infer(run, "--uncalibrated")
    assert f"calibrated: {run / 'student' / 'calibration.json'}" in said and "calibrated" not in said_plain
    for row, before in zip(rows, plain, strict=True):
        assert row["run_hash"] != before["run_hash"] and row["prompt_hash"] == before["prompt_hash"]
        assert row["posterior"] != before["posterior"]
        assert row["confidence"] < before["confidence"]  # a small model is far too sure of itself
    (run / "student" / "calibration.json").unlink()
    assert infer(run)[0] == plain


def test_rows_of_another_calibration_are_not_gone_on_with(run: Path) -> None:
    infer(run, "--uncalibrated")
    words = ["infer", run, "scenes:test", "--limit", "12", "--out", run / "p.jsonl", "--resume"]
    said = call_hkd(*words, code=2)
    assert "was written with another model, other shifts, decoding or calibration" in said.err
    assert call_hkd(*words, "--uncalibrated", "--json").document["resumed"] == 12


def test_other_shifts_than_those_it_was_fitted_for_go_without_and_say_so(run: Path) -> None:
    rows, said = infer(run, "--shifts", "2")
    assert "warning:" in said and "was not fitted for these shifts, so this is not calibrated" in said
    assert rows == infer(run, "--shifts", "2", "--uncalibrated")[0]
    call_hkd("infer", run, *DEV, "--limit", "120", "--shifts", "2")
    rows, said = infer(run, "--shifts", "2")
    assert "warning" not in said and rows != infer(run, "--shifts", "2", "--uncalibrated")[0]
    assert "warning" not in infer(run)[1]  # the first fit is still there


def test_of_weights_that_were_trained_on_a_calibration_is_no_longer_believed(run: Path) -> None:
    weights = run / "student" / "model.safetensors"
    tensors = load_file(weights)
    tensors[next(iter(tensors))] += 0.01
    save_file(tensors, weights, metadata={"format": "pt"})
    rows, said = infer(run)
    assert "warning:" in said and "belongs to other weights" in said and "without calibration" in said
    assert rows == infer(run, "--uncalibrated")[0]
    named = ("--calibration", run / "student" / "calibration.json")
    assert "belongs to other weights" in refuse(run, *named, code=3)
    call_hkd("infer", run, *DEV, "--limit", "120")
    assert "warning" not in infer(run)[1]


def test_dev_and_data_in_one_command_are_as_in_two(calibrated: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    rows, said = infer(run, *DEV, limit=120)
    kept = run / "student" / "calibration.json"
    assert f"calibration: {kept}" in said and f"calibrated: {kept}" in said
    assert kept.read_bytes() == (calibrated / "student" / "calibration.json").read_bytes()
    assert rows == infer(run, limit=120)[0]


def test_a_model_without_a_folder_keeps_its_calibration_where_it_is_told(tmp_path: Path) -> None:
    said = call_hkd("infer", "scenes:small", *DEV, "--limit", "120", code=2)
    assert "has no place in it" in said.err and "--calibration" in said.err
    kept = ("--calibration", tmp_path / "c.json")
    call_hkd("infer", "scenes:small", *DEV, "--limit", "120", *kept)
    words = ("infer", "scenes:small", "scenes:test", "--limit", "4", "--out", tmp_path / "p")
    assert f"calibrated: {tmp_path / 'c.json'}" in call_hkd(*words, *kept).err
    (tmp_path / "c.json").write_text("{}")
    assert "cannot be used as a calibration" in call_hkd(*words, *kept, "--overwrite", code=3).err


def test_a_threshold_is_for_sets_and_leaves_single_answers_alone(run: Path) -> None:
    call_hkd("infer", run, *DEV, "--limit", "120", "--decode", "threshold")
    rows, _ = infer(run, "--decode", "threshold")
    assert {row["task"] for row in rows} == {"hallucination", "factuality"}
    assert all(len(row["prediction"]) == 1 for row in rows if row["task"] == "factuality")
    (run / "student" / "calibration.json").unlink()
    said = refuse(run, "--decode", "threshold", code=2)
    assert "no threshold was fitted for hallucination" in said


def test_too_few_records_promise_nothing_and_the_number_that_is_needed_is_named(run: Path) -> None:
    call_hkd("infer", run, *DEV, "--limit", "40")
    said = refuse(run, "--target-precision", "0.9", code=6)
    assert ": 20 labelled records are too few" in said and "it takes at least 57" in said
    assert said.splitlines()[-2].split(":")[0] in ("hallucination", "factuality")
    assert "are not calibrated" in refuse(run, "--target-precision", "0.9", "--shift", code=2)
    assert "between 0 and 1" in refuse(run, "--target-precision", "1", code=2)


def test_a_promised_precision_abstains_and_is_kept(tmp_path: Path) -> None:
    model, out = Path(shutil.copytree(model_folder("large-tuned"), tmp_path / "m")), tmp_path / "p.jsonl"
    for split, size in (("dev", 200), ("test", 100)):
        write_scenes(tmp_path / split, load_scenes(split, size=size, tasks=["factuality"]))
    dev, data = tmp_path / "dev" / "records.json", tmp_path / "test" / "records.json"
    words = ("infer", model, data, "--calibrate", dev, "--target-precision", "0.9", "--out", out)
    counts = call_hkd(*words, "--json").document
    rows = read_rows(out)
    abstained = [row for row in rows if row["status"] == "abstain"]
    assert 0 < len(abstained) == counts["abstained"] < 50
    assert all(row["prediction"] is None and row["posterior"] for row in abstained)
    given = [row["confidence"] for row in rows if row["status"] == "ok"]
    assert min(given) > max(row["confidence"] for row in abstained)
    document = call_hkd("evaluate", out, data, "--json").document
    assert document["counts"]["abstained"] == len(abstained)
    assert document["metrics"]["coverage"] == pytest.approx(1 - len(abstained) / 100)
    assert document["metrics"]["selective_exact_match"] >= 0.9


def test_a_prior_is_divided_out_in_one_pass_once_it_was_estimated(run: Path) -> None:
    said = refuse(run, "--debias", "prior", code=2)
    assert "no letter prior was estimated" in said and "--calibrate DEV --debias prior" in said
    call_hkd("infer", run, *DEV, "--limit", "120", "--debias", "prior")
    rows, said = infer(run, "--debias", "prior")
    assert "calibrated: " in said and all(row["shifts"] == 1 and row["flip_rate"] == 0 for row in rows)
    assert [row["posterior"] for row in rows] != [row["posterior"] for row in infer(run)[0]]


def test_a_number_of_choices_that_no_prior_is_known_for_costs_its_records_alone(run: Path) -> None:
    """In so few records of DEV one has five choices, and is in the half that nothing is fitted on."""
    said = call_hkd("infer", run, *DEV, "--limit", "40", "--debias", "prior")
    assert "labelled records are left out of the fit" in said.err and "choices.no_prior" in said.err
    rows, _ = infer(run, "--debias", "prior")
    assert {row["status"] for row in rows} == {"ok"}


def test_records_without_answers_serve_a_prior_and_nothing_else(
    run: Path, scenes_files: Path, tmp_path: Path
) -> None:
    unlabelled = write_records(tmp_path, scenes_files, is_labelled=False)
    images = ("--images", scenes_files / "images")
    (run / "student" / "calibration.json").unlink()
    said = call_hkd("infer", run, "--calibrate", unlabelled, *images, code=3)
    assert "no record has an answer to calibrate on" in said.err
    assert not (run / "student" / "calibration.json").exists()
    said = call_hkd("infer", run, "--calibrate", unlabelled, *images, "--debias", "prior")
    assert "Letter prior" in said.out and "temperature" not in said.out
    (fit,) = json.loads((run / "student" / "calibration.json").read_text())["fits"]
    assert fit["tasks"] == {} and set(fit["letter_prior"]) == {"hallucination", "factuality"}
    rows, _ = infer(run, "--debias", "prior", "--decode", "map", data="scenes:dev")
    assert [row["status"] for row in rows].count("ok") >= 10


def test_too_few_labelled_records_calibrate_nothing(run: Path) -> None:
    before = (run / "student" / "calibration.json").read_bytes()
    said = call_hkd("infer", run, *DEV, "--limit", "16", code=3)
    assert "8 labelled records are too few" in said.err
    assert "no task has 10 labelled records to calibrate on" in said.err
    assert (run / "student" / "calibration.json").read_bytes() == before
