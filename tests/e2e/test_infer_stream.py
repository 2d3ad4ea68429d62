"""`hkd infer MODEL - < records`: a row for each record while the next is still to be written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import DEADLINE_S, ENVIRONMENT, call_hkd, on_cpu, read_rows

from hkdcli.__main__ import main


@pytest.fixture(scope="module")
def lines(scenes_files: Path) -> list[bytes]:
    """The 40 records, a line each."""
    records = json.loads((scenes_files / "records.json").read_text())
    return [json.dumps(record).encode() + b"\n" for record in records]


def list_words(scenes_files: Path, *options: str) -> list[str]:
    return ["infer", "scenes:small", "-", "--images", str(scenes_files / "images"), *options]


def test_c12_rows_come_while_records_are_still_to_be_written_until_the_reader_leaves(
    lines: list[bytes], scenes_files: Path, tmp_path: Path
) -> None:
    """One record, its row; the next one, its row; and a reader that has seen enough, as head, is no error."""
    said = tmp_path / "stderr.txt"
    with (
        said.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "hkdcli", *list_words(scenes_files)],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        for line in lines[:3]:
            process.stdin.write(line)
            process.stdin.flush()
            row = json.loads(process.stdout.readline())  # would wait for ever, were it not answered
            assert row["id"] == json.loads(line)["id"] and row["status"] == "ok"
        process.stdout.close()
        process.stdin.write(lines[3])
        process.stdin.flush()
        assert process.wait(DEADLINE_S) == 128 + signal.SIGPIPE  # though stdin is still open
    (note,) = said.read_text().splitlines()
    assert note.startswith("CPU with 1 threads")


def pipe_through(
    monkeypatch: pytest.MonkeyPatch, words: list[str], data: Path, target: Path
) -> tuple[int, str]:
    """`hkd WORDS < data > target` in this process: its exit code, and stderr."""
    said = io.StringIO()
    out = target.open("w")
    with data.open() as source:
        monkeypatch.setattr(sys, "stdin", source)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", said)
        monkeypatch.setattr(os, "dup2", lambda old, new: new)  # descriptor 1 is not ours
        try:
            with on_cpu():
                return main(words), said.getvalue()
        finally:
            monkeypatch.undo()
            with contextlib.suppress(OSError):  # what a full disk did not take
                out.close()


def test_a_stream_answers_as_a_file_does(
    monkeypatch: pytest.MonkeyPatch, lines: list[bytes], scenes_files: Path, tmp_path: Path
) -> None:
    (tmp_path / "records.jsonl").write_bytes(b"".join(lines))
    options = ["--shifts", "2", "--batch-size", "5"]
    words = list_words(scenes_files, *options)
    code, said = pipe_through(monkeypatch, words, tmp_path / "records.jsonl", tmp_path / "p.jsonl")
    assert code == 0 and "40 records, 0 failed" in said
    call_hkd("infer", "scenes:small", scenes_files / "records.json", *options, "--out", tmp_path / "q.jsonl")
    rows, expected = read_rows(tmp_path / "p.jsonl"), read_rows(tmp_path / "q.jsonl")
    assert [(row["id"], row["prediction"]) for row in rows] == [
        (row["id"], row["prediction"]) for row in expected
    ]
    assert {row["run_hash"] for row in rows} == {expected[0]["run_hash"]}
    scores = call_hkd("evaluate", tmp_path / "p.jsonl", scenes_files / "records.json", "--json").document
    assert scores["counts"]["missing"] == scores["counts"]["invalid"] == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_c13_a_full_disk_under_the_rows_is_an_error(
    monkeypatch: pytest.MonkeyPatch, lines: list[bytes], scenes_files: Path, tmp_path: Path
) -> None:
    (tmp_path / "records.jsonl").write_bytes(lines[0])
    code, said = pipe_through(
        monkeypatch, list_words(scenes_files), tmp_path / "records.jsonl", Path("/dev/full")
    )
    assert code == 4 and "no space left" in said and "Traceback" not in said


def test_a_line_that_is_no_record_costs_nothing_else(
    monkeypatch: pytest.MonkeyPatch, lines: list[bytes], scenes_files: Path, tmp_path: Path
) -> None:
    data = tmp_path / "records.jsonl"
    data.write_bytes(lines[0] + b"no json\n\n" + lines[0] + lines[1].rstrip())  # the last line has no end
    code, said = pipe_through(monkeypatch, list_words(scenes_files), data, tmp_path / "p.jsonl")
    assert code == 5 and "4 records, 2 failed" in said
    assert "stdin:2: data.format" in said and "and so gets no row" in said and "no second row" in said
    assert [row["id"] for row in read_rows(tmp_path / "p.jsonl")] == [
        json.loads(line)["id"] for line in lines[:2]
    ]


def test_images_that_lead_out_of_their_folder_fail_alone(
    monkeypatch: pytest.MonkeyPatch, lines: list[bytes], scenes_files: Path, tmp_path: Path
) -> None:
    records = [json.loads(line) for line in lines[:3]]
    records[1]["image_id"] = "../records.json"
    data = tmp_path / "records.jsonl"
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    code, _ = pipe_through(monkeypatch, list_words(scenes_files), data, tmp_path / "p.jsonl")
    rows = read_rows(tmp_path / "p.jsonl")
    assert code == 5 and [row["status"] for row in rows] == ["ok", "error", "ok"]
    assert rows[1]["error"]["code"] == "image.path_escape"
