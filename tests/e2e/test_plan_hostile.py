"""`hkd plan` and `hkd init` before odd recipes, records, paths and numbers: rows I19, D23, R03."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from command_line import ENVIRONMENT, call_hkd
from PIL import Image
from planned_recipes import save_pair, weigh_alike
from planned_recipes import write_recipe as write_any_recipe

from hkdcli.planning import starting
from hkdcli.planning.starting import Candidate
from hkdcli.recipe import Recipe
from hkdcli.recipe_file import read_recipe

pytestmark = pytest.mark.slow

write_recipe = partial(write_any_recipe, large={})
NEED = 0.001  # GiB below what a phase needs


@pytest.fixture(autouse=True)
def steady_process(monkeypatch):
    weigh_alike(monkeypatch)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_pair(tmp_path_factory.mktemp("hostile-models"))


def write_records(folder: Path, *rows: dict) -> Path:
    """Records of a claim, each with an image of its own but where `image_id` says otherwise."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (96, 64)).save(folder / "images" / "here.png")
    choices = [{"id": "A", "choice": "True"}, {"id": "B", "choice": "False"}]
    record = {"image_id": "here.png", "claim": "It is red.", "context": "", "question": "Is it?"}
    whole = [{"id": f"r{place}", **record, "choices": choices, **row} for place, row in enumerate(rows)]
    (folder / "train.json").write_text(json.dumps(whole))
    return folder / "train.json"


def plan(recipe: Path, *options: object, code: int = 0):
    return json.loads(call_hkd("plan", recipe, *map(str, options), "--json", code=code).out)


@pytest.mark.parametrize("number", ["inf", "1e300", "nan", "0", "-1"])
@pytest.mark.parametrize("option", ["--gpu", "--memory-gib"])
def test_no_such_machine(models, tmp_path, option, number):
    call_hkd("plan", write_recipe(tmp_path / "r.yaml", models), option, number, code=2)


def test_a_card_for_a_recipe_of_the_cpu_is_refused(models, tmp_path):
    said = call_hkd("plan", write_recipe(tmp_path / "r.yaml", models), "--gpu", "24", code=2)
    assert "runtime.device: cpu" in said.err


@pytest.mark.slow
def test_where_an_upper_model_does_not_fit_it_is_asked_about_fewer_at_once(models, tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", models, refine={"signals": "stored", "snapshot": True})
    phases = plan(recipe, "--memory-gib", 8)["phases"]
    assert [each["level"] for each in phases] == ["large", "snapshot", "small"]
    room = ("--memory-gib", phases[0]["need_gib"] - NEED)
    found = plan(recipe, *room, code=4)
    assert found["change"][:2] == ["train.micro_batch_size=2", "train.gradient_accumulation_steps=4"]
    assert plan(recipe, *found["change"], *room)["fits"]


def test_signals_are_stored_instead_of_live_where_all_of_that_fits(models, tmp_path, monkeypatch):
    """They make phases that there were not, before the training."""
    changes = {"refine": {"signals": "live"}, "train": {"max_steps": 4, "micro_batch_size": 1}}
    recipe, stored = write_recipe(tmp_path / "r.yaml", models, **changes), "refine.signals=stored"
    room = plan(recipe, stored, "--memory-gib", 8)["phases"][-1]["need_gib"] + NEED / 10
    assert room < plan(recipe, "--memory-gib", 8)["phases"][0]["need_gib"]
    monkeypatch.setattr("hkdcli.planning.fitting._list_single_changes", lambda *_: iter((stored,)))
    assert plan(recipe, "--memory-gib", room, code=4)["change"] == [stored]
    assert plan(recipe, stored, "--memory-gib", room)["fits"]


def test_stored_signals_cost_a_training_no_more_than_what_they_say(models, tmp_path):
    """What the upper model takes while it is asked belongs to its own phase."""
    recipe = write_recipe(tmp_path / "r.yaml", models, refine={"signals": "live"})
    live = plan(recipe, "--memory-gib", 8)["phases"][0]["bytes"]
    stored = plan(recipe, "refine.signals=stored", "--memory-gib", 8)["phases"][-1]["bytes"]
    assert stored["activations"] <= 1.02 * live["activations"]
    assert stored["peak"] <= live["peak"] - 0.9 * live["teachers"]


def test_no_change_of_several_is_needless(monkeypatch):
    from hkdcli.planning import fitting

    monkeypatch.setattr(fitting, "_list_single_changes", lambda *_: iter(("a", "b", "c")))
    monkeypatch.setattr(fitting, "find_largest", lambda phase, *_, most: int({"a", "c"} <= set(phase)))
    monkeypatch.setattr(fitting, "_try", lambda r, p, room, replan, c: c if {"a", "c"} <= set(c) else None)
    assert fitting.find_change(None, (), None, lambda changes: changes) == ("a", "c")  # type: ignore[arg-type]


def test_records_without_gold_or_image_are_told(models, tmp_path):
    records = write_records(tmp_path, {})
    recipe = write_recipe(tmp_path / "r.yaml", models, data={"train": {"file": str(records)}})
    assert "none of 1 records has gold" in call_hkd("plan", recipe, code=3).err
    write_records(tmp_path, {"correct_choice": "A"}, {"correct_choice": "B", "image_id": "gone.png"})
    said = call_hkd("plan", recipe, "--memory-gib", "4", "--json")
    assert "the images of 1 of 2 records looked at cannot be opened" in said.err
    assert said.document["records"]["small"]["unreadable"] == 1


def test_a_recipe_of_a_run_to_come_says_how_to_plan_it(models, tmp_path):
    levels = [
        {"name": "large", "model": "runs/to-come", "level": "large"},
        {"name": "small", "model": "runs/to-come"},
    ]
    recipe = write_recipe(tmp_path / "r.yaml", models, refine={"signals": "live"}, pyramid=levels)
    said = call_hkd("plan", recipe, code=2)
    assert "pyramid.large.level=null" in said.err
    named = [f"pyramid.{name}.model={models / name}" for name in ("large", "small")]
    assert plan(recipe, *named, "pyramid.large.level=null", "--memory-gib", 4)["fits"]


@pytest.mark.slow
def test_a_full_disk_is_a_limit_of_the_machine(tmp_path):
    """R03: the folder of a known model's configuration cannot be written."""
    smol = "HuggingFaceTB/SmolVLM-256M-Instruct"
    recipe = write_recipe(
        tmp_path / "r.yaml",
        tmp_path,
        data={"train": {"file": "absent.json"}},
        pyramid=[{"name": "a", "model": smol}, {"name": "b", "model": smol}],
        runtime={},
    )
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (512, 512))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from hkdcli.__main__ import main; raise SystemExit(main())"
    )
    command = [sys.executable, "-c", program, "plan", str(recipe), "--gpu", "24"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=tmp_path, check=False)
    assert done.returncode == 4, done.stderr
    assert "no space left to write" in done.stderr


def test_numbers_are_whole_in_a_narrow_terminal(models, tmp_path, monkeypatch, capfd):
    from hkdcli import console
    from hkdcli.outcome import Table

    monkeypatch.setattr(console, "is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "60")
    header = ("phase", *"abcdefghijk")
    console._show_table(Table("Memory", header, [["train small", *["1234.5"] * 11]]))
    assert capfd.readouterr().out.count("1234.5") == 11


@pytest.fixture
def tiny_candidate(models, monkeypatch):
    levels = (("large", str(models / "large"), "none"), ("small", str(models / "small"), "none"))
    monkeypatch.setattr(starting, "CANDIDATES", (Candidate(levels),))


@pytest.mark.usefixtures("tiny_candidate")
def test_a_recipe_means_the_paths_that_were_given(tmp_path):
    odd = tmp_path / '\U0001f600 it\'s: "q" # {x} \u00e9'
    records = write_records(odd, {"correct_choice": "A"}, {"correct_choice": "B"})
    recipe = odd / "my recipe.yaml"
    said = call_hkd("init", "--data", records, "--out", recipe, "--memory-gib", "4")
    assert read_recipe(recipe, Recipe, []).data.train.file == str(records)
    command = said.out.split("next: hkd plan ")[1].split("; hkd doctor")[0]
    shell = subprocess.run(["sh", "-c", f"printf %s {command}"], capture_output=True, text=True, check=True)
    assert shell.stdout == str(recipe)


@pytest.mark.usefixtures("tiny_candidate")
@pytest.mark.parametrize("name", ["two\nname: lines", "a\x1bb", "a\x85b", "a\udcffb"])
def test_a_name_that_would_break_out_of_a_comment_is_refused(tmp_path, name):
    records = write_records(tmp_path, {"correct_choice": "A"})
    call_hkd("init", "--data", records, "--out", tmp_path / name, "--memory-gib", "4", code=2)
    assert not (tmp_path / name).exists()
