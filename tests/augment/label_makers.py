"""Captions, facts, and operations that change labels, for tests of them."""

from __future__ import annotations

from random import Random

from tiny_records import make_choices, make_hallucination, make_image

from hkdcli.augment.operations import Change, Refusal, Sample, apply_operation, get_operations
from hkdcli.data.facts import ImageFacts

LISTED = (
    "dog",
    "couch",
    "person",
    "cat",
    "horse",
    "bus",
    "apple",
    "chair",
    "hot dog",
    "elephant",
    "wine glass",
)
IMAGE = make_image().image


def make(caption: str, *phrases: str, gold: str = "A", **fields):
    return make_hallucination(
        caption=caption,
        choices=make_choices("No hallucination", *phrases),
        answer=frozenset(gold),
        caption_question="Describe the image.",
        **fields,
    )


def facts(*objects: str, captions: tuple[str, ...] = (), vocabulary: tuple[str, ...] = LISTED) -> ImageFacts:
    return ImageFacts(objects, captions, frozenset((*objects, *vocabulary)))


def run(name: str, example, known: ImageFacts | None = None, evidence="listed", seed: int = 0):
    sample = Sample(example, IMAGE, known or ImageFacts(), evidence)
    return apply_operation(get_operations()[name], sample, Random(seed), 1.0)


def run_often(name: str, example, known: ImageFacts | None = None, evidence="listed", times: int = 40):
    made = [run(name, example, known, evidence, seed) for seed in range(times)]
    assert any(isinstance(each, Change) for each in made), made[0]
    return [each for each in made if isinstance(each, Change)]


def refuse(name: str, example, known: ImageFacts | None = None, evidence="listed") -> str:
    made = [run(name, example, known, evidence, seed) for seed in range(10)]
    assert all(isinstance(each, Refusal) for each in made), [
        each for each in made if isinstance(each, Change)
    ]
    return made[0].reason
