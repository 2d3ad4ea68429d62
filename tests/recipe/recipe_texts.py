"""A small valid recipe, and what reading one says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hkdcli.errors import RecipeError
from hkdcli.recipe import Recipe, RunRecipe
from hkdcli.recipe_blocks import RecipePart
from hkdcli.recipe_file import build_recipe
from hkdcli.recipe_refine import RefineRecipe
from hkdcli.recipe_schema import KINDS

TEXT = """
name: tiny
data:
  train: {scenes: {split: train, size: 8}}
  test: {scenes: {split: test, size: 4}}
pyramid:
  - {name: large, model: "scenes:large", adapter: "scenes:large-tuned", quantization: nf4, train: null}
  - {name: small, model: "scenes:small", tuning: full, train: {max_steps: 3}}
train: {max_steps: 10, learning_rate: 1e-5}
"""


REFINE_TEXT = TEXT.replace(", train: null", "")


def build(*overrides: str, text: str = TEXT) -> Recipe:
    return build_recipe(text, Recipe, overrides)


def build_refine(*overrides: str, text: str = REFINE_TEXT) -> RefineRecipe:
    return build_recipe(text, RefineRecipe, overrides)


def find_kind(path: Path) -> type[RecipePart]:
    """What a shipped recipe is to the command that its header names."""
    (command,) = {name for name in KINDS if f"# Run it: hkd {name} " in path.read_text("utf-8")}
    return KINDS[command]


def problems(*overrides: str, text: str = TEXT, kind: type[RunRecipe] = Recipe) -> dict[str, str]:
    """The problems by key; an override is the easiest way to put something wrong into a recipe."""
    with pytest.raises(RecipeError) as caught:
        build_recipe(text, kind, overrides)
    return {problem.key: problem.detail for problem in caught.value.problems}


def message(text: str, overrides: Sequence[str] = (), source: str = "recipe") -> str:
    with pytest.raises(RecipeError) as caught:
        build_recipe(text, Recipe, overrides, source=source)
    return str(caught.value)
