"""What hkd will not do to files: go on with rows of other records, or write over what it reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import ENVIRONMENT, call_hkd, read_rows

from hkdcli.locks import hold_lock

MODEL = "scenes:small"


@pytest.fixture(scope="module")
def finished(scenes_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of the first six records; read only."""
    out = tmp_path_factory.mktemp("finished") / "p.jsonl"
    call_hkd("infer", MODEL, scenes_files / "records.json", "--limit", 6, "--out", out)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "p.jsonl"
    copy.write_bytes(finished.read_bytes())
    return copy


def edit_records(source: Path, target: Path, **fields: Any) -> Path:
    """The records with other fields in the second one."""
    records = json.loads((source / "records.json").read_text())
    records[1].update(fields)
    target.write_text(json.dumps(records))
    return target


def test_r07_a_record_that_says_something_else_is_no_resume(
    out: Path, scenes_files: Path, tmp_path: Path
) -> None:
    edited = edit_records(scenes_files, tmp_path / "edited.json", context="Something else.")
    words = ("infer", MODEL, edited, "--images", scenes_files / "images", "--limit", 6, "--out", out)
    said = call_hkd(*words, "--resume", code=2)
    assert "says something else now" in said.err and f"{out}:2" in said.err


def test_gold_that_comes_later_is_no_change(out: Path, scenes_files: Path, tmp_path: Path) -> None:
    records = edit_records(
        scenes_files, tmp_path / "unlabelled.json", correct_choice=None, correct_answer=None
    )
    words = ("infer", MODEL, records, "--images", scenes_files / "images", "--limit", 6, "--out", out)
    assert call_hkd(*words, "--resume", "--json").document["resumed"] == 6


@pytest.mark.parametrize("share", [("--limit", 3), ("--limit", 6, "--shard", "1/2")])
def test_rows_of_records_that_are_not_among_these_are_not_thrown_away(
    out: Path, scenes_files: Path, share: tuple[str | int, ...]
) -> None:
    before = out.read_bytes()
    said = call_hkd("infer", MODEL, scenes_files / "records.json", *share, "--out", out, "--resume", code=2)
    assert "not among these" in said.err and out.read_bytes() == before


def test_more_records_than_before_are_welcome(out: Path, scenes_files: Path) -> None:
    words = ("infer", MODEL, scenes_files / "records.json", "--limit", 9, "--out", out, "--resume", "--json")
    document = call_hkd(*words).document
    assert (document["resumed"], document["total"]) == (6, 9)


DAMAGE = {
    "a second row": lambda row: json.dumps(row),
    "an id of another kind": lambda row: json.dumps({**row, "id": ["a"]}),
    "no status we know": lambda row: json.dumps({**row, "id": "x", "status": "done"}),
    "a hash of another kind": lambda row: json.dumps({**row, "id": "x", "run_hash": [1]}),
    "deep nesting": lambda row: "[" * 100_000,
    "no object": lambda row: "[]",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_row_is_named_by_its_line(out: Path, scenes_files: Path, damage: str) -> None:
    line = DAMAGE[damage](read_rows(out)[0])
    out.write_bytes(out.read_bytes() + line.encode() + b"\n")
    records = scenes_files / "records.json"
    said = call_hkd("infer", MODEL, records, "--limit", 6, "--out", out, "--resume", code=3)
    assert f"{out}:7" in said.err
    said = call_hkd("merge-shards", records, out, "--out", out.with_name("m"), code=3)
    assert not out.with_name("m").exists()


def test_nothing_is_written_over_what_is_read(out: Path, scenes_files: Path, tmp_path: Path) -> None:
    records = tmp_path / "records.json"
    records.write_bytes((scenes_files / "records.json").read_bytes())
    picture = tmp_path / "one.png"
    picture.write_bytes(next((scenes_files / "images").iterdir()).read_bytes())
    linked = tmp_path / "linked.json"
    linked.symlink_to(records)
    drawn = tmp_path / "drawn.png"
    drawn.symlink_to(out)
    images = ("--images", scenes_files / "images")
    commands: list[tuple[str | Path, ...]] = [
        ("infer", MODEL, records, *images, "--out", records, "--overwrite"),
        ("infer", MODEL, records, *images, "--out", linked, "--overwrite"),
        ("infer", MODEL, records, *images, "--out", records, "--overwrite", "--nproc", "2"),
        ("merge-shards", records, out, *images, "--out", records, "--overwrite"),
        ("merge-shards", records, out, *images, "--out", out, "--overwrite"),
        ("evaluate", out, records, "--out", records),
        ("evaluate", out, records, "--out", out),
        ("infer", MODEL, "--image", picture, "--caption", "a cat", "--evidence", picture, "--overwrite"),
        ("infer", MODEL, "--calibrate", records, "--calibration", records),
        (
            "infer",
            MODEL,
            "--calibrate",
            "scenes:dev",
            "--calibration",
            linked,
            records,
            "--out",
            tmp_path / "n",
        ),
        ("infer", MODEL, "scenes:test", "--calibration", out, "--out", out, "--overwrite"),
        ("infer", MODEL, "scenes:test", "--calibration", out, "--out", out, "--overwrite", "--nproc", "2"),
        ("infer", MODEL, "--image", picture, "--caption", "a", "--calibration", out, "--evidence", drawn),
    ]
    before = {path: path.read_bytes() for path in (records, out, picture)}
    for command in commands:
        assert "would be lost" in call_hkd(*command, code=2).err
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("name", ["pipe", "folder"])
def test_what_is_no_regular_file_is_neither_written_nor_read(
    name: str, finished: Path, scenes_files: Path, tmp_path: Path
) -> None:
    place, records = tmp_path / name, scenes_files / "records.json"
    os.mkfifo(place) if name == "pipe" else place.mkdir()
    call_hkd("infer", MODEL, records, "--out", place, "--overwrite", code=2)
    call_hkd("infer", MODEL, records, "--out", place, "--resume", code=2)
    call_hkd("evaluate", finished, records, "--out", place, code=2)
    call_hkd("infer", MODEL, "--calibrate", records, "--calibration", place, code=2)
    call_hkd("evaluate", place, records, code=3)
    call_hkd("merge-shards", records, place, "--out", tmp_path / "m", code=3)


@pytest.mark.parametrize("place", ["x" * 300, "a/" * 3000 + "p", "records.json/p"])
def test_places_that_cannot_be_written_are_refused(place: str, scenes_files: Path, tmp_path: Path) -> None:
    (tmp_path / "records.json").write_text("{}")
    said = call_hkd("infer", MODEL, scenes_files / "records.json", "--out", tmp_path / place, code=3)
    assert "cannot be written" in said.err


def test_c17_a_second_command_on_one_file_leaves_the_first_one_s_parts_alone(
    scenes_files: Path, tmp_path: Path
) -> None:
    part = tmp_path / ".p.jsonl.part-1-of-2"
    part.write_text("rows")
    words = ("infer", MODEL, scenes_files / "records.json", "--out", tmp_path / "p.jsonl", "--nproc", "2")
    with hold_lock(tmp_path / ".p.jsonl.lock"):
        assert "in use" in call_hkd(*words, code=2).err
        assert "in use" in call_hkd(*words, "--overwrite", code=2).err
    assert part.read_text() == "rows"


def test_what_two_processes_began_neither_one_nor_three_go_on_with(
    scenes_files: Path, tmp_path: Path
) -> None:
    (tmp_path / ".p.jsonl.part-1-of-2").write_text("rows")
    words = ("infer", MODEL, scenes_files / "records.json", "--out", tmp_path / "p.jsonl", "--resume")
    for more in ((), ("--nproc", "1")):
        assert "was begun by 2 processes" in call_hkd(*words, *more, code=2).err


@pytest.mark.parametrize("more", [(), ("--nproc", "2")])
def test_what_two_processes_began_is_not_thrown_away_unasked(
    more: tuple[str, ...], scenes_files: Path, tmp_path: Path
) -> None:
    part = tmp_path / ".p[1].jsonl.part-1-of-2"
    part.write_text("rows")
    words = ("infer", MODEL, scenes_files / "records.json", "--out", tmp_path / "p[1].jsonl")
    said = call_hkd(*words, *more, code=2)
    assert "--nproc 2 --resume" in said.err and part.read_text() == "rows"


def test_parts_that_a_kill_left_beside_the_merged_file_are_in_nobody_s_way(
    out: Path, scenes_files: Path
) -> None:
    part = out.with_name(f".{out.name}.part-1-of-2")
    part.write_bytes(out.read_bytes())
    words = ("infer", MODEL, scenes_files / "records.json", "--limit", 6, "--out", out, "--nproc", "2")
    assert call_hkd(*words, "--resume", "--json").document["resumed"] == 6
    assert not part.exists()


def test_records_without_an_id_of_their_own_are_told_of(scenes_files: Path, tmp_path: Path) -> None:
    edited = edit_records(scenes_files, tmp_path / "edited.json", id="")
    words = ("infer", MODEL, edited, "--images", scenes_files / "images", "--limit", 40)
    said = call_hkd(*words, "--out", tmp_path / "p", "--json", code=5)
    assert "have no id of their own" in said.err
    assert (said.document["total"], said.document["failed"]) == (39, 1)


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_stream_without_its_ends_is_refused(closed: str) -> None:
    command = f"{sys.executable} -m hkdcli infer {MODEL} - {closed}"
    done = subprocess.run(command, shell=True, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and "closed" in done.stderr


def test_tables_for_a_closed_stdout_are_lost_and_no_error(out: Path, scenes_files: Path) -> None:
    command = f"{sys.executable} -m hkdcli evaluate {out} {scenes_files / 'records.json'} >&-"
    done = subprocess.run(["bash", "-c", command], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr
