"""The recipes of real pyramids, with tiny models of the same families standing in for the hub's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_families import FAMILIES
from tiny_models import save_tiny_qwen

from hkdcli.__main__ import main
from hkdcli.engine import distill_online, plan_distillation
from hkdcli.recipe import Recipe
from hkdcli.recipe_file import read_recipe

ROOT = Path(__file__).parents[2]
STAND_INS = {
    "qwen2.5-vl-72b-7b-3b": save_tiny_qwen,
    "qwen3-vl-32b-4b": FAMILIES["qwen3-vl"],
    "internvl3-38b-2b": FAMILIES["internvl"],
    "smolvlm-2b-500m-256m": FAMILIES["smolvlm"],
}
RECIPES = sorted((ROOT / "recipes" / "online").glob("*.yaml"))
FEW = (
    "train.max_steps=1",
    "train.micro_batch_size=2",
    "train.gradient_accumulation_steps=1",
    "train.warmup_steps=0",
    "train.evaluate_every=1",
    "distill.teacher_check={size: 4, on_fail: warn}",
    "runtime.device=cpu",
)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with records and images where the recipes look for them."""
    from hkdcli.scenes.source import load_scenes, write_scenes

    folder = tmp_path_factory.mktemp("workplace")
    for split in ("train", "dev", "test"):
        write_scenes(folder / "data", load_scenes(split, size=4))
        (folder / "data" / "records.json").rename(folder / "data" / f"{split}.json")
    return folder


def build_overrides(path: Path, folder: Path) -> list[str]:
    """Each level's model becomes a tiny one of its family; short trainings."""
    save, overrides = STAND_INS[path.stem], list(FEW)
    for place, level in enumerate(read_recipe(path, Recipe).pyramid):
        own = folder / level.name
        if not own.exists():
            save(own)
        overrides.append(f"pyramid[{place}].model={own}")
        # The apex has settings of its own in some recipes: they are cut down too.
        if level.train is not None and place == 0:
            own_train = "max_steps: 1, micro_batch_size: 2, gradient_accumulation_steps: 1"
            overrides.append(f"pyramid[{place}].train={{{own_train}}}")
    return overrides


def test_there_is_a_stand_in_for_every_recipe() -> None:
    assert [path.stem for path in RECIPES] == sorted(STAND_INS)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_it_is_what_it_needs_and_how_to_run_it(path: Path) -> None:
    header = path.read_text().split("\nname:")[0]
    for wanted in (
        "# What it is: ",
        "# What it needs: ",
        f"# Run it: hkd distill-online recipes/online/{path.name}",
    ):
        assert wanted in header
    assert read_recipe(path, Recipe).name == path.stem


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_with_tiny_models_of_its_families(
    path: Path, workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace)
    overrides = build_overrides(path, tmp_path)
    levels = plan_distillation("distill-online", path, overrides).document["pyramid"]
    assert all(level["weights"].endswith("MiB") for level in levels)
    outcome = distill_online(path, overrides, out=tmp_path / "run")
    assert len(outcome.document["scores"]) == len(levels) + 1
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    taught = [row for row in rows if row["level"] != levels[0]["level"] and "choice" in row]
    assert taught and all(row["loss"] > 0 for row in taught)
    infer = ["infer", str(tmp_path / "run"), "data/test.json", "--images", "data/images", "--shift"]
    assert main([*infer, "--out", str(tmp_path / "p.jsonl")]) == 0
