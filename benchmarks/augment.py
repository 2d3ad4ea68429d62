"""How many pictures a second each operation on the picture does on one core, beside two libraries.

    python benchmarks/augment.py --json benchmarks/augment.json

    hkd             `apply_operation`: the guard, the draw, the picture; Pillow in, Pillow out
    torchvision     `transforms.v2.functional` on tensors of bytes
    albumentations  its transforms on arrays of bytes, as OpenCV does them

at the strength of the policy "standard", on pictures of 512 x 340 made from code (`--images DIR`: the first
eight of a folder, cut to that size) and on drawn scenes of 72 x 72. Each library works on its own kind of
picture; *conversion* is what a pipeline of Pillow pictures, such as ours, would pay on top, there and back.
All contenders have the same pictures and the parameters that our operation drew. CPU seconds of one process
and one thread, each contender once in a round and all in turn; ratios are within a round, above 1 where hkd
is faster. `difference` is how far a rival's levels are from ours, in the mean, of 255.

Not quite the same work: Pillow blurs by three boxes, the others by a kernel of three deviations; to shrink,
Pillow and OpenCV average areas, torchvision interpolates with antialiasing; hue is turned in bytes, by
torchvision in floats; for noise each draws its own, so `difference` says how far apart two draws are.

The rivals are not among the project's extras: torchvision has to be built for the torch that is installed,
and albumentations brings its own OpenCV. A rival that is not installed is left out, and said so.

    pip install torchvision "albumentationsx[headless]==2.5.1"
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from augment_contenders import STANDARD, Draw, Rival, Run, draw, open_rivals
from augment_pictures import draw_scenes, load_photos, make_photos
from distill_step import describe_machine
from PIL import Image

from hkdcli.augment.operations import get_operations

OURS = "hkd"
CONVERSION = "conversion"
SHORTEST_S = 0.03
"""A turn is repeated until hkd takes about this long."""
DEFINITIONS = {
    "pictures_per_second": "1 / median over the rounds of CPU seconds per picture",
    "ratio": "seconds of the rival / seconds of hkd, median over the rounds: above 1 where hkd is faster",
    "spread": "of the ratio, least and most of the rounds",
    "difference": "mean |levels of the rival - levels of hkd|, of 255, over all pictures",
    "conversion": "pictures per second from Pillow to the rival's own kind and back",
}


def time_runs(runs: Sequence[Run], repeats: int) -> float:
    """CPU seconds per call, of calls made one after the other and all over again."""
    started = time.process_time()
    for _ in range(repeats):
        for run in runs:
            run()
    return (time.process_time() - started) / (repeats * len(runs))


def measure(runs: Mapping[str, Sequence[Run]], rounds: int) -> dict[str, list[float]]:
    """Seconds per picture of every contender in every round, after one that warms up."""
    first = next(iter(runs.values()))
    repeats = max(1, round(SHORTEST_S / max(time_runs(first, 1), 1e-7) / len(first)))
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, each in runs.items():
            seconds = time_runs(each, repeats)
            if turn:
                spent[name].append(seconds)
    return spent


def compare(spent: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The figures of one operation, from seconds per picture of every contender in every round."""
    ratios = {
        name: [one / own for one, own in zip(seconds, spent[OURS], strict=True)]
        for name, seconds in spent.items()
        if name != OURS
    }
    return {
        "pictures_per_second": {name: 1 / statistics.median(seconds) for name, seconds in spent.items()},
        "ratio": {name: statistics.median(each) for name, each in ratios.items()},
        "spread": {name: [min(each), max(each)] for name, each in ratios.items()},
    }


def measure_difference(rival: Rival, draws: Sequence[Draw], runs: Sequence[Run]) -> float:
    """How far a rival's pictures are from ours, in the mean over all levels."""
    apart = []
    for each, run in zip(draws, runs, strict=True):
        ours = np.asarray(each.run().image).astype(float)
        apart.append(float(np.abs(rival.read(run()) - ours).mean()))
    return statistics.mean(apart)


def measure_all(images: Sequence[Image.Image], rivals: Sequence[Rival], rounds: int) -> dict[str, Any]:
    """Figures of every operation on pictures, and of the rivals' conversions, on pictures of one size."""
    report: dict[str, Any] = {"size": list(images[0].size), "operations": {}}
    for name, operation in get_operations().items():
        if operation.kind != "image":
            continue
        draws = [draw(operation, image, 1000 * place) for place, image in enumerate(images)]
        runs = {OURS: [each.run for each in draws]}
        for rival in rivals:
            runs[rival.name] = [rival.build(name, each.parameters, each.image) for each in draws]
        differences = {each.name: measure_difference(each, draws, runs[each.name]) for each in rivals}
        report["operations"][name] = compare(measure(runs, rounds)) | {"difference": differences}
    conversions = {rival.name: [rival.convert(image) for image in images] for rival in rivals}
    spent = measure(conversions, rounds) if rivals else {}
    report[CONVERSION] = {name: 1 / statistics.median(seconds) for name, seconds in spent.items()}
    return report


def render_table(document: Mapping[str, Any]) -> str:
    """Pictures per second; a rival with its ratio, the least and most of it, and its difference."""
    rivals = list(document["rivals"])
    lines = []
    for title, report in document["pictures"].items():
        lines += ["", f"{title}, {report['size'][0]} x {report['size'][1]}, pictures per second", ""]
        heads = [f"{name} | hkd / {name} | difference" for name in rivals]
        lines.append("| " + " | ".join(["operation", OURS, *heads]) + " |")
        lines.append("|---|---|" + "---|" * 3 * len(rivals))
        for name, figures in report["operations"].items():
            cells = [_render_speed(figures["pictures_per_second"][OURS])]
            cells += [_render_rival(figures, rival) for rival in rivals]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        if rivals:
            cells = [f"{_render_speed(report[CONVERSION][rival])} | |" for rival in rivals]
            lines.append(f"| {CONVERSION} | | " + " ".join(f"{cell}" for cell in cells))
    return "\n".join(lines[1:])


def _render_rival(figures: Mapping[str, Any], rival: str) -> str:
    least, most = figures["spread"][rival]
    ratio = f"{figures['ratio'][rival]:.2f} ({least:.2f} to {most:.2f})"
    speed = _render_speed(figures["pictures_per_second"][rival])
    return f"{speed} | {ratio} | {figures['difference'][rival]:.2f}"


def _render_speed(speed: float) -> str:
    return f"{float(f'{speed:.3g}'):,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=Path, help="folder of photos, instead of pictures made from code")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    rivals, missing = open_rivals()
    for name, reason in missing.items():
        print(f"{name} is left out: {reason}", file=sys.stderr)
    photos = load_photos(options.images) if options.images else make_photos()
    pictures = {"photos" if options.images else "photo-like": photos, "scenes": draw_scenes()}
    document: dict[str, Any] = {
        "command": " ".join(["python benchmarks/augment.py", *sys.argv[1:]]),
        **describe_machine(),
        "rivals": {rival.name: rival.version for rival in rivals},
        "missing": missing,
        "strength": STANDARD,
        "rounds": options.rounds,
        "definitions": DEFINITIONS,
        "pictures": {name: measure_all(images, rivals, options.rounds) for name, images in pictures.items()},
    }
    print(render_table(document))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
