"""Real photos: a pyramid of 140M, 76M and 55M parameters on coco-bench, every part with its controls.

    pip install --no-deps -r benchmarks/real/requirements.txt
    python benchmarks/photos.py ../shared/data/coco-bench --write docs/results/photos.md

Assembles the models, splits the records by image, and trains the small model on labels alone, then by the
recipes of both stages (recipes/real), with as many steps in all. Every model answers the test records with
the photo, with a grey picture in its place, and with captions' choices in every order. Each score has a 95 %
interval over images, and the small models are compared pair by pair. Hours on two cores; a run that was
interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from photos_page import write_page

from hkdcli.engine import compare, distill_online, distill_refine, evaluate, infer, split
from hkdcli.inferring import InferOptions
from hkdcli.opening import DataOptions
from hkdcli.outcome import Outcome
from hkdcli.predicting import Output
from hkdcli.recipe import Recipe
from hkdcli.recipe_file import read_recipe
from hkdcli.recipe_refine import RefineRecipe

HERE = Path(__file__).parent / "real"
RECIPES = HERE.parents[1] / "recipes" / "real"
ONLINE, REFINE = RECIPES / "coco-online.yaml", RECIPES / "coco-refine.yaml"
WAYS: Mapping[str, InferOptions] = {
    "photo": InferOptions(),
    "grey": InferOptions(blind=True),
    # Verdicts have one order in all records, so a model that has learned them knows no other.
    "photo, --shift-task hallucination": InferOptions(shifts=None, shift_task="hallucination"),
}
# Whose answers are compared: how much better the second of a pair is than the first.
PAIRS = (
    ("small, labels", "small, online"),
    ("small, labels", "small, refined"),
    ("small, online", "small, refined"),
)


@dataclass(frozen=True)
class Model:
    """A trained model: a run, and which of its levels; None is its student."""

    run: str
    level: str | None = None


MODELS: Mapping[str, Model] = {
    "large, labels": Model("online", "large"),
    "medium, online": Model("online", "medium"),
    "small, labels": Model("labels"),
    "small, online": Model("online"),
    "small, refined": Model("refine"),
}


def main() -> None:
    options = parse_options()
    prepare(options.source, options.out)
    seconds = train(options)
    data = DataOptions(str(options.out / "coco-bench/test.json"), options.source / "images")
    results = {name: answer(name, model, data, options) for name, model in MODELS.items()}
    pairs = {f"{two} - {one}": compare_two(one, two, data, options.out) for one, two in PAIRS}
    document = {"steps": count_steps(options.changes), "cpu_seconds": seconds, "seed": options.seed}
    document |= {"changes": options.changes, "results": results, "pairs": pairs}
    options.write.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    write_page(document, options.write)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, help="the folder coco-bench")
    parser.add_argument("--out", type=Path, default=Path("runs/photos"), help="where models and runs go")
    parser.add_argument(
        "--write", type=Path, required=True, help="the page; its figures go beside it, as JSON"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="test on so many records")
    parser.add_argument(
        "changes", nargs="*", metavar="KEY=VALUE", help="changes to the recipes of both stages"
    )
    return parser.parse_intermixed_args()


def prepare(source: Path, out: Path) -> None:
    """Assemble the models and split the records, where that is not done."""
    if not (out / "models/small/model.safetensors").exists():
        subprocess.run([sys.executable, HERE / "assemble.py", "--out", out / "models"], check=True)
    if not (out / "coco-bench/test.json").exists():
        split([source / "task1.json", source / "task2.json"], out=out / "coco-bench")


def count_steps(changes: Sequence[str]) -> dict[str, int]:
    """Steps of a level in stage one and of the student in stage two."""
    one, two = read_recipe(ONLINE, Recipe, changes), read_recipe(REFINE, RefineRecipe, changes)
    return {"online": one.train.max_steps, "refine": two.train.max_steps}


def train(options: argparse.Namespace) -> dict[str, float | None]:
    """Train the three runs, or go on with them; returns CPU seconds of those that one process trained."""
    out, steps = options.out, count_steps(options.changes)
    drawn = [f"seed={options.seed}", "data.test=null"]
    for name in ("train", "dev"):
        drawn += [f"data.{name}.file={out / 'coco-bench' / name}.json"]
        drawn += [f"data.{name}.images={options.source / 'images'}"]
    fresh = [f"pyramid.{level}.model={out / 'models' / level}" for level in ("large", "medium", "small")]
    taught = [f"pyramid.{level}.model={out / 'online'}" for level in ("large", "medium", "small")]
    alone = f"{{name: small, model: {out / 'models/small'}, tuning: {{lora: {{rank: 16, targets: all}}}}}}"
    as_long = f"train.max_steps={sum(steps.values())}"
    return {
        "labels": _train(
            distill_online, ONLINE, [*drawn, *options.changes, f"pyramid=[{alone}]", as_long], out / "labels"
        ),
        "online": _train(distill_online, ONLINE, [*drawn, *fresh, *options.changes], out / "online"),
        "refine": _train(distill_refine, REFINE, [*drawn, *taught, *options.changes], out / "refine"),
    }


def _train(
    command: Callable[..., Outcome], recipe: Path, changes: Sequence[str], folder: Path
) -> float | None:
    is_new, begin = not folder.exists(), time.process_time()
    command(recipe, changes, out=folder, resume=not is_new)
    spent, kept = round(time.process_time() - begin), folder.with_suffix(".json")
    if is_new:
        kept.write_text(json.dumps(spent), "utf-8")
    print(f"{folder.name}: trained, {spent} CPU seconds in this process", flush=True)
    return int(json.loads(kept.read_text("utf-8"))) if kept.exists() else None


def answer(name: str, model: Model, data: DataOptions, options: argparse.Namespace) -> dict[str, Any]:
    """Answer the test records in each way, and score the answers."""
    found = {}
    for way, asking in WAYS.items():
        path = find_predictions(options.out, name, way)
        asked = replace(asking, level=model.level)
        asked_data = replace(data, limit=options.limit)
        infer(str(options.out / model.run), asked_data, asked, output=Output(path, resume=path.exists()))
        results = evaluate(path, asked_data).document
        tasks = {task: _pick(each) for task, each in results["tasks"].items()}
        found[way] = {"all": _pick(results), **tasks}
        print(f"{name}, {way}: micro-F1 {results['metrics']['micro_f1']:.3f}", flush=True)
    return found


def _pick(results: Mapping[str, Any]) -> dict[str, Any]:
    names = ("micro_f1", "hallucinated_f1", "exact_match", "constant_micro_f1")
    metrics, intervals = results["metrics"], results["intervals"]
    return {name: [metrics[name], intervals.get(name)] for name in names if metrics.get(name) is not None}


def find_predictions(out: Path, name: str, way: str) -> Path:
    """The file of predictions of a model asked in one way."""
    words = f"{name}-{way}".replace(",", "").replace("--", "").replace(" ", "-")
    return out / "predictions" / f"{words}.jsonl"


def compare_two(one: str, two: str, data: DataOptions, out: Path) -> Mapping[str, Any]:
    """How much better the second answers than the first, photo by photo."""
    first, second = (find_predictions(out, name, "photo") for name in (one, two))
    return compare(first, second, data).document["scores"]["micro_f1"]


if __name__ == "__main__":
    main()
