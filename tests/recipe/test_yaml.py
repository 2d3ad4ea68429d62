"""What YAML may say in a recipe, and what it may not."""

from __future__ import annotations

import resource
import time

import pytest
from recipe_texts import TEXT, build, message, problems

from hkdcli.safe_yaml import is_plain_text, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1E5", 1e5),
        ("-.5e+3", -500.0),
        ("1.", 1.0),
        ("1e400", float("inf")),
        ("0", 0),
        ("-12", -12),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_booleans_and_null(text: str, value: object) -> None:
    found, wrong = parse_yaml(text)
    assert (found, type(found), wrong) == (value, type(value), [])


def test_c01_exponent_without_a_point_is_a_float() -> None:
    assert build("train.learning_rate=1e-5").train.learning_rate == 1e-5
    assert build("train.learning_rate=3E-4").train.learning_rate == 3e-4


def test_c02_repeated_key_names_both_lines() -> None:
    text = TEXT + "seed: 1\nname: other\nseed: 2\n"
    assert problems(text=text) == {
        "name": "given twice, in lines 2 and 11",
        "seed": "given twice, in lines 10 and 12",
    }


def test_c02_repeated_key_in_a_list_has_its_place() -> None:
    found = problems(text=TEXT.replace("tuning: full", "tuning: full, tuning: full"))
    assert found == {"pyramid[1].tuning": "given twice, in lines 8 and 8"}


@pytest.mark.parametrize(
    "text", ["No", "on", "Off", "yes", "y", "012", "12:30:00", "2001-01-01", "0x1F", "1_000", "0o7", "."]
)
def test_c03_texts_stay_texts(text: str) -> None:
    assert parse_yaml(text) == (text, [])
    assert is_plain_text(text)


def test_c03_a_number_is_no_text_and_a_text_no_number() -> None:
    assert problems("name=12") == {"name": "12 is not a text; put it in quotes"}
    assert problems("seed=012") == {"seed": '"012" is not a whole number'}
    assert problems("seed=true") == {"seed": "true is not a whole number"}
    assert problems("data.strict=no") == {"data.strict": '"no" is not true or false'}


def test_c03_an_integer_too_long_to_count_is_no_number() -> None:
    assert parse_yaml("9" * 5000) == ("9" * 5000, [])


@pytest.mark.parametrize(
    "text", ["!!python/object/apply:os.system ['touch PWNED']", "!!str 12", "!local x", "!!set {a}"]
)
def test_c04_tags_are_refused_and_nothing_runs(
    text: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.system", lambda command: pytest.fail(f"ran {command}"))
    assert "tags such as" in message(f"name: {text}\n")


def test_c04_tags_are_refused_in_overrides() -> None:
    assert "tags such as" in problems("name=!!python/name:os.system x")["name"]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "aliases"),
        ("[" * 3000, "nested deeper"),
        ("[" * 3000 + "]" * 3000, "nested deeper"),
        ("- " * 3000, "nested deeper"),
        ("{a: " * 3000, "nested deeper"),
        ("[" * 400_000, "nested deeper"),
        ("a: &a [*a]", "contains itself"),
        ("a: &a {b: &b [*a]}", "contains itself"),
    ],
    ids=["aliases", "open", "closed", "dashes", "maps", "long", "cycle", "inner-cycle"],
)
def test_c05_bombs_are_refused_at_once(text: str, said: str) -> None:
    before_kb, started_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert said in message(text)
    assert time.process_time() - started_s < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 50_000


def test_c05_a_few_aliases_are_fine_and_separate() -> None:
    text = TEXT.replace(
        "train: {scenes: {split: train, size: 8}}", "train: &t {scenes: {split: train}}\n  dev: *t"
    )
    recipe = build("data.dev.scenes.size=2", text=text)
    assert recipe.data.dev is not None and recipe.data.dev.scenes is not None
    assert recipe.data.dev.scenes.size == 2
    assert recipe.data.train.scenes is not None and recipe.data.train.scenes.size is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b: c", "line 1, column 5"),
        ("a: 'x", "line 1"),
        ("a: \x01", "control characters"),
        ("a: *x", "undefined alias"),
        ("--- a\n--- b", "single document"),
        ("? [1]\n: 2", "a key must be a text"),
        ("- a", "not a block"),
        ("text", "not a block"),
        ("# only a comment", "empty"),
    ],
)
def test_broken_yaml_says_where(text: str, said: str) -> None:
    assert said in message(text)
