"""A small valid recipe, and what reading one says."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hkdcli.errors import RecipeError
from hkdcli.recipe import Recipe
from hkdcli.recipe_file import build_recipe

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


def build(*overrides: str, text: str = TEXT) -> Recipe:
    return build_recipe(text, overrides)


def problems(*overrides: str, text: str = TEXT) -> dict[str, str]:
    """The problems by key; an override is the easiest way to put something wrong into a recipe."""
    with pytest.raises(RecipeError) as caught:
        build_recipe(text, overrides)
    return {problem.key: problem.detail for problem in caught.value.problems}


def message(text: str, overrides: Sequence[str] = (), source: str = "recipe") -> str:
    with pytest.raises(RecipeError) as caught:
        build_recipe(text, overrides, source=source)
    return str(caught.value)
