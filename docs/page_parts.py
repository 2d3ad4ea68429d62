"""Parts of pages: those between two marks, and the tables of cards, of figures of benchmarks/cards.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parents[1] / "benchmarks" / "cards.json"
MARK = "<!-- {}: written by docs/generate.py -->\n"
CARD_HEAD = ("card, GB", "pyramid", "examples at once", "GiB needed", "command")
RECIPE_HEAD = ("recipe", "smallest card, GB", "GiB needed", "by its largest phase", "command")


def replace_part(text: str, begin: str, end: str, lines: Sequence[str]) -> str:
    """A page with other lines between its marks `begin` and `end`."""
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return "".join([before, begin, "\n".join(lines), "\n", end, after])


def render_choosing(text: str) -> str:
    """docs/choosing-a-pyramid.md with both of its tables: what `hkd init` chooses, and where recipes fit."""
    figures: dict[str, Any] = json.loads(FIGURES.read_text("utf-8"))
    cards = _render_table(CARD_HEAD, map(_render_card, figures["cards"]))
    recipes = _render_table(RECIPE_HEAD, map(_render_recipe, figures["recipes"]))
    text = replace_part(text, MARK.format("cards"), "<!-- end of cards -->", cards)
    return replace_part(text, MARK.format("recipes"), "<!-- end of recipes -->", recipes)


def _render_card(row: dict[str, Any]) -> Sequence[str]:
    command = f"`hkd init --data records.json --images photos --gpu {row['card']}`"
    need = f"{row['need_gib']:.1f}"
    return str(row["card"]), row["pyramid"], str(row["micro_batch_size"]), need, command


def _render_recipe(row: dict[str, Any]) -> Sequence[str]:
    command = f"`hkd plan {row['recipe']} --gpu {row['card']}`"
    return f"`{row['recipe']}`", str(row["card"]), f"{row['need_gib']:.1f}", row["phase"], command


def _render_table(head: Sequence[str], rows: Any) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]
