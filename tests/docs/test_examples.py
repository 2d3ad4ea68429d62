"""What a page shows as data is data that the program takes."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from hkdcli.data.examples import read_examples
from hkdcli.recipe import Recipe
from hkdcli.recipe_file import read_recipe

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
    pages = [ROOT / "README.md", ROOT / "docs" / "recipes.md"]
    blocks = [b for page in pages for b in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)]
    assert len(blocks) == 2
    for block in blocks:
        path = tmp_path / "recipe.yaml"
        path.write_text(block)
        assert read_recipe(path, Recipe).name == yaml.safe_load(block)["name"]
