"""Checkpoints are whole or absent, and one run leaves another's alone."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hkdcli.checkpoints import (
    count_checkpoints,
    find_checkpoint,
    find_latest_checkpoint,
    find_run_id,
    is_complete,
    publish_checkpoint,
    publish_folder,
)


def writer(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights").write_text(text)
        (folder / "state").write_text(text * 2)

    return write


def begin_run(path: Path, run_id: str) -> Path:
    path.mkdir(exist_ok=True)
    (path / "manifest.json").write_text(json.dumps({"run_id": run_id}))
    return path / "levels" / "1-small" / "checkpoints"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*step*"))


def test_r04_a_checkpoint_is_sealed(tmp_path: Path) -> None:
    folder = begin_run(tmp_path, "a")
    published = publish_checkpoint(folder, 200, writer("w"))
    assert published == folder / "step-000200"
    manifest = json.loads((published / "MANIFEST.json").read_text())
    assert manifest["step"] == 200 and manifest["run_id"] == "a"
    assert sorted(manifest["files"]) == ["adapter/weights", "state"]
    assert (folder / "LATEST").read_text() == "step-000200\n"
    assert find_latest_checkpoint(folder) == published


def test_there_may_be_none(tmp_path: Path) -> None:
    assert find_latest_checkpoint(tmp_path / "absent") is None


@pytest.mark.parametrize("damage", ["no manifest", "half a manifest", "changed", "cut", "gone", "odd"])
def test_r04_what_is_not_whole_is_passed_over(tmp_path: Path, damage: str) -> None:
    older = publish_checkpoint(tmp_path, 9, writer("old"))
    newer = publish_checkpoint(tmp_path, 10, writer("new"))
    if damage == "no manifest":
        (newer / "MANIFEST.json").unlink()
    elif damage == "half a manifest":
        (newer / "MANIFEST.json").write_text('{"step": 10, "fi')
    elif damage == "odd":
        (newer / "MANIFEST.json").write_text('{"step": 10, "files": []}')
    elif damage == "gone":
        (newer / "state").unlink()
    else:
        (newer / "state").write_text("neu" * 2 if damage == "changed" else "ne")
    assert not is_complete(newer)
    assert find_latest_checkpoint(tmp_path) == older


def test_r04_a_writer_that_fails_publishes_nothing(tmp_path: Path) -> None:
    older = publish_checkpoint(tmp_path, 1, writer("old"))

    def fail(folder: Path) -> None:
        (folder / "state").write_text("half")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        publish_checkpoint(tmp_path, 2, fail, keep=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LATEST", "step-000001"]
    assert find_latest_checkpoint(tmp_path) == older
    assert publish_checkpoint(tmp_path, 2, writer("new"), keep=1) == find_latest_checkpoint(tmp_path)
    assert names(tmp_path) == ["step-000002"]


def test_r04_an_incomplete_one_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    (publish_checkpoint(tmp_path, 5, writer("x")) / "state").write_text("damaged")
    assert find_latest_checkpoint(tmp_path) is None
    assert is_complete(publish_checkpoint(tmp_path, 5, writer("y")))


KILLED = """
import sys, time
from pathlib import Path
from hkdcli.checkpoints import find_latest_checkpoint, publish_checkpoint
folder = Path(sys.argv[1])
latest = find_latest_checkpoint(folder)
step = int(latest.name[5:]) if latest else 0
print(step, flush=True)
while True:
    step += 1
    content = bytes([step % 256]) * 200_000
    publish_checkpoint(folder, step, lambda place: [(place / n).write_bytes(content) for n in "abc"], keep=2)
    print(step, flush=True)
"""


@pytest.mark.parametrize("kills", [12, pytest.param(50, marks=pytest.mark.slow)])
def test_r04_kill_at_any_moment_leaves_a_complete_checkpoint(tmp_path: Path, kills: int) -> None:
    folder, rng, reached = begin_run(tmp_path, "a"), random.Random(kills), 0
    for _ in range(kills):
        command = [sys.executable, "-c", KILLED, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            steps = [int(process.stdout.readline()) for _ in range(1 + rng.randrange(4))]
            assert steps[0] >= reached
            time.sleep(rng.uniform(0.0, 0.02))
            process.kill()
        latest = find_latest_checkpoint(folder)
        reached = int(latest.name[5:]) if latest else 0
        assert reached >= steps[-1]  # nothing that was published is lost
        if latest is not None:
            assert {(latest / name).read_bytes() for name in "abc"} == {bytes([reached % 256]) * 200_000}
    assert reached > kills / 2  # there was something to lose


def test_r04_a_folder_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    target = publish_folder(tmp_path / "student", writer("old"))

    def fail(folder: Path) -> None:
        assert is_complete(target)
        (folder / "state").write_text("half")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        publish_folder(target, fail)
    assert is_complete(target) and [path.name for path in tmp_path.iterdir()] == ["student"]
    assert (publish_folder(target, writer("new")) / "state").read_text() == "newnew"


def test_r09_rotation_keeps_the_newest(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        publish_checkpoint(tmp_path, step, writer("w"), keep=2)
    assert names(tmp_path) == ["step-000010", "step-000011"]


def test_r09_rotation_spares_the_steps_that_are_named(tmp_path: Path) -> None:
    for step in range(1, 7):
        publish_checkpoint(tmp_path, step, writer("w"), keep=2, spare=[3, 6])
    assert names(tmp_path) == ["step-000003", "step-000005", "step-000006"]
    assert find_checkpoint(tmp_path, 3) == tmp_path / "step-000003" and find_checkpoint(tmp_path, 4) is None
    (tmp_path / "step-000003" / "state").write_text("damaged")
    assert find_checkpoint(tmp_path, 3) is None and count_checkpoints(tmp_path) == 3


def test_r09_a_damaged_newer_one_does_not_drive_out_a_good_one(tmp_path: Path) -> None:
    """A run that had to go back to step 6 must not count step 9, whose files are damaged, as its newest."""
    for step in (6, 9):
        publish_checkpoint(tmp_path, step, writer("w"))
    (tmp_path / "step-000009" / "state").write_text("damaged")
    published = publish_checkpoint(tmp_path, 7, writer("w"), keep=1)
    assert find_latest_checkpoint(tmp_path) == published and names(tmp_path) == ["step-000007"]


def test_r09_the_new_one_is_complete_before_an_old_one_goes(tmp_path: Path) -> None:
    publish_checkpoint(tmp_path, 1, writer("old"), keep=1)

    def check(folder: Path) -> None:
        assert find_latest_checkpoint(tmp_path) == tmp_path / "step-000001"
        writer("new")(folder)

    publish_checkpoint(tmp_path, 2, check, keep=1)
    assert names(tmp_path) == ["step-000002"]


def test_r09_checkpoints_of_another_run_are_neither_used_nor_deleted(tmp_path: Path) -> None:
    folder = begin_run(tmp_path, "older run")
    publish_checkpoint(folder, 1000, writer("foreign"))
    publish_checkpoint(folder, 2, writer("foreign"))
    begin_run(tmp_path, "this run")
    assert find_latest_checkpoint(folder) is None
    for step in (1, 2, 3):
        publish_checkpoint(folder, step, writer("own"), keep=1)
    assert find_latest_checkpoint(folder) == folder / "step-000003"
    kept = names(folder)
    assert kept[1:] == ["step-000003", "step-001000"]
    assert kept[0].startswith("step-000002.other-run-")
    assert (folder / kept[0] / "state").read_text() == "foreignforeign"


def test_r09_one_half_deleted_does_not_look_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_checkpoint(tmp_path, 1, writer("old"))
    monkeypatch.setattr("shutil.rmtree", lambda path: None)
    publish_checkpoint(tmp_path, 2, writer("new"), keep=1)
    assert not is_complete(tmp_path / "step-000001")


def test_a_run_id_is_found_from_below(tmp_path: Path) -> None:
    folder = begin_run(tmp_path / "run", "abc")
    assert find_run_id(folder) == "abc"
    assert find_run_id(tmp_path / "elsewhere") == ""
