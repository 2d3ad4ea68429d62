"""Pages of variants to look at, for counting by eye how many labels an operation has made wrong.

    python benchmarks/augment_review.py records.json --facts facts.jsonl --count 100 --out pages

Every page has some records beside one variant each, drawn as `hkd augment --preview` draws them; records are
taken evenly from the file. `verdicts.csv` has a line for each, to write down what was seen. Questions and
instructions are left as they are: their paraphrases are in hkdcli/augment/paraphrases.py for all to read.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from PIL import Image

from hkdcli.augment.operations import Sample
from hkdcli.augment.pipeline import Variant, build_variant, seed_variant
from hkdcli.augment.policies import Policy, build_policy
from hkdcli.augment.preview import Cell, render_sheet
from hkdcli.data.datasets import Dataset, load_dataset
from hkdcli.data.records import Example

ACROSS, DOWN = 2, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("records", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--facts", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--evidence", choices=("listed", "record"), default="listed")
    parser.add_argument("--only", default="", help="operations that are always drawn, with commas; no others")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    changes = {"question": 0.0, "instruction": 0.0}
    if options.only:
        known = build_policy("strong").probabilities
        changes = {name: float(name in options.only.split(",")) for name in known}
    policy = build_policy("strong", changes, evidence=options.evidence)
    data = load_dataset(options.records, images=options.images, facts=options.facts)
    options.out.mkdir(parents=True, exist_ok=True)
    examples = [
        example for example in data.examples if not options.only or vary(data, example, policy).applied
    ]
    sheets, rows = [], []
    for example in examples[:: max(1, len(examples) // options.count)][: options.count]:
        variant = vary(data, example, policy)
        done = "; ".join(f"{name} {dict(each)}" for name, each in variant.applied.items())
        original = data.images.load(example.image).image
        cells = [Cell(original, example, (example.id,)), Cell(variant.image, variant.example, ("", done))]
        sheets.append(render_sheet([cells]))
        rows.append([example.id, " ".join(variant.applied), ""])
    for page, start in enumerate(range(0, len(sheets), ACROSS * DOWN), start=1):
        join_sheets(sheets[start : start + ACROSS * DOWN]).save(options.out / f"page-{page:03d}.png")
    with (options.out / "verdicts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "operations", "verdict"], *rows])


def vary(data: Dataset, example: Example, policy: Policy) -> Variant:
    sample = Sample(example, data.images.load(example.image).image, data.facts.get_facts(example.image))
    return build_variant(sample, policy, seed_variant(0, 1, example.id))


def join_sheets(sheets: list[Image.Image]) -> Image.Image:
    """Sheets side by side and one below the other, as many as there are."""
    lines = [sheets[start : start + ACROSS] for start in range(0, len(sheets), ACROSS)]
    heights = [max(sheet.height for sheet in line) for line in lines]
    page = Image.new("RGB", (ACROSS * sheets[0].width, sum(heights)), "white")
    for number, line in enumerate(lines):
        for place, sheet in enumerate(line):
            page.paste(sheet, (place * sheet.width, sum(heights[:number])))
    return page


if __name__ == "__main__":
    main()
