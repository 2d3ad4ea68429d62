"""What a page shows as data is data that the program takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from hkdcli.data.examples import read_examples
from hkdcli.errors import BadRow
from hkdcli.inference.rows import RunHashes, render_failure
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


def test_the_python_of_the_page_on_inference_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hkdcli.scenes.source import load_scenes

    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "infer.md").read_text(), re.DOTALL)
    data = load_scenes("test", size=1)
    data.images.load(data.examples[0].image).image.save(tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/infer.md", "exec"), {})
    assert (tmp_path / "why.png").exists()
    assert "image.missing" in capsys.readouterr().out


def test_the_python_of_the_page_on_evaluation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hkdcli.scenes.source import load_scenes, write_scenes

    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "evaluate.md").read_text(), re.DOTALL)
    data = load_scenes("test", size=4)
    write_scenes(tmp_path, data)
    rows = [json.dumps({"id": each.id, "prediction": ["A"]}) + "\n" for each in data.examples]
    (tmp_path / "predictions.jsonl").write_text("".join(rows))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/evaluate.md", "exec"), {})
    assert re.fullmatch(r"0\.\d+ (None|\{'low': .*\})\n", capsys.readouterr().out)


def test_the_page_on_inference_names_every_key_of_a_row() -> None:
    page = (ROOT / "docs" / "infer.md").read_text()
    table = page.partition("## One row a record")[2].partition("##")[0]
    row = render_failure(BadRow("c", "i", "p", "d"), None, RunHashes("p", {}))
    assert {key for key in row if f"`{key}`" not in table} == set()
