"""What the tiny VLMs are pretrained on: captions and word-level grounding, never the challenge's questions.

A lesson is a scene and lines of text about it. Each word carries the weight of its language-model loss,
and, where it can be judged, a flag: whether the line is still true of the scene up to this word. The lines:

    claim    "red shape at top left yes"            a phrase, true or false, then the verdict
    where    "where red top left"                   where a thing is
    path     "from red to blue up left"             where one thing lies from another
    cell     "top left large red circle"            what a cell holds: a thing, "nothing", or "covered"
             "top left is red yes"                  one property of it, true or false, then the verdict
    pick     "which large A red B blue is A and"    the letters of the things that have a property
    quiz     "which yes A. red circle B. star in blue is A."   the letters of the phrases that are true
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from hkdcli.scenes import phrases
from hkdcli.scenes.world import CELLS, COLOURS, COLUMNS, ROWS, SHAPES, SIZES, Scene, Thing, build_scene

LM_WEIGHT_OF_TRUE_WORDS = 0.3
_SHARE_COVERED = 0.25


@dataclass(frozen=True, slots=True)
class Word:
    """One word: the weight of its language-model loss, and whether the line is true so far (None: open)."""

    text: str
    weight: float = 0.0
    flag: bool | None = None


@dataclass(frozen=True, slots=True)
class Lesson:
    """A scene and the words about it."""

    scene: Scene
    words: tuple[Word, ...]


def build_lesson(rng: random.Random) -> Lesson:
    """A training scene of one to four things with seven lines of text, none of them a quiz."""
    scene = _build_lesson_scene(rng)
    words: list[Word] = []
    for _ in range(7):
        words += rng.choices(_LINES, _LINE_WEIGHTS)[0](rng, scene)
        words.append(Word(","))
    return Lesson(scene, tuple(words))


def build_quiz_lesson(rng: random.Random) -> Lesson:
    """A training scene with two claims and two quizzes."""
    scene = _build_lesson_scene(rng)
    words: list[Word] = []
    for line in (_claim, _claim, _quiz, _quiz):
        words += line(rng, scene)
        words.append(Word(","))
    return Lesson(scene, tuple(words))


def _build_lesson_scene(rng: random.Random) -> Scene:
    scene = build_scene(rng, "train", least=1, most=4)
    if len(scene.things) > 2 and rng.random() < _SHARE_COVERED:
        scene = replace(scene, covered=rng.choice(scene.things).cell)
    return scene


def _claim(rng: random.Random, scene: Scene) -> list[Word]:
    phrase = _phrase(rng, scene)
    flags = _flag_words(phrase.text, scene)
    weight = LM_WEIGHT_OF_TRUE_WORDS if phrase.is_true else 0.0
    spoken = [Word(text, weight, flag) for text, flag in zip(phrase.text.split(), flags, strict=True)]
    return [*spoken, Word("yes" if phrase.is_true else "no", 1.0)]


def _phrase(rng: random.Random, scene: Scene) -> phrases.Phrase:
    relation_possible = len(scene.visible) > 1
    kinds, weights = phrases.PHENOMENA, (2, 2, 1, 2, 3 if relation_possible else 0)
    return phrases.build_phrase(
        rng, scene, rng.choice(scene.visible), rng.choices(kinds, weights)[0], rng.random() < 0.5
    )


def _flag_words(text: str, scene: Scene) -> list[bool | None]:
    match text.split():
        case [colour, "shape", "at", row, _]:
            thing = scene.of_colour(colour)
            row_fits = thing is not None and thing.cell[0] == ROWS.index(row)
            return [thing is not None, None, None, row_fits, phrases.is_true(text, scene)]
        case [shape, "in", _]:
            return [any(t.shape == shape for t in scene.visible), None, phrases.is_true(text, scene)]
        case [_, colour, "shape"]:
            return [None, phrases.is_true(text, scene), phrases.is_true(text, scene)]
        case [colour, "shape", *relation, _, "shape"]:
            truth = phrases.is_true(text, scene)
            return [scene.of_colour(colour) is not None, *([None] * (1 + len(relation))), truth, truth]
        case [colour, _]:
            return [scene.of_colour(colour) is not None, phrases.is_true(text, scene)]
        case _:
            raise ValueError(f"not a phrase about a scene: {text!r}")


def _where(rng: random.Random, scene: Scene) -> list[Word]:
    thing = rng.choice(scene.visible)
    row, column = phrases.render_cell(thing.cell).split()
    return [Word("where"), Word(thing.colour), Word(row, 1.0), Word(column, 1.0)]


def _path(rng: random.Random, scene: Scene) -> list[Word]:
    if len(scene.visible) < 2:
        return _cell(rng, scene)
    start, end = rng.sample(scene.visible, 2)
    steps = (end.cell[0] - start.cell[0], end.cell[1] - start.cell[1])
    vertical = "up" if steps[0] < 0 else "down" if steps[0] > 0 else "level"
    horizontal = "left" if steps[1] < 0 else "right" if steps[1] > 0 else "straight"
    asked = [Word("from"), Word(start.colour), Word("to"), Word(end.colour)]
    return [*asked, Word(vertical, 1.0), Word(horizontal, 1.0)]


def _cell(rng: random.Random, scene: Scene) -> list[Word]:
    cell = rng.choice([thing.cell for thing in scene.things] if rng.random() < 0.8 else CELLS)
    asked = [Word(text) for text in phrases.render_cell(cell).split()]
    thing = scene.at(cell)
    if cell == scene.covered or thing is None:
        return [*asked, Word("nothing" if thing is None else "covered", 1.0)]
    if rng.random() < 0.5:
        return _cell_claim(rng, thing, asked)
    return [*asked, Word(thing.size, 1.0), Word(thing.colour, 1.0), Word(thing.shape, 1.0)]


def _cell_claim(rng: random.Random, thing: Thing, asked: list[Word]) -> list[Word]:
    kind, values = rng.choice([("shape", SHAPES), ("colour", tuple(COLOURS)), ("size", SIZES)])
    truth = rng.random() < 0.5
    value = getattr(thing, kind) if truth else phrases.other(rng, values, getattr(thing, kind))
    said = Word(value, LM_WEIGHT_OF_TRUE_WORDS if truth else 0.0, truth)
    return [*asked, Word("is"), said, Word("yes" if truth else "no", 1.0)]


def _pick(rng: random.Random, scene: Scene) -> list[Word]:
    things = rng.sample(scene.visible, len(scene.visible))
    wanted = rng.choice((*SIZES, *SHAPES, *ROWS, *COLUMNS))
    right = [letter for letter, thing in zip("ABCD", things, strict=False) if _has(thing, wanted)]
    listed = [
        Word(text) for letter, thing in zip("ABCD", things, strict=False) for text in (letter, thing.colour)
    ]
    answer = [Word(letter, 1.0) for letter in right] or [Word("nothing", 1.0)]
    return [Word("which"), Word(wanted), *listed, Word("is"), *answer, Word("and", 1.0)]


def _quiz(rng: random.Random, scene: Scene) -> list[Word]:
    asked, right = [Word("which"), Word("yes")], []
    for letter in "ABCDE"[: rng.randint(2, 5)]:
        phrase = _phrase(rng, scene)
        flags = _flag_words(phrase.text, scene)
        asked += [Word(letter), Word(".")]
        asked += [Word(text, 0.0, flag) for text, flag in zip(phrase.text.split(), flags, strict=True)]
        right += [letter] if phrase.is_true else []
    answer = [word for letter in right for word in (Word(",", 1.0), Word(letter, 1.0))]
    return [*asked, Word("is"), *(answer[1:] or [Word("nothing", 1.0)]), Word(".", 1.0)]


def _has(thing: Thing, wanted: str) -> bool:
    row, column = thing.cell
    return wanted in (thing.size, thing.shape, ROWS[row], COLUMNS[column])


_LINES = (_claim, _where, _path, _cell, _pick)
_LINE_WEIGHTS = (5, 2, 2, 2, 2)
