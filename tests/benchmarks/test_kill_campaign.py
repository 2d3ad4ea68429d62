"""The campaign of kills sees what is lost, what is left over and what lives on; no long command runs here."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "faults"))
import lives
from artefacts import compare, find_stable, read_artefacts
from campaign import Campaign, find_newest
from kill_jobs import Job, write_jobs
from lives import HungError, Life, live
from long_run import measure_growth, read_step
from other_faults import give_up_rights

WRITES = Job("writes", lambda out: ["schema", "diagnosis", "--out", str(out / "s.json")])


def fill(folder: Path, **contents: str) -> Path:
    for name, text in contents.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_what_two_runs_agree_on_is_what_a_third_must_leave(tmp_path: Path) -> None:
    log = '{"step": 1, "loss": 2.0, "seconds": %d}\n'
    first = read_artefacts(
        fill(tmp_path / "1", a_bin="x", time_json="1", log_jsonl=log % 1, tensorboard__a__e="1")
    )
    second = read_artefacts(fill(tmp_path / "2", a_bin="x", time_json="2", log_jsonl=log % 2))
    stable = find_stable(first, second)
    assert stable["time.json"] is None and stable["a.bin"] and stable["log.jsonl"]
    assert compare(stable, second) == []
    third = fill(tmp_path / "3", a_bin="y", time_json="3", log_jsonl=log.replace("2.0", "2.1") % 3)
    assert compare(stable, read_artefacts(third)) == ["a.bin differs", "log.jsonl differs"]
    fourth = fill(tmp_path / "4", a_bin="x", log_jsonl=log % 4, _tmp_7="half")
    assert compare(stable, read_artefacts(fourth)) == [".tmp.7 is left over", "time.json is missing"]
    with pytest.raises(ValueError, match="differ in files"):
        find_stable(first, read_artefacts(fourth))


def test_a_life_is_a_command_in_a_copy_of_this_process(tmp_path: Path) -> None:
    life = live(["--version"], tmp_path / "said")
    assert life.code == 0 and life.said.startswith("hkd ")
    assert live(["infer"], tmp_path / "said").code == 2
    life = live(["--version"], tmp_path / "said", kill_after_s=0.05, prepare=lambda: time.sleep(60))
    assert life.code == -9 and life.said == ""


def test_a_process_that_outlives_its_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "ORPHANS_S", 0.1)

    def leave_one() -> None:
        subprocess.Popen(["sleep", "60"])

    with pytest.raises(HungError, match="1 processes outlive"):
        live(["--version"], tmp_path / "said", prepare=leave_one)


def test_whoever_gives_up_rights_is_bound_by_modes(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)

    def write() -> None:
        give_up_rights()
        with pytest.raises(PermissionError):
            (tmp_path / "closed" / "file").touch()
        print("refused")

    assert live(["--version"], tmp_path / "said", prepare=write).said.startswith("refused\nhkd ")


def test_a_campaign_counts_kills_and_tells_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(WRITES, tmp_path, random.Random(0), whole_s=1.0, stable={"s.json": "wanted"})
    ends = [Life(-9, 0.1, ""), Life(-9, 0.2, ""), Life(0, 1.0, "")]
    monkeypatch.setattr(Campaign, "live", lambda *_, **__: ends.pop(0))
    assert campaign.kill_until_done(campaign.make_folder("killed-1"), most=5) == 2
    assert campaign.kills == 2 and campaign.lives == 3 and campaign.compared == 1
    assert campaign.moments == {"nothing yet": 2}
    assert campaign.problems == ["killed-1: s.json is missing"]


def test_the_last_life_is_let_to_its_end_and_its_exit_code_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = Campaign(WRITES, tmp_path, random.Random(0), whole_s=1.0)
    ends, asked = [Life(-9, 0.1, ""), Life(1, 1.0, "Traceback")], []

    def pretend(*_: object, **how: object) -> Life:
        asked.append(how)
        return ends.pop(0)

    monkeypatch.setattr(Campaign, "live", pretend)
    assert campaign.kill_until_done(campaign.make_folder("killed-1"), most=1) == 1
    assert [how.get("kill_after_s") is None for how in asked] == [False, True]
    assert [how["resume"] for how in asked] == [False, True]
    assert campaign.problems == ["killed-1: exit 1: Traceback"]


def test_where_in_its_work_a_command_was_killed(tmp_path: Path) -> None:
    fill(tmp_path, levels__step_3="x", eval__p_jsonl="y")
    os.utime(tmp_path / "eval/p.jsonl", (1, 1))
    assert find_newest(tmp_path) == "levels/step.#"


def test_jobs_are_the_five_long_commands(tmp_path: Path) -> None:
    jobs = write_jobs(tmp_path)
    assert {job.first(tmp_path)[0] for job in jobs.values()} == {
        "distill-online",
        "distill-refine",
        "augment",
        "infer",
    }
    assert "--only-signals" in jobs["distill-refine --only-signals"].first(tmp_path)


def test_growth_is_the_slope_after_the_first_quarter() -> None:
    readings = [(step, 100.0 if step <= 100 else 200 + step / 100, 12) for step in range(1, 401)]
    figures = measure_growth(readings, 400)
    assert figures["mb_per_1000_steps"] == pytest.approx(10) and figures["files_per_1000_steps"] == 0
    assert figures["peak_growth_mb"] == pytest.approx(1.99) and figures["files"] == 12
    with pytest.raises(ValueError, match="too few"):
        measure_growth(readings[:104], 400)


def test_the_last_whole_line_of_a_log_says_the_step(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert read_step(log) == 0
    log.write_text("".join(f'{{"step": {step}}}\n' for step in range(1, 500)) + '{"step": 50')
    assert read_step(log) == 499
    log.write_text('{"step": 1}\n')
    assert read_step(log) == 1
