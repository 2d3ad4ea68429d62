"""Records and images for tests of prompts, models and inference."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

from PIL import Image

from hkdcli.data.examples import Choice, Example
from hkdcli.data.images import BadRow, ImageError, LoadedImage, compute_pixel_hash


def make_choices(*texts: str) -> tuple[Choice, ...]:
    return tuple(
        Choice(letter, text) for letter, text in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", texts, strict=False)
    )


def make_hallucination(
    record_id: str = "h1", phrases: tuple[str, ...] = ("red square", "left of", "small circle"), **fields: Any
) -> Example:
    defaults: dict[str, Any] = {
        "id": record_id,
        "task": "hallucination",
        "image": f"{record_id}.png",
        "question": "Which of the following systems' outputs belong to hallucination?",
        "choices": make_choices("No hallucination", *phrases),
        "answer": frozenset({"B", "D"}) if len(phrases) > 2 else frozenset({"B"}),
        "caption": "a red square is left of a small circle",
        "caption_question": "What is shown?",
    }
    return Example(**{**defaults, **fields})


def make_factuality(record_id: str = "f1", **fields: Any) -> Example:
    defaults: dict[str, Any] = {
        "id": record_id,
        "task": "factuality",
        "image": f"{record_id}.png",
        "question": "Is the claim factual?",
        "choices": make_choices("True", "False", "Partially True", "Not Verifiable"),
        "answer": frozenset({"C"}),
        "claim": "The shelf is blue.",
        "context": "It stands in a shop. The shop sells vegetables.",
    }
    return Example(**{**defaults, **fields})


def make_image(seed: int = 0, size: tuple[int, int] = (40, 32)) -> LoadedImage:
    """A picture of two colours that differ with the seed."""
    image = Image.new("RGB", size, (37 * seed % 256, 90, 200))
    image.paste((250, 91 * seed % 256, 10), (4, 4, 20, 16 + seed % 8))
    return LoadedImage(image, compute_pixel_hash(image))


class Touch:
    """Unpickled, it makes a file; an attacker would do more."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def plant_pickles(folder: Path, marker: Path) -> None:
    """Files as other trainers leave them in a checkpoint, each of which makes `marker` when it is opened."""
    for name in ("rng_state.pth", "optimizer.pt", "scheduler.pt", "training_args.bin", "random.pt"):
        (folder / name).write_bytes(pickle.dumps(Touch(marker)))


class DrawnImages:
    """An image source that draws each image from its name; names with "broken" in them fail."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, name: str) -> LoadedImage:
        self.loaded.append(name)
        if "broken" in name:
            raise ImageError(BadRow("image.truncated", name.removesuffix(".png"), name, "cut off"))
        seed = sum(name.encode())
        return make_image(seed, (24 + seed % 20, 32))
