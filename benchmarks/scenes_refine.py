"""Does refinement help, and which part of it? One student of stage one, refined with and without each part.

    python benchmarks/scenes_refine.py --out runs/scenes-refine --json benchmarks/scenes_refine.json

Each seed draws its own training records and order, and trains one student by stage one; every arm of stage
two starts from it. `online, as long` is stage one alone with as many steps as both stages together. Every arm
ends with the weights of its best evaluation on the same dev records; the test records are looked at once, at
the end. The arms of a seed share one store of signals. A run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scene_table import render_table

from hkdcli.engine import distill_online, distill_refine
from hkdcli.outcome import Outcome
from hkdcli.recipe import Recipe
from hkdcli.recipe_file import read_recipe
from hkdcli.recipe_refine import RefineRecipe

RECIPES = Path(__file__).parents[1] / "recipes" / "scenes"
ONLINE, REFINE = RECIPES / "online.yaml", RECIPES / "refine.yaml"
PARTS = ("response", "feature", "relation")
ARMS: dict[str, tuple[str, ...]] = {
    "online + refine": (),
    **{f"without {part}": (f"refine.{part}=null",) for part in PARTS},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/scenes-refine"), help="where the runs go")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="changes to the recipe of stage two"
    )
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for seed in options.seeds:
        for arm, score in run_seed(seed, options.overrides, options.out).items():
            results.append({"seed": seed, "arm": arm, **score})
            print(f"seed {seed}, {arm}: {score['micro_f1']:.3f}", flush=True)
    print(render_table(results, baseline="online"), flush=True)
    if options.json:
        document = {"recipe": REFINE.name, "overrides": options.overrides, "results": results}
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def run_seed(seed: int, overrides: Sequence[str], out: Path) -> dict[str, Mapping[str, Any]]:
    """Train and score every arm of a seed; returns the scores of the student by arm."""
    base, drawn = out / f"{seed}-online", (f"seed={seed}", f"data.train.scenes.seed={seed}")
    longer = _count_steps(overrides)
    scores = {
        "online": _run(distill_online, ONLINE, drawn, base),
        "online, as long": _run(
            distill_online, ONLINE, (*drawn, f"train.max_steps={longer}"), out / f"{seed}-online-as-long"
        ),
    }
    for arm, changes in ARMS.items():
        start = (f"pyramid.small.model={base}", f"refine.store={out / f'{seed}-signals'}")
        given = (*drawn, *start, *changes, *overrides)
        scores[arm] = _run(distill_refine, REFINE, given, out / f"{seed}-{arm.replace(' ', '-')}")
    return scores


def _count_steps(overrides: Sequence[str]) -> int:
    """Steps of both stages together."""
    refine = read_recipe(REFINE, RefineRecipe, overrides)
    return read_recipe(ONLINE, Recipe).train.max_steps + refine.train.max_steps


def _run(
    command: Callable[..., Outcome], recipe: Path, changes: Sequence[str], folder: Path
) -> Mapping[str, Any]:
    outcome = command(recipe, changes, out=folder, resume=folder.exists())
    return next(row for row in outcome.document["scores"] if row["level"] == "small")


if __name__ == "__main__":
    main()
