"""Scenes as records of the challenge: a caption to search for hallucinations, a claim to check.

Text alone does not give the answer away. No two phrases of a caption speak of the same property of the same
thing, so that none can contradict another. A claim has two halves about two cells, and whether the picture
shows a cell, or a cloth covers it, is not in the text. Verdicts stand in the challenge's order.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from hkdcli.data.records import NO_HALLUCINATION, Choice, Example, Task
from hkdcli.scenes import phrases
from hkdcli.scenes.phrases import Phrase, other
from hkdcli.scenes.world import (
    COLOURS,
    SHAPES,
    SIZES,
    Cell,
    Scene,
    Split,
    Thing,
    build_scene,
    compute_split,
    draw_scene,
)

CAPTION_QUESTION = "What is in the picture?"
HALLUCINATION_QUESTION = "Which of the following systems' outputs belong to hallucination?"
FACTUALITY_QUESTION = "Based on the provided information, please determine whether the claim is factual."
COVERED = "One cell of the picture is covered."
HIDES = "It hides a"
TEXT_CONSTANTS = (CAPTION_QUESTION, HALLUCINATION_QUESTION, FACTUALITY_QUESTION, COVERED, HIDES)
VERDICTS = ("True", "False", "Partially True", "Not Verifiable")

Slot = tuple[tuple[Thing, ...], phrases.Phenomenon]
"""The things that a phrase speaks of (two for a relation), and what it says of them."""

_LETTERS = "ABCDE"
_SHARE_WITHOUT_HALLUCINATION = 0.35
_FALSE_COUNTS = (1, 1, 1, 1, 1, 1, 2, 2, 2, 3)
_KINDS = {"object": "shape", "colour": "shape", "size": "size", "position": "place", "relation": "place"}
_VALUES: dict[str, tuple[str, ...]] = {"shape": SHAPES, "colour": tuple(COLOURS), "size": SIZES}


@dataclass(frozen=True, slots=True)
class SceneRecord:
    """A record and the scene that its image shows."""

    example: Example
    scene: Scene


def build_record(split: Split, index: int, *, seed: int = 0, task: Task = "hallucination") -> SceneRecord:
    """Record number `index` of a split: the same record for the same arguments, whatever else is built."""
    rng = random.Random(f"{seed}/{split}/{task}/{index}")
    name = f"{split}-{seed}-{index:06d}"
    build = _build_hallucination if task == "hallucination" else _build_factuality
    return build(rng, split, name)


def _build_hallucination(rng: random.Random, split: Split, name: str) -> SceneRecord:
    scene = build_scene(rng, split)
    said = _build_phrases(rng, scene)
    options = [*said, None]
    rng.shuffle(options)
    choices = tuple(
        Choice(letter, NO_HALLUCINATION if phrase is None else phrase.text)
        for letter, phrase in zip(_LETTERS, options, strict=False)
    )
    pairs = [
        (letter, phrase) for letter, phrase in zip(_LETTERS, options, strict=False) if phrase is not None
    ]
    false = frozenset(letter for letter, phrase in pairs if not phrase.is_true)
    none_letter = _LETTERS[options.index(None)]
    example = Example(
        id=f"h-{name}",
        task="hallucination",
        image=f"h-{name}.png",
        question=HALLUCINATION_QUESTION,
        choices=choices,
        answer=false or frozenset({none_letter}),
        caption=", ".join(phrase.text for phrase in said) + ".",
        caption_question=CAPTION_QUESTION,
        extra={"meta": {"phenomena": {letter: phrase.phenomenon for letter, phrase in pairs}}},
    )
    return SceneRecord(example, scene)


def _build_phrases(rng: random.Random, scene: Scene) -> list[Phrase]:
    """Two to four phrases, up to three of them false; each property of a thing is spoken of at most once."""
    slots = _choose_slots(rng, scene, rng.randint(2, 4))
    false_count = (
        0 if rng.random() < _SHARE_WITHOUT_HALLUCINATION else min(rng.choice(_FALSE_COUNTS), len(slots))
    )
    false = set(rng.sample(range(len(slots)), false_count))
    while True:
        said = _say_slots(rng, scene, slots, false)
        # Two shapes in one colour would contradict each other, since no two things share one.
        colours = [_colour_of(phrase) for phrase in said if _KINDS[phrase.phenomenon] == "shape"]
        if len(set(colours)) == len(colours):
            return said


def _colour_of(phrase: Phrase) -> str:
    return next(word for word in phrase.text.split() if word in COLOURS)


def _say_slots(rng: random.Random, scene: Scene, slots: list[Slot], false: set[int]) -> list[Phrase]:
    return [
        phrases.build_phrase(rng, Scene(things), things[0], phenomenon, index not in false)
        if phenomenon == "relation"
        else phrases.build_phrase(rng, scene, things[0], phenomenon, index not in false)
        for index, (things, phenomenon) in enumerate(slots)
    ]


def _choose_slots(rng: random.Random, scene: Scene, count: int) -> list[Slot]:
    """Things (two for a relation) and phenomena, chosen so that no property of a thing is used twice."""
    free = {kind: list(scene.things) for kind in ("shape", "size", "place")}
    for things in free.values():
        rng.shuffle(things)
    slots: list[Slot] = []
    while len(slots) < count:
        open_phenomena = [
            p for p in phrases.PHENOMENA if len(free[_KINDS[p]]) >= (2 if p == "relation" else 1)
        ]
        phenomenon = rng.choice(open_phenomena)
        pool = free[_KINDS[phenomenon]]
        slots.append((tuple(pool.pop() for _ in range(2 if phenomenon == "relation" else 1)), phenomenon))
    return slots


def _build_factuality(rng: random.Random, split: Split, name: str) -> SceneRecord:
    verdict = rng.choice(VERDICTS)
    scene, claim, context = _build_claim(rng, split, verdict)
    choices = tuple(Choice(letter, text) for letter, text in zip(_LETTERS, VERDICTS, strict=False))
    example = Example(
        id=f"f-{name}",
        task="factuality",
        image=f"f-{name}.png",
        question=FACTUALITY_QUESTION,
        choices=choices,
        answer=frozenset({_LETTERS[VERDICTS.index(verdict)]}),
        claim=claim,
        context=context,
        extra={"meta": {"verdict": verdict}},
    )
    return SceneRecord(example, scene)


def _build_claim(rng: random.Random, split: Split, verdict: str) -> tuple[Scene, str, str]:
    """A scene with one covered cell, a claim of two halves, and a context about the thing that is hidden.

    The first half is about the kind of property that the context tells, the second about another kind.
    Whether the first half's value is the one in the context is drawn whatever the verdict: it says nothing.
    """
    truths = {"True": (True, True), "False": (False, False), "Not Verifiable": (True, True)}.get(verdict)
    first_true, second_true = truths or rng.choice([(True, False), (False, True)])
    told, untold = rng.sample(list(_VALUES), 2)
    agrees = rng.random() < 0.5
    while True:
        scene = draw_scene(rng, least=3, most=4)
        hidden, first, second = _choose_roles(rng, scene, verdict, first_true == agrees)
        value = _claim_value(rng, told, getattr(first, told), first_true)
        hidden = _agree(rng, hidden, told, value, agrees, is_first=hidden.cell == first.cell)
        things = tuple(hidden if thing.cell == hidden.cell else thing for thing in scene.things)
        scene = Scene(things, covered=hidden.cell)
        if compute_split(scene) == split and (getattr(hidden, told) == value) == agrees:
            break
    halves = [
        _say(first.cell, told, value),
        _say(second.cell, untold, _claim_value(rng, untold, getattr(second, untold), second_true)),
    ]
    rng.shuffle(halves)
    noun = getattr(hidden, told) if told == "shape" else f"{getattr(hidden, told)} shape"
    return scene, " and ".join(halves) + ".", f"{COVERED} {HIDES} {noun}."


def _choose_roles(
    rng: random.Random, scene: Scene, verdict: str, context_can_decide: bool
) -> tuple[Thing, Thing, Thing]:
    """The hidden thing, and the two things that the halves of the claim speak of."""
    first, second, third = rng.sample(scene.things, 3)
    if verdict == "Not Verifiable":
        return second, first, second
    return (first if context_can_decide and rng.random() < 0.5 else third), first, second


def _claim_value(rng: random.Random, kind: str, truth: str, is_true: bool) -> str:
    return truth if is_true else other(rng, _VALUES[kind], truth)


def _agree(
    rng: random.Random, hidden: Thing, told: str, value: str, agrees: bool, *, is_first: bool
) -> Thing:
    """The hidden thing with a told property that is the claim's or not, unless the half is about it."""
    if is_first:
        return hidden
    told_value = value if agrees else other(rng, _VALUES[told], value)
    changes: dict[str, Any] = {told: told_value}
    return replace(hidden, **changes)


def _say(cell: Cell, kind: str, value: str) -> str:
    return f"{phrases.render_cell(cell)} is {'a ' if kind == 'shape' else ''}{value}"
