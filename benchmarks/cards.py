"""Which pyramid fits on which card, as `hkd init` and `hkd plan` count it: no GPU is asked.

python benchmarks/cards.py --json benchmarks/cards.json

Nothing is downloaded. Records are made up: captions of 60 words, four choices, grey pictures of 640 x 480.
For each card what `hkd init` chooses; for each recipe of recipes/online what its largest phase needs, and the
smallest of the cards that has the room. `python docs/generate.py` makes tables of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hkdcli.data.examples import write_examples
from hkdcli.planning import starting
from hkdcli.planning.phases import list_phases
from hkdcli.planning.planner import make_plan
from hkdcli.planning.records import make_up_records
from hkdcli.planning.room import GIB, choose_room
from hkdcli.planning.staging import open_planned
from hkdcli.planning.starting import Wishes
from hkdcli.recipe import Recipe
from hkdcli.reporter import SilentReporter

ROOT = Path(__file__).parents[1]
CARDS = (8, 12, 16, 24, 40, 48, 80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    recipes = sorted((ROOT / "recipes" / "online").glob("*.yaml"))
    with tempfile.TemporaryDirectory() as folder:
        figures = {"cards": choose(Path(folder)), "recipes": [weigh(each) for each in recipes]}
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def choose(folder: Path) -> list[dict[str, Any]]:
    """What `hkd init` chooses for each card; a pyramid is rehearsed once for all of them."""
    planned = remember(
        lambda recipe, machine, work, reporter: open_planned(recipe, machine, fresh(folder), reporter)
    )
    with (
        patch.object(starting, "open_planned", planned),
        patch.object(starting, "list_phases", remember(list_phases)),
    ):
        wishes = make_up_wishes(folder)
        return [choose_for(card, wishes) for card in CARDS]


def remember(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose answers are kept by what its first argument says."""
    kept: dict[str, Any] = {}

    def answer(first: Any, *others: Any) -> Any:
        key = first.model_dump_json() if isinstance(first, Recipe) else str(id(first))
        if key not in kept:
            kept[key] = function(first, *others)
        return kept[key]

    return answer


def fresh(folder: Path) -> Path:
    """A folder for the stand-ins of one pyramid, which stay as long as its rehearsals may go on."""
    return Path(tempfile.mkdtemp(dir=folder))


def make_up_wishes(folder: Path) -> Wishes:
    """Records of nobody, as a file with pictures."""
    data, images = folder / "records.json", folder / "photos"
    made_up = make_up_records()
    write_examples(data, made_up.examples)
    images.mkdir()
    for example in made_up.examples:
        made_up.images.load(example.image).image.save(images / example.image)
    return Wishes("mine", {"train": data}, images, len(made_up.examples))


def choose_for(card: int, wishes: Wishes) -> dict[str, Any]:
    """What `hkd init` chooses for a card."""
    started = starting.start_recipe(wishes, gpu_gb=card, memory_gib=None, reporter=SilentReporter())
    print(f"{card} GB: {started.candidate}", file=sys.stderr)
    return {
        "card": card,
        "pyramid": name_levels(started.candidate),
        "micro_batch_size": started.micro_batch_size,
        "need_gib": round(started.need / GIB, 1),
    }


def name_levels(candidate: starting.Candidate) -> str:
    """The models of a pyramid by their names on the hub, the largest first."""
    names = [(model.partition("/")[2].removesuffix("-Instruct"), held) for _, model, held in candidate.levels]
    return " -> ".join(name if held == "none" else f"{name} in {held}" for name, held in names)


def weigh(path: Path) -> dict[str, Any]:
    """What a recipe needs at most, and the smallest card with so much room."""
    plan = make_plan(path, Recipe, [], run=None, gpu_gb=CARDS[-1], memory_gib=None, reporter=SilentReporter())
    largest = max(plan.phases, key=lambda each: each.need)
    fitting = [card for card in CARDS if largest.need <= choose_room("cuda", gpu_gb=card).usable]
    return {
        "recipe": str(path.relative_to(ROOT)),
        "card": fitting[0],
        "need_gib": round(largest.need / GIB, 1),
        "phase": f"{largest.phase.doing} {largest.phase.level}",
    }


if __name__ == "__main__":
    main()
