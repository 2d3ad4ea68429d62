"""Overrides, problems, files, and the way back to YAML."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_texts import TEXT, build, build_refine, find_kind, message, problems

from hkdcli.errors import HkdError, RecipeError, UsageError
from hkdcli.recipe import Recipe, RunRecipe
from hkdcli.recipe_blocks import Lora, LoraTuning, RecipePart, Train
from hkdcli.recipe_file import build_recipe, read_recipe, render_recipe
from hkdcli.recipe_refine import RefineRecipe
from hkdcli.recipe_schema import KINDS, build_schema, iterate_fields

FILES = (Path(__file__).parents[2] / "recipes").rglob("*.yaml")
RECIPES = sorted(path for path in FILES if path.parent.name != "accelerate")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    recipe = read_recipe(path, find_kind(path))
    if isinstance(recipe, RunRecipe):
        assert recipe.name.removesuffix("-refined").endswith(path.stem)


def test_problems_come_all_at_once_in_the_layout_of_the_house() -> None:
    text = TEXT.replace("nf4", "int5") + "temperrature: 3\n"
    assert message(text, source="recipes/demo.yaml") == (
        "recipes/demo.yaml: 2 problems\n"
        '  pyramid[0].quantization  "int5" is not one of: none, int8, nf4\n'
        '  temperrature             unknown key; did you mean "distill.temperature"?'
    )


def test_c06_no_key_imports_anything() -> None:
    found = problems("_target_=os.system", "train._target_=torch.optim.SGD")
    assert found["_target_"].startswith("unknown key")
    assert found["train._target_"].startswith("unknown key")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.lerning_rate", "learning_rate"),
        ("train.lr", "learning_rate"),
        ("pyramid[1].tuningg", "tuning"),
        ("learning_rate", "train.learning_rate"),
        ("pyramid.0.quantisation", "quantization"),
        ("distill.lambdaa", "lambda"),
    ],
)
def test_c07_a_typo_gets_a_suggestion(key: str, meant: str) -> None:
    (detail,) = problems(f"{key}=1").values()
    assert detail == f'unknown key; did you mean "{meant}"?'


def test_c08_overrides_name_key_and_expected_type() -> None:
    found = problems("train.learning_rate=abc", "train.nope=1", "noequals", "=1", "..=1", "train.seed.=1")
    assert found["train.learning_rate"] == '"abc" is not a number'
    assert found["train.nope"].startswith("unknown key; known here: max_steps, ")
    assert found["noequals"] == found["=1"] == found["..=1"] == found["train.seed.=1"] == "is not key=value"


def test_c08_overrides_that_lead_nowhere() -> None:
    found = problems("pyramid.smol.train=null", "pyramid[7].name=x", "name.x=1", "train.max_steps=[")
    assert found["pyramid.smol.train"] == 'no "smol" in a list of 2; there are: large, small'
    assert found["pyramid[7].name"] == 'no "7" in a list of 2; there are: large, small'
    assert found["name.x"] == 'name is "tiny", not a block'
    assert found["train.max_steps"].startswith("the value is not YAML")
    assert "nested deeper" in next(iter(problems(".".join("a" * 5000) + "=1").values()))


@pytest.mark.parametrize("place", ["pyramid[1]", "pyramid.1", "pyramid.small"])
def test_overrides_reach_levels_by_place_and_by_name(place: str) -> None:
    recipe = build(f"{place}.train.max_steps=7", f"{place}.tuning={{lora: {{rank: 4}}}}")
    assert recipe.pyramid[1].train is not None and recipe.pyramid[1].train.max_steps == 7
    assert recipe.pyramid[1].tuning == LoraTuning(lora=Lora(rank=4))


def test_overrides_make_blocks_and_later_ones_win() -> None:
    recipe = build("distill.lambda.start=0.1", "distill.lambda.start=0.2", "data.dev={scenes: {split: dev}}")
    assert recipe.distill.lambda_.start == 0.2
    assert recipe.data.dev is not None
    assert build("pyramid.small.model='a=b'").pyramid[1].model == "a=b"


def test_a_level_takes_the_top_level_settings_field_by_field() -> None:
    large, small = build().pyramid
    assert large.train is None
    assert small.train == Train(max_steps=3, learning_rate=1e-5)


def test_null_in_a_level_is_an_override_too() -> None:
    small = build("train.max_grad_norm=2.0", "pyramid.small.train.max_grad_norm=null").pyramid[1]
    assert small.train is not None and small.train.max_grad_norm is None


@pytest.mark.parametrize(
    ("override", "key", "said"),
    [
        ("data.train.file=x.json", "data.train.file", "either scenes or file"),
        ("data.train={}", "data.train.file", "either scenes or file"),
        ("data.train.images=photos", "data.train.images", "draw their own images"),
        ("pyramid=[]", "pyramid", "at least one level"),
        ("pyramid.large.name=small", "pyramid", "used more than once: small"),
        ("pyramid.small.train=null", "pyramid", "the last level is the one to distil"),
        ("pyramid.small.quantization=nf4", "pyramid[1].tuning", "cannot be trained in full"),
        ("pyramid.small.tuning=fully", "pyramid[1].tuning", '"fully" is not one of: full, lora: {...}'),
        ("pyramid.small.name=../x", "pyramid[1].name", "is no name"),
        ("name=a/b", "name", "is no name"),
        ("train.warmup_steps=11", "train", "warmup_steps (11) is more than max_steps (10)"),
        (
            "pyramid.small.train.warmup_steps=4",
            "pyramid",
            "level small: warmup_steps (4) is more than max_steps (3)",
        ),
        ("train.evaluate_every=5", "train", "data.dev"),
        ("distill.divergence=jsd", "distill.beta", "jsd needs a number"),
        ("distill.beta=0.5", "distill.beta", "forward_kl has no beta"),
        ("distill={top_k: 5, choice_weight: 1}", "distill.choice_weight", "top_k does nothing"),
        ("pyramid[0]={name: a, model: b, quantized_parts: all}", "pyramid[0].quantized_parts", "nothing is"),
        ("distill={divergence: skew_kl, beta: 1}", "distill.beta", "use a number below 1"),
        ("pyramid.small.adapter=runs/x/student", "pyramid[1].tuning", "an adapter cannot be trained in full"),
        (
            "pyramid[0]={name: a, model: b, quantization: int8, quantized_parts: all, "
            "tuning: {lora: {train_projector: true}}}",
            "pyramid[0].tuning",
            "a quantized projector cannot be trained",
        ),
        ("distill.lambda.schedule=linear", "distill.lambda.end", "needs an end"),
        ("distill.lambda.end=0.9", "distill.lambda.end", "no other end"),
        ("distill.temperature=0", "distill.temperature", "0 must be at least 0.01"),
        ("distill.choice_weight=1.5", "distill.choice_weight", "1.5 must be at most 1"),
        ("train.learning_rate=1e999", "train.learning_rate", "is not a finite number"),
        ("train.max_steps=1.0", "train.max_steps", "1.0 is not a whole number"),
        ("train.checkpoint_every=-1", "train.checkpoint_every", "-1 must be at least 1"),
        ("train=3", "train", '3 is not a block of "key: value" lines'),
        ("pyramid={}", "pyramid", "{} is not a list"),
        ("pyramid.small.model=''", "pyramid[1].model", "must not be empty"),
        ("data.train.scenes.tasks=[]", "data.train.scenes.tasks", "must not be empty"),
        ("data.train.scenes.split=null", "data.train.scenes.split", "null is not one of: train, dev, test"),
    ],
)
def test_what_a_recipe_may_not_say(override: str, key: str, said: str) -> None:
    found = problems(override)
    assert list(found) == [key]
    assert said in found[key]


def test_a_pair_that_learns_together_needs_two() -> None:
    with pytest.raises(RecipeError, match="mutual needs a level above"):
        build("pyramid=[{name: a, model: b}]", "distill.mutual=true")


def test_what_is_missing_is_named() -> None:
    assert problems(text="seed: 1") == {"name": "is missing", "data": "is missing", "pyramid": "is missing"}


def test_c09_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "hf_abcdefghijklmnopqrstuvwx"
    monkeypatch.setenv("HF_TOKEN", "no-known-form-1234")
    assert token not in message(TEXT, [f"seed={token}"])
    assert "no-known-form" not in message(TEXT, ["seed=no-known-form-1234"])
    shown = render_recipe(build(f"pyramid.small.model='{token}/x no-known-form-1234'"))
    assert "hf_" not in shown and "no-known-form" not in shown and "***" in shown


def test_c10_a_recipe_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "latin.yaml").write_bytes("name: \xe9t\xe9".encode("latin-1"))
    (tmp_path / "huge.yaml").write_bytes(b"#" * 1_000_001)
    said = {
        "absent.yaml": "no such recipe",
        ".": "not a file",
        "pipe.yaml": "not a file",
        "empty.yaml": "the file is empty",
        "latin.yaml": "not UTF-8",
        "huge.yaml": "larger than 1 MB",
    }
    for name, text in said.items():
        with pytest.raises(UsageError, match=text):
            read_recipe(tmp_path / name, Recipe)


def test_a_recipe_file_may_have_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(TEXT.encode("utf-8-sig"))
    assert read_recipe(tmp_path / "r.yaml", Recipe) == build()


@pytest.mark.parametrize(
    "overrides", [[], ["distill.divergence=jsd", "distill.beta=0.25"], ["train.max_grad_norm=null"]]
)
def test_the_resolved_recipe_reads_back_equal(overrides: list[str]) -> None:
    recipe = build(*overrides)
    assert build_recipe(render_recipe(recipe), Recipe) == recipe


@pytest.mark.parametrize("overrides", [[], ["refine.response=null"], ["refine.feature.weight=0.5"]])
def test_the_resolved_recipe_of_stage_two_reads_back_equal(overrides: list[str]) -> None:
    recipe = build_refine(*overrides)
    assert build_recipe(render_recipe(recipe), RefineRecipe) == recipe


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_text_survives_the_way_to_yaml_and_back(text: str) -> None:
    recipe = build()
    level = recipe.pyramid[0].model_copy(update={"model": text})
    recipe = recipe.model_copy(update={"pyramid": (level, recipe.pyramid[1])})
    assert build_recipe(render_recipe(recipe), Recipe) == recipe


def test_the_resolved_recipe_explains_every_field() -> None:
    lora = "pyramid.small.tuning={lora: {}}"
    changes = (lora, "augment={}")
    for recipe in (build(*changes, "distill.lambda.start=1"), build_refine(*changes, "refine.signals=live")):
        shown = render_recipe(recipe)
        for key, field in iterate_fields(type(recipe)):
            assert f"# {field['description']}" in shown, key


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_field_is_described_in_a_sentence(kind: type[RecipePart]) -> None:
    for key, field in iterate_fields(kind):
        assert field["description"].endswith("."), key


@pytest.mark.parametrize("kind", KINDS.values())
def test_the_schema_is_json_and_refuses_unknown_keys(kind: type[RecipePart]) -> None:
    document = json.loads(json.dumps(build_schema(kind), allow_nan=False))
    assert document["additionalProperties"] is False
    assert all(part["additionalProperties"] is False for part in document["$defs"].values())


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        build().seed = 3  # type: ignore[misc]


KEYS = st.sampled_from(
    [key.replace("[]", "[0]") for key, _ in iterate_fields(Recipe)] + ["a", "pyramid.small", "x[3]"]
)
VALUES = st.one_of(
    st.text(max_size=20), st.sampled_from(["null", "{}", "[]", "1e-5", "*a", "!x", "{a: {b: 1}}"])
)


@settings(max_examples=150, deadline=None)
@given(
    st.text(max_size=80), st.lists(st.builds("{}={}".format, KEYS, VALUES) | st.text(max_size=20), max_size=4)
)
def test_only_our_errors_escape_the_reader(text: str, overrides: list[str]) -> None:
    for source in (text, TEXT, TEXT + text):
        try:
            assert isinstance(build_recipe(source, Recipe, overrides), Recipe)
        except HkdError as error:
            assert isinstance(error, RecipeError)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(list(Recipe.model_fields)), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_any_tree_is_a_recipe_or_a_recipe_error(tree: object) -> None:
    with pytest.raises(RecipeError):
        build_recipe(json.dumps(tree), Recipe)
