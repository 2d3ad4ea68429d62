"""Split coco-bench by image into train.json, dev.json and test.json, both tasks in each.

    python benchmarks/real/split.py ../shared/data/coco-bench --out data/coco-bench

A record goes where the hash of its image goes, so that no image is in two splits. Images stay where they are.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from pathlib import Path

from hkdcli.data.examples import Example, read_examples, write_examples

TASKS = ("task1.json", "task2.json")
# Percent of the images.
SHARES = {"train": 70, "dev": 10, "test": 20}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, help="folder with task1.json and task2.json")
    parser.add_argument("--out", type=Path, required=True, help="where the three files go")
    options = parser.parse_args()
    splits = split_examples(options.source)
    for name, examples in splits.items():
        path = options.out / f"{name}.json"
        write_examples(path, examples)
        tasks = Counter(example.task for example in examples)
        images = len({example.image for example in examples})
        print(f"{path}: {len(examples)} records {dict(tasks)}, {images} images")


def split_examples(source: Path) -> dict[str, list[Example]]:
    """Read both tasks and share the records out by image."""
    splits: dict[str, list[Example]] = {name: [] for name in SHARES}
    for task in TASKS:
        for example in read_examples(source / task).examples:
            splits[choose_split(example.image)].append(example)
    return splits


def choose_split(image: str) -> str:
    """The split of an image, by the hash of its name alone."""
    point = int(hashlib.sha256(image.encode()).hexdigest(), 16) % 100
    for name, share in SHARES.items():
        if point < share:
            return name
        point -= share
    raise AssertionError("the shares add up to 100")


if __name__ == "__main__":
    main()
