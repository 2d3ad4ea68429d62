"""The benchmark on real photos reads its recipes, and shows what it found."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from photos import MODELS, ONLINE, PAIRS, WAYS, _train, count_steps, find_predictions
from photos_page import render_page

from hkdcli.recipe import Recipe
from hkdcli.recipe_file import read_recipe

PHOTOS = Path(__file__).parents[2] / "docs/results/photos.md"
PAGE = "words\n<!-- scores -->\n<!-- end of scores -->\n<!-- pairs -->\nold\n<!-- end of pairs -->\n"


def test_levels_are_those_of_the_recipe_and_pairs_those_of_the_models():
    levels = {level.name for level in read_recipe(ONLINE, Recipe).pyramid}
    assert {model.level for model in MODELS.values()} - {None} < levels
    assert {name for pair in PAIRS for name in pair} < set(MODELS)
    assert count_steps(["train.max_steps=17", "train.warmup_steps=2"]) == {"online": 17, "refine": 17}


def test_what_a_training_cost_outlives_the_process(tmp_path):
    def command(recipe, changes, out, resume):
        assert resume == out.exists()
        out.mkdir(exist_ok=True)

    assert _train(command, ONLINE, [], tmp_path / "one") == 0  # it takes no time, and says so
    (tmp_path / "one.json").write_text("77")
    assert _train(command, ONLINE, [], tmp_path / "one") == 77
    (tmp_path / "two").mkdir()  # another process began it, and did not come to its end
    assert _train(command, ONLINE, [], tmp_path / "two") is None


def test_no_two_ways_share_a_file_of_predictions(tmp_path):
    assert len({find_predictions(tmp_path, name, way) for name in MODELS for way in WAYS}) == len(
        MODELS
    ) * len(WAYS)


def test_the_page_says_what_the_figures_say():
    page = PHOTOS.read_text("utf-8")
    assert render_page(json.loads(PHOTOS.with_suffix(".json").read_text("utf-8")), page) == page


def test_the_page_has_intervals_where_there_are_any():
    interval = {"low": 0.3, "high": 0.5, "half_width": 0.1}
    scores = {"micro_f1": [0.4, interval], "constant_micro_f1": [0.25, None]}
    tasks = {"all": scores, "factuality": scores}
    tasks["hallucination"] = {**scores, "hallucinated_f1": [0.125, None]}
    pairs = {
        "b - a": {"difference": 0.01, "interval": {"low": -0.02, "high": 0.04}},
        "c - a": {"difference": 0.0, "interval": None},
    }
    found = {"results": {"small": {"photo": tasks}}, "pairs": pairs}
    assert "| b - a | +0.010" in render_page(found, PHOTOS.read_text("utf-8"))
    page = render_page(found, PAGE)
    assert "| constant answer | - | 0.250 | 0.250 | 0.250 | - |" in page
    assert "| small | photo | 0.400 ± 0.100 | 0.400 ± 0.100 | 0.400 ± 0.100 | 0.125 |" in page
    assert "| b - a | +0.010 | -0.020 to +0.040 |" in page and "| c - a | +0.000 | - |" in page
    assert page.startswith("words\n") and "old" not in page
