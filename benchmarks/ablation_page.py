"""The figures of the ablation as tables and plots: mean and spread over the seeds, and gains seed by seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pages import fill_page, render_table

Row = Mapping[str, Any]

FIGURES = {
    "micro_f1": "micro-F1",
    "hallucination_micro_f1": "hallucination",
    "factuality_micro_f1": "factuality",
    "hallucinated_f1": "hallucinated F1",
    "exact_match": "exact match",
}
SHIFTED = {
    ("shift_hallucination", "micro_f1"): "micro-F1, --shift-task hallucination",
    ("shift", "hallucination_micro_f1"): "hallucination, --shift",
    ("shift", "factuality_micro_f1"): "factuality, --shift",
}
LABELS = {"plain": "one order", "shift_hallucination": "--shift-task hallucination"}
# Table -> its arms in order; the first is what the others are compared with.
TABLES: Mapping[str, tuple[str, ...]] = {
    "steps": (
        "labels",
        "medium, labels",
        "large, labels",
        "online",
        "online, refine",
        "labels, variants",
        "online, variants",
        "online, refine, variants",
    ),
    "compute": (
        "labels, as dear",
        "medium, labels, as dear",
        "large, labels, as dear",
        "online, as dear",
        "online, refine",
        "labels, variants, as dear",
        "online, variants, as dear",
    ),
    "teachers": (
        "labels, short",
        "online, short",
        "teachers: parent",
        "teachers: all",
        "teachers: parent, mutual",
        "choices alone",
        "tokens alone",
    ),
    "parts": ("online, short", "online, refine", "without response", "without feature", "without relation"),
}


def write_page(rows: Sequence[Row], page: Path) -> None:
    """Write each table between its marks in the page, and plots of the first two beside it; the words stay.

    Args:
        rows: of `ablation.json`.
        page: Markdown that has, for each table, `<!-- NAME -->` and `<!-- end of NAME -->`.
    """
    page.write_text(render_page(rows, page.read_text("utf-8")), "utf-8")
    for name in ("steps", "compute"):
        draw_plot(rows, TABLES[name], page.with_name(f"ablation-{name}.svg"))


def render_page(rows: Sequence[Row], text: str) -> str:
    """The page with its tables as the rows say them."""
    return fill_page(text, {name: render_arms(rows, arms) for name, arms in TABLES.items()})


def render_arms(rows: Sequence[Row], arms: Sequence[str]) -> str:
    """A table of means and standard deviations, then each arm's gain over the first, seed by seed.

    Args:
        rows: one for each arm and seed, other arms' too.
        arms: those of the table, in order; an arm without rows is left out.

    Returns:
        Markdown.
    """
    header = ["arm", "steps", "CPU s", *FIGURES.values(), *SHIFTED.values()]
    cells = []
    for arm in arms:
        of_arm = [row for row in rows if row["arm"] == arm]
        if of_arm:
            line = [_name(of_arm, rows), *_render_cost(of_arm, rows)]
            line += [render_spread([row["plain"][name] for row in of_arm]) for name in FIGURES]
            line += [render_spread([row[way][name] for row in of_arm]) for way, name in SHIFTED]
            cells.append(line)
    if len(cells) < 2:
        return "No figures yet."
    return "\n".join([render_table(header, cells), *_render_gains(rows, arms)])


def _name(of_arm: Sequence[Row], rows: Sequence[Row]) -> str:
    """The arm's name, and how many seeds it has where it has not all."""
    seeds, name = {row["seed"] for row in rows}, str(of_arm[0]["arm"])
    return name if len(of_arm) == len(seeds) else f"{name} ({len(of_arm)} of {len(seeds)} seeds)"


def _render_cost(of_arm: Sequence[Row], rows: Sequence[Row]) -> tuple[str, str]:
    """Steps and CPU seconds of an arm, with those of the arm that it goes on from."""
    start = [row for row in rows if row["arm"] == of_arm[0]["start"]]
    trained = [part for part in (start, of_arm) if part]
    seconds = [[row["cpu_seconds"] for row in part if row["cpu_seconds"] is not None] for part in trained]
    spent = f"{sum(map(statistics.mean, seconds)):.0f}" if all(seconds) else "-"
    return " + ".join(str(part[0]["steps"]) for part in trained), spent


def render_spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"


def _render_gains(rows: Sequence[Row], arms: Sequence[str]) -> list[str]:
    scores = {(row["arm"], row["seed"]): row["plain"]["micro_f1"] for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    if not any(row["arm"] == arms[0] for row in rows):
        return []
    lines = ["", f"Micro-F1 against *{arms[0]}*, seed by seed:", ""]
    for arm in arms[1:]:
        pairs = [
            (scores[arm, seed], scores[arms[0], seed])
            for seed in seeds
            if (arm, seed) in scores and (arms[0], seed) in scores
        ]
        if pairs:
            lines.append(f"- {arm}: " + ", ".join(f"{one - other:+.3f}" for one, other in pairs))
    return lines


def draw_plot(rows: Sequence[Row], arms: Sequence[str], path: Path) -> None:
    """Draw each arm's micro-F1, a dot for each seed and a line at the mean, without and with shifts.

    Args:
        rows: one for each arm and seed.
        arms: their order, from the top.
        path: SVG to write; the same rows give the same bytes.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "hkd", "svg.fonttype": "none", "font.size": 10})
    shown = [arm for arm in arms if any(row["arm"] == arm for row in rows)]
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(shown) + 1.2), layout="constrained")
    for way, colour, above in (("plain", "#1f6feb", -0.12), ("shift_hallucination", "#d97706", 0.12)):
        for place, arm in enumerate(shown):
            values = [row[way]["micro_f1"] for row in rows if row["arm"] == arm]
            label = LABELS[way] if place == 0 else None
            axes.scatter(values, [place + above] * len(values), color=colour, s=22, label=label)
            axes.vlines(statistics.mean(values), place + above - 0.16, place + above + 0.16, color=colour)
    axes.set_yticks(range(len(shown)), shown)
    axes.invert_yaxis()
    axes.set_xlabel("micro-F1 on 1,000 test records; dots: seeds, lines: means")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
