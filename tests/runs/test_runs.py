"""Run folders: who may write them, and with what they may be resumed."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hkdcli.errors import UsageError
from hkdcli.locks import hold_lock
from hkdcli.runs import Facts, check_output, open_run

FACTS = Facts(
    recipe={"name": "x", "pyramid": [{"name": "a", "train": None}], "train": {"max_steps": 3}},
    recipe_text="name: x\n",
    data={"train": "0" * 64},
    command="hkd distill-online x.yaml",
)


def begin(path: Path, facts: Facts = FACTS) -> None:
    with open_run(path, facts) as run:
        (run.level(0, "a") / "weights").write_text("w")
        (path / "log.jsonl").write_text("{}\n")


def test_a_run_says_what_it_depends_on(tmp_path: Path) -> None:
    with open_run(tmp_path / "x", FACTS) as run:
        assert not run.resumed
        assert run.level(1, "medium") == tmp_path / "x" / "levels" / "1-medium"
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    assert manifest["recipe"] == FACTS.recipe
    assert manifest["data"] == FACTS.data
    assert manifest["command"] == FACTS.command
    assert {"hkd", "python", "torch", "transformers"} <= set(manifest["versions"])
    assert (tmp_path / "x" / "recipe.resolved.yaml").read_text() == "name: x\n"
    assert not (tmp_path / "x" / ".lock").exists()


def test_c17_a_run_that_is_there_is_not_touched(tmp_path: Path) -> None:
    begin(tmp_path / "x")
    with pytest.raises(UsageError, match="holds a run already") as caught, open_run(tmp_path / "x", FACTS):
        pass
    assert caught.value.hint is not None
    assert "--resume" in caught.value.hint and "--overwrite" in caught.value.hint
    assert (tmp_path / "x" / "levels" / "0-a" / "weights").exists()


def test_c17_overwrite_removes_what_a_run_wrote_and_only_that(tmp_path: Path) -> None:
    begin(tmp_path / "x")
    (tmp_path / "x" / "notes.txt").write_text("mine")
    with open_run(tmp_path / "x", FACTS, overwrite=True) as run:
        assert not run.resumed
    names = sorted(path.name for path in (tmp_path / "x").iterdir())
    assert names == ["manifest.json", "notes.txt", "recipe.resolved.yaml"]


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_c17_a_folder_that_is_no_run_loses_nothing(tmp_path: Path, options: dict[str, bool]) -> None:
    (tmp_path / "levels").mkdir()
    (tmp_path / "levels" / "thesis.tex").write_text("years")
    with (
        pytest.raises(UsageError, match=r"no run folder \(it has levels\)"),
        open_run(tmp_path, FACTS, **options),
    ):
        pass
    assert (tmp_path / "levels" / "thesis.tex").read_text() == "years"


def test_c17_a_run_killed_before_its_manifest_starts_anew(tmp_path: Path) -> None:
    for name in (".lock", "recipe.resolved.yaml", ".manifest.json.123.tmp"):
        (tmp_path / name).write_text("")
    with open_run(tmp_path, FACTS) as run:
        assert not run.resumed


def test_c17_resume_goes_on_or_starts(tmp_path: Path) -> None:
    with open_run(tmp_path / "x", FACTS, resume=True) as run:
        assert not run.resumed
    begun = (tmp_path / "x" / "manifest.json").read_bytes()
    with open_run(tmp_path / "x", FACTS, resume=True) as run:
        assert run.resumed
    assert (tmp_path / "x" / "manifest.json").read_bytes() == begun


@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}])
def test_r04_what_a_kill_caught_half_written_is_gone_with_the_next_life(
    tmp_path: Path, options: dict[str, bool]
) -> None:
    begin(tmp_path / "x")
    own = [
        ".recipe.resolved.yaml.14475.tmp",
        "levels/0-a/.teacher.json.7.tmp",
        "eval/test/.results.json.7.tmp",
    ]
    others = ["signals/top/.key.json.7.tmp", ".notes.tmp", "notes.7.tmp"]
    for name in (*own, *others):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text("half")
    with open_run(tmp_path / "x", FACTS, **options):
        assert [name for name in own if (tmp_path / "x" / name).exists()] == []
        assert [name for name in others if not (tmp_path / "x" / name).exists()] == []


def test_c17_resume_and_overwrite_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exclude"), open_run(tmp_path, FACTS, resume=True, overwrite=True):
        pass
    with pytest.raises(UsageError, match="exclude"):
        check_output(tmp_path / "p", resume=True, overwrite=True)


def test_c17_an_output_file_that_is_there_is_not_touched(tmp_path: Path) -> None:
    check_output(tmp_path / "p", resume=False, overwrite=False)
    (tmp_path / "p").write_text("")
    check_output(tmp_path / "p", resume=True, overwrite=False)
    check_output(tmp_path / "p", resume=False, overwrite=True)
    with pytest.raises(UsageError, match="exists already"):
        check_output(tmp_path / "p", resume=False, overwrite=False)
    with pytest.raises(UsageError, match="is a folder"):
        check_output(tmp_path, resume=False, overwrite=True)


def test_r07_a_changed_recipe_or_data_is_no_resume(tmp_path: Path) -> None:
    begin(tmp_path)
    changed = replace(
        FACTS,
        recipe={"name": "x", "pyramid": [{"name": "a", "train": {"lr": 1}}], "train": {"max_steps": 4}},
        data={"train": "1" * 64, "test": "2" * 64},
    )
    with pytest.raises(UsageError) as caught, open_run(tmp_path, changed, resume=True):
        pass
    assert str(caught.value).splitlines() == [
        f"{tmp_path}: cannot be resumed, because these have changed since it was begun",
        "  recipe.pyramid[0].train     was null, is absent",
        "  recipe.train.max_steps      was 3, is 4",
        f'  data.train                  was "{"0" * 64}", is "{"1" * 64}"',
        "  recipe.pyramid[0].train.lr  was absent, is 1",
        f'  data.test                   was absent, is "{"2" * 64}"',
    ]


def test_c09_the_manifest_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-secret")
    facts = replace(
        FACTS, command="hkd x token=secret-secret", recipe={"m": "secret-secret"}, recipe_text="secret-secret"
    )
    with open_run(tmp_path, facts):
        pass
    with open_run(tmp_path, facts, resume=True) as run:
        assert run.resumed
    for path in tmp_path.iterdir():
        assert "secret-secret" not in path.read_text()


def test_c17_a_held_lock_names_its_owner(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hkdcli.locks import hold_lock\n"
        "with hold_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        owner = f"in use by process {holder.pid} on host {socket.gethostname()}"
        with pytest.raises(UsageError, match=owner), open_run(tmp_path, FACTS):
            pass
        holder.kill()
    with open_run(tmp_path, FACTS):  # the killed process left its file, and no lock
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"pid": 999999999}'])
def test_c17_a_stale_lock_is_taken_over(tmp_path: Path, content: str) -> None:
    (tmp_path / ".lock").write_text(content)
    with hold_lock(tmp_path / ".lock"):
        assert json.loads((tmp_path / ".lock").read_text())["host"] == socket.gethostname()
    assert not (tmp_path / ".lock").exists()


def test_c17_a_lock_of_another_host_is_respected(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(json.dumps({"pid": 7, "host": "elsewhere"}))
    with (
        pytest.raises(UsageError, match="process 7 on host elsewhere") as caught,
        hold_lock(tmp_path / ".lock"),
    ):
        pass
    assert caught.value.hint is not None and str(tmp_path / ".lock") in caught.value.hint


def _count(path: Path, wins: multiprocessing.Queue[int], start: multiprocessing.Event) -> None:  # type: ignore[type-arg,valid-type]
    start.wait()
    for _ in range(40):
        try:
            with hold_lock(path / ".lock"):
                inside = path / "inside"
                inside.touch(exist_ok=False)  # FileExistsError: two hold the lock
                inside.unlink()
        except UsageError:
            continue
    wins.put(1)


def test_c17_two_processes_never_hold_one_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    wins, start = context.Queue(), context.Event()
    racers = [context.Process(target=_count, args=(tmp_path, wins, start)) for _ in range(2)]
    for racer in racers:
        racer.start()
    start.set()
    for racer in racers:
        racer.join(30)
    assert [racer.exitcode for racer in racers] == [0, 0]
