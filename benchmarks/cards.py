"""Which pyramid fits on which card, as `hkd init` and `hkd plan` count it: no GPU is asked.

python benchmarks/cards.py --json benchmarks/cards.json

Nothing is downloaded. Records are made up: captions of 60 words, four choices, grey pictures of 640 x 480.
For each card what `hkd init` chooses; for each recipe of recipes/online what its largest phase needs, and the
smallest of the cards that has the room. `python docs/generate.py` makes tables of it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from hkdcli.data.examples import write_examples
from hkdcli.planning.planner import make_plan
from hkdcli.planning.records import make_up_records
from hkdcli.planning.room import GIB, choose_room
from hkdcli.planning.starting import Wishes, start_recipe
from hkdcli.recipe import Recipe
from hkdcli.reporter import SilentReporter

ROOT = Path(__file__).parents[1]
CARDS = (8, 12, 16, 24, 40, 48, 80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    recipes = sorted((ROOT / "recipes" / "online").glob("*.yaml"))
    figures = {"cards": [choose_for(card) for card in CARDS], "recipes": [weigh(each) for each in recipes]}
    text = json.dumps(figures, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


def choose_for(card: int) -> dict[str, Any]:
    """What `hkd init` chooses for a card."""
    with tempfile.TemporaryDirectory() as name:
        data, images = Path(name, "records.json"), Path(name, "photos")
        made_up = make_up_records()
        write_examples(data, made_up.examples)
        images.mkdir()
        for example in made_up.examples:
            made_up.images.load(example.image).image.save(images / example.image)
        wishes = Wishes("mine", {"train": data}, images, len(made_up.examples))
        started = start_recipe(wishes, gpu_gb=card, memory_gib=None, reporter=SilentReporter())
    return {
        "card": card,
        "pyramid": str(started.candidate),
        "micro_batch_size": started.micro_batch_size,
        "need_gib": round(started.need / GIB, 1),
    }


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
