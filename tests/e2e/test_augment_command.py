"""`hkd augment` as a user types it: what it makes, what it refuses, and killed at any moment."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import ENVIRONMENT, call_hkd, read_rows, run_hkd
from PIL import Image

from hkdcli.augment import operations
from hkdcli.engine import SILENT
from hkdcli.opening import DataOptions, open_data

COMMAND = ["augment", "scenes:train", "--limit", "24", "--copies", "2", "--policy", "strong", "--seed", "1"]
KILLS = 6


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What nothing interrupted; read only."""
    out = tmp_path_factory.mktemp("whole") / "d"
    call_hkd(*COMMAND, "--out", out)
    return out


def read_all(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_dataset_is_read_again_by_everything_that_reads_records(whole, tmp_path):
    data = open_data(DataOptions(str(whole / "records.jsonl"), on_bad="error"), SILENT)
    assert len(data.examples) == 72
    call_hkd("infer", "scenes:small", whole / "records.jsonl", "--limit", "6", "--out", tmp_path / "p.jsonl")
    assert len(read_rows(tmp_path / "p.jsonl")) == 6


def test_the_document_is_json_and_the_table_is_for_people(whole, tmp_path):
    said = call_hkd(*COMMAND, "--out", tmp_path / "d", "--json")
    assert said.document["counts"] == json.loads((whole / "augment.json").read_text())["counts"]
    shown = call_hkd(*COMMAND, "--out", tmp_path / "d", "--resume")
    assert "commonest reason" in shown.out and "72" not in shown.err


def test_a_recipe_says_the_same_as_options(whole, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("seed: 1\ndata: {scenes: {split: train, size: 24}}\ncopies: 2\n")
    call_hkd("augment", recipe, "augment.policy=strong", "--out", tmp_path / "d")
    assert read_all(tmp_path / "d") == read_all(whole)


def test_a_sheet_alone_writes_no_dataset(tmp_path):
    said = call_hkd("augment", "scenes:train", "--limit", "5", "--preview", tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > 500
    assert [path.name for path in tmp_path.iterdir()] == ["s.png"] and "s.png" in said.out


REFUSED = {
    "nothing to make": [],
    "--copies": ["--out", "d", "--copies", "0"],
    "--set flip=2": ["--out", "d", "--set", "flip=2"],
    "--set flip": ["--out", "d", "--set", "flip"],
    "flop; did you mean flip": ["--out", "d", "--set", "flop=0"],
    "KEY=VALUE changes a recipe": ["copies=2", "--out", "d"],
    "--trust-code goes with": ["--out", "d", "--trust-code"],
    "no such file of operations": ["--out", "d", "--operations", "none.py", "--trust-code"],
    "ends in .png": ["--preview", "sheet.jpg"],
}


@pytest.mark.parametrize("detail", REFUSED)
def test_options_that_cannot_be_used_are_refused_and_nothing_is_written(detail, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert detail in call_hkd("augment", "scenes:train", *REFUSED[detail], code=2).err.replace("\n", " ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (["--copies", "3"], "copies=VALUE"),
        (["--seed", "0"], "seed=VALUE"),
        (["--policy", "light"], "augment.policy=VALUE"),
        (["--set", "flip=0"], "augment.probabilities=VALUE"),
        (["--balance"], "balance=VALUE"),
        (["--limit", "3"], "--limit"),
        (["--encoding", "latin-1"], "data.encoding=VALUE"),
        (["--allow-outside-root"], "data.allow_outside_root=VALUE"),
    ],
)
def test_what_a_recipe_says_is_not_said_twice(options, key, tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("data: {scenes: {split: train, size: 4}}\n")
    assert key in call_hkd("augment", recipe, "--out", tmp_path / "d", *options, code=2).err


def test_a_recipe_names_no_code(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("data: {scenes: {split: train, size: 4}}\noperations: ops.py\n")
    assert "operations" in call_hkd("augment", recipe, "--out", tmp_path / "d", code=2).err


def test_code_of_ones_own_runs_only_where_it_is_trusted(tmp_path, monkeypatch):
    operations.get_operations()
    monkeypatch.setattr(operations, "REGISTRY", dict(operations.REGISTRY))
    code = tmp_path / "ops.py"
    code.write_text(
        "from pathlib import Path\nfrom hkdcli.augment.operations import Change, operation\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n\n"
        "@operation('image')\ndef inverted(sample, rng, strength):\n"
        "    'Turns light into dark.'\n    dark = sample.image.point(lambda v: 255 - v)\n"
        "    return Change(sample.example, dark, {'n': 1})\n"
    )
    words = [*COMMAND, "--out", tmp_path / "d", "--operations", code]
    assert "--trust-code" in call_hkd(*words, code=2).err and not (tmp_path / "ran").exists()
    call_hkd(*words, "--trust-code", "--set", "inverted=1", "--nproc", "2")
    counts = json.loads((tmp_path / "d" / "augment.json").read_text())["counts"]
    assert counts["operations"]["inverted"]["applied"] == 48


def test_data_that_is_absent_is_data_refused(tmp_path):
    call_hkd("augment", tmp_path / "none.json", "--out", tmp_path / "d", code=3)
    call_hkd("augment", "scenes:train", "--facts", tmp_path / "none.jsonl", "--out", tmp_path / "d", code=2)


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_it_is_the_same_dataset(whole, tmp_path):
    """R06, for variants: kill -9 of the whole process, whose workers end by themselves."""
    rng = random.Random(0)
    words = [sys.executable, "-m", "hkdcli", *COMMAND, "--nproc", "2", "--out", str(tmp_path / "d")]
    started = time.monotonic()
    subprocess.run([*words[:-1], str(tmp_path / "timed")], env=ENVIRONMENT, check=True, capture_output=True)
    whole_s = time.monotonic() - started
    for _ in range(KILLS):
        begun = (tmp_path / "d").exists()
        child = subprocess.Popen(
            [*words, *(["--resume"] if begun else [])],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0.3, 1.1) * whole_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
    run_hkd(*COMMAND, "--out", tmp_path / "d", "--resume", folder=tmp_path)
    assert read_all(tmp_path / "d") == read_all(whole)
