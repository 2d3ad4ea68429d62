"""What a page shows as data is data that the program takes."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from hkdcli.data.examples import read_examples
from hkdcli.recipe import Recipe, RunRecipe
from hkdcli.recipe_file import read_recipe
from hkdcli.recipe_refine import RefineRecipe

ROOT = Path(__file__).parents[2]


def test_the_record_in_the_readme_is_read(tmp_path: Path) -> None:
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    path = tmp_path / "record.json"
    path.write_text(blocks[0])
    read = read_examples(path)
    assert not read.bad_rows
    assert [example.answer for example in read.examples] == [frozenset("B")]


def test_every_recipe_in_a_page_is_valid(tmp_path: Path) -> None:
    pages: dict[str, type[RunRecipe]] = {"README.md": Recipe, "docs/recipes.md": Recipe}
    pages |= {"docs/refine.md": RefineRecipe}
    path = tmp_path / "recipe.yaml"
    for page, kind in pages.items():
        (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
        path.write_text(block)
        assert read_recipe(path, kind).name == yaml.safe_load(block)["name"]
