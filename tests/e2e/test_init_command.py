"""`hkd init`: the recipe that it writes is read back, fits, and means what was asked for."""

import json
from pathlib import Path

import pytest
from command_line import call_hkd
from PIL import Image
from tiny_models import save_tiny_qwen

from hkdcli.planning import starting
from hkdcli.planning.starting import CANDIDATES, Candidate, Wishes
from hkdcli.recipe import Recipe
from hkdcli.recipe_file import build_recipe, read_recipe

OVERHEAD_GIB = 0.75  # of CUDA, as it is assumed


@pytest.fixture(autouse=True)
def steady_process(monkeypatch):
    monkeypatch.setattr("hkdcli.planning.room.weigh_process", lambda: 0)


@pytest.fixture
def small_world(tmp_path, monkeypatch):
    """Two pyramids of tiny models, of which the stronger one needs more."""
    large = save_tiny_qwen(tmp_path / "large", hidden_size=256, layers=3)
    small = save_tiny_qwen(tmp_path / "small", seed=1)
    strong = Candidate((("large", str(large), "nf4"), ("middle", str(large), "none")))
    weak = Candidate((("middle", str(small), "none"), ("small", str(small), "none")))
    monkeypatch.setattr(starting, "CANDIDATES", (strong, weak))


@pytest.fixture
def records(tmp_path):
    folder = tmp_path / "my 'own' \"data\": {x}"
    (folder / "photos #1").mkdir(parents=True)
    for place in range(6):
        Image.new("RGB", (90 + place, 60), (place, 9, 9)).save(folder / "photos #1" / f"{place}.png")
    rows = [
        {
            "id": f"r{place}",
            "image_id": f"{place}.png",
            "claim": "The square is red.",
            "context": "",
            "question": "Is the claim factual?",
            "choices": [{"id": "A", "choice": "True"}, {"id": "B", "choice": "False"}],
            "correct_choice": "AB"[place % 2],
        }
        for place in range(6)
    ]
    (folder / "train.json").write_text(json.dumps(rows))
    return folder


def call_init(records: Path, *options: object, code: int = 0):
    data = ("--data", records / "train.json", "--images", records / "photos #1")
    return call_hkd("init", *data, *map(str, options), code=code)


@pytest.mark.usefixtures("small_world")
def test_the_strongest_pyramid_that_fits_is_written_and_fits(records, tmp_path):
    out = tmp_path / "my recipe.yaml"
    found = json.loads(call_init(records, "--memory-gib", 4, "--out", out, "--json").out)
    assert [level["name"] for level in found["pyramid"]] == ["large", "middle"] and not found["passed_over"]
    recipe = read_recipe(out, Recipe)
    assert recipe.data.train.file == str(records / "train.json")
    assert recipe.data.train.images == str(records / "photos #1")
    step = recipe.train.micro_batch_size * recipe.train.gradient_accumulation_steps
    assert step == 32 and recipe.train.micro_batch_size == found["micro_batch_size"]
    planned = json.loads(call_hkd("plan", out, "--memory-gib", "4", "--json").out)
    assert planned["fits"]
    assert max(p["need_gib"] for p in planned["phases"]) == pytest.approx(found["need_gib"], abs=0.01)


@pytest.mark.usefixtures("small_world")
def test_a_pyramid_that_does_not_fit_is_passed_over_with_the_reason(records, tmp_path):
    out = ("--out", tmp_path / "r.yaml", "--overwrite", "--json")
    need = json.loads(call_init(records, "--memory-gib", 4, *out).out)["need_gib"]
    # Below what even one example at once takes, and above what the weaker pyramid needs.
    less = OVERHEAD_GIB + (need - OVERHEAD_GIB) / 12
    found = json.loads(call_init(records, "--memory-gib", less, *out).out)
    assert [level["name"] for level in found["pyramid"]] == ["middle", "small"]
    (passed,) = found["passed_over"]
    assert passed["pyramid"] == "large in nf4 -> middle" and "needs" in passed["reason"]
    said = call_init(records, "--memory-gib", 0.01, "--out", tmp_path / "none.yaml", code=4)
    assert "no known pyramid fits" in said.err and not (tmp_path / "none.yaml").exists()


@pytest.mark.usefixtures("small_world")
def test_with_dev_records_training_is_watched(records, tmp_path):
    dev = ("--dev", records / "train.json", "--test", records / "train.json")
    call_init(records, *dev, "--memory-gib", 4, "--out", tmp_path / "r.yaml", "--name", "mine-2")
    recipe = read_recipe(tmp_path / "r.yaml", Recipe)
    assert recipe.train.early_stopping == 3 and recipe.train.evaluate_every and recipe.data.test
    assert recipe.name == "mine-2"


@pytest.mark.usefixtures("small_world")
def test_what_is_there_is_kept(records, tmp_path):
    out = tmp_path / "r.yaml"
    out.write_text("mine")
    assert "--overwrite" in call_init(records, "--memory-gib", 4, "--out", out, code=2).err
    assert out.read_text() == "mine"
    data = records / "train.json"
    said = call_init(records, "--memory-gib", 4, "--out", data, "--overwrite", code=2)
    assert "train.json" in said.err and json.loads(data.read_text())


def test_records_without_gold_are_refused(records, tmp_path):
    rows = json.loads((records / "train.json").read_text())
    del rows[2]["correct_choice"]
    (records / "train.json").write_text(json.dumps(rows))
    said = call_init(records, "--memory-gib", 4, "--out", tmp_path / "r.yaml", code=3)
    assert "1 of 6 records have no gold" in said.err and "r2" in said.err


@pytest.mark.parametrize("candidate", CANDIDATES, ids=str)
@pytest.mark.parametrize("splits", [("train",), ("train", "dev", "test")])
def test_every_pyramid_gives_a_recipe_that_reads(candidate, splits):
    wishes = Wishes("x", {split: Path(f"{split}.json") for split in splits}, None, 5000)
    recipe = build_recipe(starting.render_recipe_text(wishes, candidate, 4, "much"), Recipe)
    assert [level.model for level in recipe.pyramid] == [model for _, model, _ in candidate.levels]
    assert recipe.train.max_steps == 469 and recipe.pyramid[0].train.max_steps == 156
