"""What are variants worth on few labels? The same student, records and steps with and without them.

    python benchmarks/scenes_augment.py --out runs/scenes-augment --json benchmarks/scenes_augment.json

Each seed draws its own training records and order. The arms learn from labels alone (lambda 0) or from
labels and teacher, from the records as they are or in a new variant each time. All end with the weights of
their best evaluation on the same dev records, as drawn. The test records are looked at once, at the end: as
drawn, corrupted, and under all shifts of the letters. Swaps and repairs know everything about the scenes,
which is more than labels tell: one arm does without. Blur, JPEG and other orders of choices are among the
operations that make variants, though blur and JPEG are stronger here; a colour cast is not. A run that was
interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageFilter

from hkdcli.data.datasets import Dataset
from hkdcli.data.images import ImageSource, LoadedImage, compute_pixel_hash
from hkdcli.data.prompts import LETTERS
from hkdcli.data.records import Choice, Example
from hkdcli.engine import distill_online
from hkdcli.evaluation.metrics import evaluate_predictions
from hkdcli.evaluation.predictions import Prediction
from hkdcli.inference.asking import Asking, Judge
from hkdcli.inference.predict import answer_examples
from hkdcli.inference.rows import RunHashes
from hkdcli.inference.scoring import Scorer
from hkdcli.models.loading import load_model
from hkdcli.scenes.source import load_scenes

RECIPE = Path(__file__).parents[1] / "recipes" / "scenes" / "augment.yaml"
WITHOUT_SWAPS = (
    "augment.probabilities={order: 1, question: 0, instruction: 0, swap_object: 0, swap_attribute: 0, "
    "swap_relation: 0, repair: 0}"
)
ARMS: dict[str, tuple[str, ...]] = {
    "labels": ("distill.lambda.start=0", "augment=null"),
    "labels, variants": ("distill.lambda.start=0",),
    "labels, variants without swaps": ("distill.lambda.start=0", WITHOUT_SWAPS),
    "distilled": ("augment=null",),
    "distilled, variants": (),
}
BATCH_SIZE = 50
SHIFTED = "as drawn, --shift"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/scenes-augment"), help="where the runs go")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--records", type=int, default=300, help="records to learn from")
    parser.add_argument("--test", type=int, default=600, help="records to test on")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to the recipe")
    options = parser.parse_args()
    results = []
    for seed in options.seeds:
        for arm in ARMS:
            student = train_arm(arm, seed, options)
            scores = score_corrupted(student, options.test)
            results += [{"seed": seed, "arm": arm, "test": name, **row} for name, row in scores.items()]
            shown = ", ".join(f"{name} {row['micro_f1']:.3f}" for name, row in scores.items())
            print(f"seed {seed}, {arm}: {shown}", flush=True)
    print(render_table(results))
    if options.json:
        document = {"recipe": RECIPE.name, "records": options.records, "test": options.test}
        document |= {"overrides": options.overrides, "results": results}
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def train_arm(arm: str, seed: int, options: argparse.Namespace) -> Path:
    """Train one arm, or find it trained; returns the student's folder."""
    folder = options.out / f"{options.records}-{seed}-{arm.replace(', ', '-').replace(' ', '-')}"
    changes = (f"seed={seed}", f"data.train.scenes.seed={seed}", f"data.train.scenes.size={options.records}")
    wanted = (*changes, "data.test=null", *ARMS[arm], *options.overrides)
    distill_online(RECIPE, wanted, out=folder, resume=folder.exists())
    return Path(folder) / "student"


def score_corrupted(student: Path, size: int) -> dict[str, dict[str, float | None]]:
    """The student's micro-F1 on the test split, as drawn and corrupted: overall and per task."""
    scorer, drawn = Scorer(load_model(str(student))), load_scenes("test", size=size)
    found = {name: _score(Judge(scorer), corrupt(drawn)) for name, corrupt in CORRUPTIONS.items()}
    return {**found, SHIFTED: _score(Judge(scorer, Asking(shifts=None)), drawn)}


def _score(judge: Judge, data: Dataset) -> dict[str, float | None]:
    rows = []
    for start in range(0, len(data.examples), BATCH_SIZE):
        asked = data.examples[start : start + BATCH_SIZE]
        rows += answer_examples(data, asked, judge, RunHashes("", {}))
    answers = [Prediction(row["id"], frozenset(row["prediction"] or ())) for row in rows]
    metrics = evaluate_predictions(answers, data.examples)
    tasks = {f"{task}_micro_f1": each.metrics["micro_f1"] for task, each in metrics.tasks.items()}
    return {"micro_f1": metrics.metrics["micro_f1"], **tasks}


@dataclass(frozen=True)
class CorruptedImages:
    """The images of another source, each corrupted in the same way."""

    source: ImageSource
    corrupt: Callable[[Image.Image], Image.Image]

    def load(self, name: str) -> LoadedImage:
        """The corrupted image."""
        image = self.corrupt(self.source.load(name).image)
        return LoadedImage(image, compute_pixel_hash(image))


def corrupt_images(corrupt: Callable[[Image.Image], Image.Image]) -> Callable[[Dataset], Dataset]:
    """A corruption of a dataset out of one of a picture."""
    return lambda data: replace(data, images=CorruptedImages(data.images, corrupt))


def blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1.6))


def compress(image: Image.Image) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=12)
    return Image.open(buffer).convert("RGB")


def cast_colour(image: Image.Image) -> Image.Image:
    """Warm light: more red, less blue."""
    gains = (1.2, 1.0, 0.75)
    channels = [
        band.point([min(255, round(v * gain)) for v in range(256)])
        for band, gain in zip(image.split(), gains, strict=True)
    ]
    return Image.merge("RGB", channels)


def reorder_choices(data: Dataset) -> Dataset:
    """Every record with its choices in another order, lettered by position."""
    return replace(data, examples=tuple(map(_reorder, data.examples)))


def _reorder(example: Example) -> Example:
    order = Random(example.id).sample(example.choices, len(example.choices))
    choices = tuple(Choice(letter, each.text) for letter, each in zip(LETTERS, order, strict=False))
    answer = {new.id for new, old in zip(choices, order, strict=True) if old.id in (example.answer or ())}
    return replace(example, choices=choices, answer=frozenset(answer), extra={})


CORRUPTIONS: dict[str, Callable[[Dataset], Dataset]] = {
    "as drawn": lambda data: data,
    "blur": corrupt_images(blur),
    "jpeg": corrupt_images(compress),
    "colour cast": corrupt_images(cast_colour),
    "letter order": reorder_choices,
}


def render_table(results: Sequence[Mapping[str, Any]]) -> str:
    """Micro-F1, mean and standard deviation over the seeds: a row per arm, a column per test set."""
    tests = list(dict.fromkeys(row["test"] for row in results))
    lines = ["| arm | " + " | ".join(tests) + " |", "|---|" + "---|" * len(tests)]
    for arm in dict.fromkeys(row["arm"] for row in results):
        cells = []
        for name in tests:
            values = [row["micro_f1"] for row in results if (row["arm"], row["test"]) == (arm, name)]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
