"""The recipes of real pyramids, both stages, with tiny models of the same families as stand-ins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_families import FAMILIES
from tiny_models import save_tiny_qwen

from hkdcli.__main__ import main
from hkdcli.engine import distill_online, distill_refine, plan_distillation
from hkdcli.recipe import Recipe
from hkdcli.recipe_file import read_recipe
from hkdcli.recipe_refine import RefineRecipe

ROOT = Path(__file__).parents[2]
STAND_INS = {
    "qwen2.5-vl-72b-7b-3b": save_tiny_qwen,
    "qwen3-vl-32b-4b": FAMILIES["qwen3-vl"],
    "internvl3-38b-2b": FAMILIES["internvl"],
    "smolvlm-2b-500m-256m": FAMILIES["smolvlm"],
}
RECIPES = sorted((ROOT / "recipes" / "online").glob("*.yaml"))
REFINE_RECIPES = sorted((ROOT / "recipes" / "refine").glob("*.yaml"))
FEW = (
    "train.max_steps=1",
    "train.micro_batch_size=2",
    "train.gradient_accumulation_steps=1",
    "train.warmup_steps=0",
    "train.evaluate_every=1",
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
    save, overrides = STAND_INS[path.stem], [*FEW, "distill.teacher_check={size: 4, on_fail: warn}"]
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
    assert [path.stem for path in RECIPES] == [path.stem for path in REFINE_RECIPES] == sorted(STAND_INS)


@pytest.mark.parametrize(
    "path", [*RECIPES, *REFINE_RECIPES], ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_a_recipe_says_what_it_is_what_it_needs_and_how_to_run_it(path: Path) -> None:
    header = path.read_text().split("\nname:")[0]
    stage = path.parent.name
    run = f"# Run it: hkd distill-{stage} recipes/{stage}/{path.name}"
    for wanted in ("# What it is: ", "# What it needs: ", run):
        assert wanted in header
    if stage == "online":
        assert read_recipe(path, Recipe).name == path.stem
        return
    recipe = read_recipe(path, RefineRecipe)
    assert recipe.name == f"{path.stem}-refined"
    online = read_recipe(ROOT / "recipes" / "online" / path.name, Recipe)
    levels = {level.name: level for level in online.pyramid}
    for level in recipe.pyramid:
        assert level.model == f"runs/{path.stem}" and level.quantization == levels[level.name].quantization
        assert level.level == (level.name if level is not recipe.pyramid[-1] else None)


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
    refine(path, tmp_path)
    for run in ("run", "refined"):
        infer = ["infer", str(tmp_path / run), "data/test.json", "--images", "data/images", "--shift"]
        assert main([*infer, "--out", str(tmp_path / f"{run}.jsonl")]) == 0


def refine(path: Path, folder: Path) -> None:
    """The recipe of stage two that goes on from the run of stage one."""
    recipe = ROOT / "recipes" / "refine" / path.name
    overrides = [*FEW, "refine.teacher_check={size: 4, on_fail: warn}", "refine.min_truth=0.0"]
    for place in range(len(read_recipe(recipe, RefineRecipe).pyramid)):
        overrides.append(f"pyramid[{place}].model={folder / 'run'}")
    levels = plan_distillation("distill-refine", recipe, overrides).document["pyramid"]
    assert levels[-1]["taught by"].startswith(levels[0]["level"])
    outcome = distill_refine(recipe, overrides, out=folder / "refined")
    assert [row["level"] for row in outcome.document["scores"]][-2:] == [
        f"{levels[-1]['level']}.before",
        levels[-1]["level"],
    ]
    rows = [json.loads(line) for line in (folder / "refined/log.jsonl").read_text().splitlines()]
    assert rows[0].get("response", rows[0].get("response_choice")) > 0
