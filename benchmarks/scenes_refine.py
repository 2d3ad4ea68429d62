"""Does refinement help, and which part of it? One student of stage one, refined with and without each part.

    python benchmarks/scenes_refine.py --out runs/scenes-refine --json benchmarks/scenes_refine.json

Each seed draws its own training records and order, and trains one student by stage one; every arm of stage
two starts from it. `online, again` goes on from the same student by stage one, with the steps and learning
rate of stage two; `online, as long` is stage one from the start with the steps of both. Every arm ends with
the weights of its best evaluation on the same dev records; the test records are looked at once, at the end.
The arms of a seed share a store of signals. A run that was interrupted goes on where it stopped.
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
    one, two = read_recipe(ONLINE, Recipe).train, read_recipe(REFINE, RefineRecipe, overrides).train
    again = (f"pyramid.small.model={base}", f"train.max_steps={two.max_steps}")
    again += (f"train.learning_rate={two.learning_rate}",)
    longer = (f"train.max_steps={one.max_steps + two.max_steps}",)
    scores = {
        "online": _run(distill_online, ONLINE, drawn, base),
        "online, again": _run(distill_online, ONLINE, (*drawn, *again), out / f"{seed}-online-again"),
        "online, as long": _run(distill_online, ONLINE, (*drawn, *longer), out / f"{seed}-online-as-long"),
    }
    for arm, changes in ARMS.items():
        # Without a response less is stored of each answer, so that arm has a store of its own.
        store = out / f"{seed}-signals{'-of-states' if arm == 'without response' else ''}"
        start = (f"pyramid.small.model={base}", f"refine.store={store}")
        given = (*drawn, *start, *changes, *overrides)
        scores[arm] = _run(distill_refine, REFINE, given, out / f"{seed}-{arm.replace(' ', '-')}")
    return scores


def _run(
    command: Callable[..., Outcome], recipe: Path, changes: Sequence[str], folder: Path
) -> Mapping[str, Any]:
    outcome = command(recipe, changes, out=folder, resume=folder.exists())
    return next(row for row in outcome.document["scores"] if row["level"] == "small")


if __name__ == "__main__":
    main()
