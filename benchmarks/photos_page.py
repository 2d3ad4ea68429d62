"""The figures of `photos.py` as the tables of docs/results/photos.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pages import fill_page, render_table

TASKS = {"all": "both tasks", "hallucination": "hallucination", "factuality": "factuality"}


def write_page(document: Mapping[str, Any], page: Path) -> None:
    """Write the tables into the page; its words stay."""
    page.write_text(render_page(document, page.read_text("utf-8")), "utf-8")


def render_page(document: Mapping[str, Any], text: str) -> str:
    """The page with its tables as the figures say them.

    Args:
        document: `photos.json`.
        text: of the page.

    Returns:
        The page.
    """
    return fill_page(
        text, {"scores": render_scores(document["results"]), "pairs": render_pairs(document["pairs"])}
    )


def render_scores(results: Mapping[str, Any]) -> str:
    """Micro-F1 of every model and way with half its interval, and F1 over hallucinated phrases."""
    header = ["model", "asked", *(f"micro-F1, {name}" for name in TASKS.values()), "hallucinated F1"]
    (constant, *_), rows = [ways["photo"] for ways in results.values()], []
    cells = [f"{constant[task]['constant_micro_f1'][0]:.3f}" for task in TASKS]
    rows.append(["constant answer", "-", *cells, "-"])
    for model, ways in results.items():
        for way, scores in ways.items():
            cells = [_render(scores[task]["micro_f1"]) for task in TASKS]
            rows.append([model, way, *cells, _render(scores["hallucination"]["hallucinated_f1"])])
    return render_table(header, rows)


def render_pairs(pairs: Mapping[str, Any]) -> str:
    """How much better one small model answers than another, both with the photo and in one order."""
    rows = []
    for name, score in pairs.items():
        interval = score["interval"]
        shown = f"{interval['low']:+.3f} to {interval['high']:+.3f}" if interval else "-"
        rows.append([name, f"{score['difference']:+.3f}", shown])
    return render_table(["pair", "micro-F1", "95 % interval"], rows)


def _render(score: tuple[float, Mapping[str, float] | None]) -> str:
    value, interval = score
    return f"{value:.3f}" + (f" ± {interval['half_width']:.3f}" if interval else "")
