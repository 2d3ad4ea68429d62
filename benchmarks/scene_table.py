"""Arms of a benchmark on scenes as a table: mean and spread over the seeds, each arm against a baseline."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

FIGURES = ("micro_f1", "hallucinated_f1", "exact_match", "hallucination_micro_f1", "factuality_micro_f1")


def render_table(rows: Sequence[Mapping[str, Any]], *, baseline: str) -> str:
    """Mean and standard deviation over the seeds, then the difference to the baseline, seed by seed.

    Args:
        rows: one for each arm and seed, with `arm`, `seed` and the figures; what needs no seed has none.
        baseline: the arm that the others are compared with.

    Returns:
        Markdown.
    """
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    lines = ["| arm | " + " | ".join(FIGURES) + " |", "|---|" + "---|" * len(FIGURES)]
    for arm in arms:
        of_arm = [row for row in rows if row["arm"] == arm]
        cells = [_render([row[name] for row in of_arm if name in row]) for name in FIGURES]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    scores = {
        arm: {row["seed"]: row["micro_f1"] for row in rows if row["arm"] == arm and "seed" in row}
        for arm in arms
    }
    for arm in arms:
        if arm != baseline and scores[arm]:
            gains = [f"{scores[arm][seed] - score:+.3f}" for seed, score in scores[baseline].items()]
            lines.append(f"\n{arm} - {baseline}, micro-F1 seed by seed: " + ", ".join(gains))
    return "\n".join(lines)


def _render(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}"
