"""`hkd plan`: what it counts is right, what it proposes fits, and nothing is downloaded or written."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call_hkd
from planned_recipes import save_pair, weigh_alike, write_recipe
from tiny_models import save_tiny_llava

GIB = 2**30
ROUNDING = 1e-5  # of what is shown


@pytest.fixture(autouse=True)
def steady_process(monkeypatch):
    weigh_alike(monkeypatch)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_pair(tmp_path_factory.mktemp("plan-models"))


def plan(recipe: Path, *options: object, code: int = 0):
    said = call_hkd("plan", recipe, *options, "--json", code=code)
    return json.loads(said.out)


def test_phases_parts_and_need_add_up(models, tmp_path):
    found = plan(write_recipe(tmp_path / "r.yaml", models), "--memory-gib", 2)
    (phase,) = found["phases"]
    assert (phase["doing"], phase["level"], phase["beside"]) == ("train", "small", ["large"])
    parts = dict(phase["bytes"])
    assert parts.pop("peak") == sum(parts.values())
    assert parts["gradients"] <= parts["trained"] and parts["optimizer"] >= 2 * parts["gradients"]
    machine = found["machine"]
    need = phase["bytes"]["peak"] / GIB + machine["assumed_overhead_gib"]
    need += machine["assumed_waste"] * (parts["gradients"] + parts["activations"]) / GIB
    assert phase["need_gib"] == pytest.approx(need, rel=1e-3)
    assert found["fits"] and found["change"] == [] and found["disk_is_enough"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_largest_micro_batch_fits_and_one_more_does_not(models, tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", models)
    one, four = (
        plan(recipe, f"train.micro_batch_size={n}", "--memory-gib", 8)["phases"][0]["need_gib"]
        for n in (1, 4)
    )
    room = one + (four - one) * 5.4 / 3  # for six examples, not for seven
    options = ("train.gradient_accumulation_steps=4", "--memory-gib", room)
    phase = plan(recipe, "train.micro_batch_size=2", *options)["phases"][0]
    largest = phase["largest_batch_size"]
    assert 5 <= largest <= 7
    assert plan(recipe, f"train.micro_batch_size={largest}", *options)["fits"]
    assert not plan(recipe, f"train.micro_batch_size={largest + 1}", *options, code=4)["fits"]


def test_the_proposed_change_fits_and_learns_from_as_many_examples(models, tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", models)
    two = plan(recipe, "train.micro_batch_size=2", "--memory-gib", 8)["phases"][0]["need_gib"] + ROUNDING
    found = plan(recipe, "--memory-gib", two, code=4)
    assert found["change"] == [
        "pyramid.small.train.micro_batch_size=2",
        "pyramid.small.train.gradient_accumulation_steps=4",
    ]
    assert plan(recipe, *found["change"], "--memory-gib", two)["fits"]


@pytest.mark.slow
def test_more_is_changed_where_a_smaller_micro_batch_is_not_enough(models, tmp_path):
    changes = {"train": {"max_steps": 4, "micro_batch_size": 1}}
    recipe = write_recipe(tmp_path / "r.yaml", models, **changes)
    need = plan(recipe, "--memory-gib", 8)["phases"][0]["need_gib"]
    found = plan(recipe, "--memory-gib", need - 0.0005, code=4)
    assert found["change"] and not any("micro_batch" in change for change in found["change"])
    assert plan(recipe, *found["change"], "--memory-gib", need - 0.0005)["fits"]
    said = call_hkd("plan", recipe, "--memory-gib", 0.01, code=4)
    assert "no change of this recipe makes it fit" in said.err


def test_a_recipe_of_stage_two_asks_first_and_trains_alone(models, tmp_path):
    recipe = write_recipe(
        tmp_path / "r.yaml",
        models,
        refine={"signals": "stored"},
        pyramid=[
            {"name": "large", "model": str(models / "large"), "quantization": "nf4"},
            {"name": "small", "model": str(models / "small"), "tuning": "full"},
        ],
    )
    stored = plan(recipe, "--memory-gib", 2)
    assert [(each["doing"], each["level"], each["beside"]) for each in stored["phases"]] == [
        ("ask", "large", []),
        ("train", "small", []),
    ]
    assert stored["disk_gib"]["signals"] > 0
    live = plan(recipe, "refine.signals=live", "--memory-gib", 2)
    (phase,) = live["phases"]
    assert phase["beside"] == ["large"] and phase["bytes"]["teachers"] > 0
    assert stored["phases"][1]["bytes"]["teachers"] == 0
    assert live["disk_gib"]["signals"] == 0


@pytest.mark.slow
def test_mutual_learning_and_teachers_that_read_in_their_own_way_are_planned(models, tmp_path):
    other = save_tiny_llava(tmp_path / "llava")
    levels = [
        {"name": "other", "model": str(other), "train": None},
        {"name": "large", "model": str(models / "large"), "train": None},
        {"name": "small", "model": str(models / "small")},
    ]
    distill = {"teachers": "all", "choice_weight": 1.0}
    recipe = write_recipe(tmp_path / "r.yaml", models, pyramid=levels, distill=distill)
    (both,) = plan(recipe, "--memory-gib", 2)["phases"]
    assert both["beside"] == ["large", "other"]
    (alone,) = plan(recipe, "distill.teachers=parent", "--memory-gib", 2)["phases"]
    assert alone["bytes"]["teachers"] < both["bytes"]["teachers"]
    (mutual,) = plan(
        recipe, "distill.teachers=parent", "distill.mutual=true", "runtime.dtype=bfloat16", "--memory-gib", 2
    )["phases"]
    assert mutual["bytes"]["trained"] > alone["bytes"]["trained"]


def test_records_that_are_not_here_are_made_up_and_it_says_so(models, tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", models, data={"train": {"file": "nowhere/train.json"}})
    said = call_hkd("plan", recipe, "--memory-gib", 2)
    assert "nowhere/train.json is not here" in said.err and "(made up)" in said.out
    assert plan(recipe, "--memory-gib", 2)["records_made_up"]


def test_a_measured_rate_gives_the_time(models, tmp_path):
    recipe, run = write_recipe(tmp_path / "r.yaml", models), tmp_path / "run"
    assert plan(recipe, "--memory-gib", 2, "--out", run)["seconds"] is None
    run.mkdir()
    (run / "log.jsonl").write_text('{"level": "small", "step": 2, "seconds": 5.0}\n')
    assert plan(recipe, "--memory-gib", 2, "--out", run)["seconds"] == pytest.approx(10.0)


def test_a_disk_without_room_is_told_and_is_no_matter_of_the_card(models, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    recipe = write_recipe(tmp_path / "r.yaml", models)
    said = call_hkd("plan", recipe, "--memory-gib", 2)
    assert "disk has no room for it" in said.out
    assert not plan(recipe, "--memory-gib", 2)["disk_is_enough"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--gpu", "24", "--memory-gib", "3"], 2, "--gpu and --memory-gib"),
        (["pyramid.large.model=some-org/some-model"], 7, "some-org/some-model"),
        (["pyramid.large.model=runs/not-yet"], 2, "not here yet: large (runs/not-yet)"),
        (["pyramid.large.level=top", "pyramid.large.model=nowhere"], 2, "pyramid.large.level=null"),
        (["runtime.device=cuda"], 2, "no GPU here to plan for"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_what_to_do(models, tmp_path, options, code, words):
    said = call_hkd("plan", write_recipe(tmp_path / "r.yaml", models), *options, code=code)
    assert words in said.err


def test_planning_asks_no_network_and_leaves_nothing_behind(tmp_path):
    """A known pyramid of the hub, with sockets that refuse; HF_HUB_OFFLINE is not set."""
    program = (
        "import socket, sys, tempfile\n"
        "def refuse(*a, **k): raise AssertionError('a network call')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        f"tempfile.tempdir = {str(tmp_path / 'tmp')!r}\n"
        "from hkdcli.__main__ import main\n"
        "main()\n"
    )
    (tmp_path / "tmp").mkdir()
    recipe = write_recipe(
        tmp_path / "r.yaml",
        tmp_path,
        data={"train": {"file": "absent.json"}},
        pyramid=[
            {"name": "256m", "model": "HuggingFaceTB/SmolVLM-256M-Instruct@main"},
        ],
        train={"max_steps": 4, "micro_batch_size": 1, "gradient_checkpointing": True},
        runtime={},
    )
    command = [sys.executable, "-c", program, "plan", str(recipe), "--gpu", "8", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["levels_by_shape"] == ["256m"]
    assert found["disk_gib"]["download"] == pytest.approx(2 * 256_484_928 / GIB, rel=1e-3)
    assert list((tmp_path / "tmp").iterdir()) == []
