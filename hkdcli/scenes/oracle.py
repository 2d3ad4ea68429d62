"""The right answer of a record about a scene, from its texts and a scene alone, whatever its labels say."""

from __future__ import annotations

import re
from dataclasses import replace

from hkdcli.data.records import Example, is_none_choice
from hkdcli.scenes.phrases import is_true
from hkdcli.scenes.world import COLOURS, COLUMNS, GRID, ROWS, SHAPES, SIZES, Cell, Scene

_KINDS: tuple[tuple[str, ...], ...] = (SHAPES, tuple(COLOURS), SIZES)
_HALF = re.compile(r"(\w+) (\w+) is (?:an? )?(\w+)")


def find_answer(example: Example, scene: Scene) -> frozenset[str]:
    """Answer a record about a scene.

    Args:
        example: a record in the words of scenes, its choices in any order and with any letters; its own
            answer is not looked at.
        scene: what its picture shows.

    Returns:
        The ids of the right choices.

    Raises:
        ValueError: the texts are not in the words of scenes, or a choice is no phrase of the caption, or no
            choice is right.
    """
    if example.task == "hallucination":
        right = _find_hallucinated(example, scene)
    else:
        verdict = judge_claim(example.claim, example.context, scene)
        right = frozenset(choice.id for choice in example.choices if choice.text == verdict)
    if not right:
        raise ValueError(f"{example.id}: no choice is right")
    return right


def _find_hallucinated(example: Example, scene: Scene) -> frozenset[str]:
    said = example.caption.removesuffix(".").split(", ")
    asked = [choice for choice in example.choices if not is_none_choice(choice)]
    if sorted(said) != sorted(choice.text for choice in asked):
        raise ValueError(f"{example.id}: the choices are not the phrases of the caption {example.caption!r}")
    false = frozenset(choice.id for choice in asked if not is_true(choice.text, scene))
    return false or frozenset(choice.id for choice in example.choices if is_none_choice(choice))


def judge_claim(claim: str, context: str, scene: Scene) -> str:
    """Judge a claim by what the picture shows and, of a covered cell, by what the context tells.

    Args:
        claim: two halves, as "top left is a circle and middle right is red."
        context: may tell one property of what is covered, as "It hides a small shape."
        scene: what is drawn; its covered thing is not looked at.

    Returns:
        One of the four verdicts.

    Raises:
        ValueError: it is no such claim, or one half is false and nothing is known of the other, which makes
            the verdict a matter of taste.
    """
    told = re.search(r"\bhides an? (\w+)", context)
    halves = claim.removesuffix(".").split(" and ")
    truths = [_judge_half(half, told and told[1], scene) for half in halves]
    if None in truths:
        if False in truths:
            raise ValueError(f"a false half beside one of which nothing is known: {claim!r}")
        return "Not Verifiable"
    return "True" if all(truths) else "Partially True" if any(truths) else "False"


def _judge_half(half: str, told: str | None, scene: Scene) -> bool | None:
    """Whether half a claim is true; None where neither picture nor context says so."""
    match = _HALF.fullmatch(half)
    kind = next((values for values in _KINDS if match and match[3] in values), None)
    if match is None or kind is None:
        raise ValueError(f"not a claim about a scene: {half!r}")
    cell = (ROWS.index(match[1]), COLUMNS.index(match[2]))
    if cell == scene.covered:
        return match[3] == told if told in kind else None
    thing = scene.at(cell)
    return thing is not None and match[3] in (thing.shape, thing.colour, thing.size)


def mirror_scene(scene: Scene) -> Scene:
    """The scene as a mirror shows it: left and right exchanged."""
    things = (
        replace(thing, cell=_mirror(thing.cell), jitter=(-thing.jitter[0], thing.jitter[1]))
        for thing in scene.things
    )
    return Scene(tuple(things), None if scene.covered is None else _mirror(scene.covered))


def _mirror(cell: Cell) -> Cell:
    return cell[0], GRID - 1 - cell[1]
