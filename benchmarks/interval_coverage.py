"""How often a 95 % interval holds the true score: resampling images, and resampling records.

    python benchmarks/interval_coverage.py --json benchmarks/interval_coverage.json

A world where the truth is known: an image is easy or hard, and all its records share that; each record has
three decisions. Many files are drawn from it, each is given an interval of its micro-F1, and counted is how
often that holds the micro-F1 of the whole world. `images` draws all records of an image together, as `hkd
evaluate` does; `records` draws records one by one, as is usually done.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hkdcli.evaluation.intervals import bootstrap_f1
from hkdcli.evaluation.resampling import Bootstrap
from hkdcli.evaluation.scores import score_f1
from hkdcli.evaluation.tally import Tally

IMAGES, SIZES = (20, 50, 200, 1000), ((1, 1), (1, 4), (8, 12))
WORLD = 200_000


def draw_world(rng: np.random.Generator, images: int, sizes: tuple[int, int]) -> Tally:
    """Counts of the records of some images; each has from `sizes[0]` to `sizes[1]` records."""
    owner = np.repeat(np.arange(images), rng.integers(sizes[0], sizes[1] + 1, images))
    skill = rng.beta(4, 2, images)[owner]
    gold = 1 + rng.binomial(2, 0.3, len(owner))
    hits = rng.binomial(gold, skill)
    false = rng.binomial(3 - gold, 0.4 * (1 - skill))
    columns = {"tp": hits, "fp": false, "fn": gold - hits}
    return Tally(columns, tuple(map(str, owner.tolist())), {})


def compute_truth(sizes: tuple[int, int]) -> float:
    """The micro-F1 of a world so large that no draw of it matters."""
    world = draw_world(np.random.default_rng(0), WORLD, sizes)
    return float(score_f1({name: np.float64(column.sum()) for name, column in world.columns.items()}))


def measure_coverage(images: int, sizes: tuple[int, int], files: int, resamples: int) -> dict[str, float]:
    """Share of the files whose interval holds the truth, for each way of resampling."""
    truth, rng = compute_truth(sizes), np.random.default_rng(images)
    held = {"images": 0, "records": 0}
    for seed in range(files):
        world = draw_world(rng, images, sizes)
        apart = replace(world, images=tuple(map(str, range(len(world.images)))))
        for name, tally in (("images", world), ("records", apart)):
            interval = bootstrap_f1(tally, Bootstrap(resamples, seed))
            held[name] += interval is not None and interval.low <= truth <= interval.high
    return {name: count / files for name, count in held.items()}


def render_table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = ["| records an image | images | drawn by image | drawn by record |", "|---|---|---|---|"]
    for row in rows:
        low, high = row["records_per_image"]
        said = str(low) if low == high else f"{low} to {high}"
        lines.append(f"| {said} | {row['images']} | {row['by_image']:.3f} | {row['by_record']:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for sizes in SIZES:
        for images in IMAGES:
            found = measure_coverage(images, sizes, options.files, options.resamples)
            row = {"records_per_image": sizes, "images": images}
            rows.append({**row, "by_image": found["images"], "by_record": found["records"]})
            print(render_table(rows[-1:]).split("\n")[-1], flush=True)
    if options.json:
        command = " ".join(["python benchmarks/interval_coverage.py", *sys.argv[1:]])
        report = {"command": command, "files": options.files, "resamples": options.resamples, "rows": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
