"""A contact sheet: records beside their variants, for people who would rather look.

A row is a record as it is and its variants; below each picture stand what was done to it, its text with the
changed words marked, and its choices, those of the answer with a filled disc, in bold and in green.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from PIL import Image, ImageDraw

from hkdcli.augment.operations import Sample
from hkdcli.augment.pipeline import Variant, build_variant, seed_variant
from hkdcli.augment.policies import Policy
from hkdcli.augment.sheet_text import (
    BLACK,
    GREEN,
    GREY,
    INDENT_PX,
    LINE_PX,
    Line,
    draw_lines,
    mark_changes,
    wrap,
)
from hkdcli.data.datasets import Dataset
from hkdcli.data.records import Choice, Example

WIDTH_PX = 300
"""Of a cell."""
PICTURE_PX = (WIDTH_PX, 216)
GAP_PX = 16
_MOST_CHARACTERS = 1_500
"""Of a text that are looked at; fewer can be shown."""
_TEXTS = (
    ("instruction", "instruction: ", 4),
    ("question", "question: ", 3),
    ("caption_question", "asked: ", 2),
    ("caption", "caption: ", 9),
    ("claim", "claim: ", 5),
    ("context", "context: ", 6),
)
"""Fields of a record, what stands before them, and how many lines each may take."""
_ALWAYS = ("caption", "claim", "context")
"""Fields that are shown where nothing has changed, too."""
_BLANK = Line(())
_PAPER, _RULE, _FRAME = (255, 255, 255), (200, 200, 200), (225, 225, 225)


@dataclass(frozen=True, slots=True)
class Cell:
    """A record on the sheet.

    Attributes:
        image: its picture, RGB.
        example: its texts and choices.
        title: lines above them; the first is bold.
    """

    image: Image.Image
    example: Example
    title: tuple[str, ...]


def build_preview(dataset: Dataset, policy: Policy, seed: int, copies: int, count: int) -> Image.Image:
    """Draw records of a dataset beside their variants, the same that `seed` gives anywhere else.

    Args:
        dataset: the records; `count` of them are taken, evenly from the first to the last.
        policy: how variants are drawn.
        seed: of the variants.
        copies: variants of each record, numbered from 1.
        count: rows at most.

    Returns:
        The sheet.
    """
    last = len(dataset.examples) - 1
    steps = min(count - 1, last)
    chosen = (dataset.examples[last * step // max(steps, 1)] for step in range(steps + 1))
    return render_sheet([_build_row(dataset, each, policy, seed, copies) for each in chosen])


def _build_row(dataset: Dataset, example: Example, policy: Policy, seed: int, copies: int) -> list[Cell]:
    image = dataset.images.load(example.image).image
    sample = Sample(example, image, dataset.facts.get_facts(example.image))
    row = [Cell(image, example, (f"{example.id}, as it is",))]
    for copy in range(1, copies + 1):
        variant = build_variant(sample, policy, seed_variant(seed, copy, example.id))
        row.append(Cell(variant.image, variant.example, (f"variant {copy}", *_tell(variant))))
    return row


def _tell(variant: Variant) -> Iterator[str]:
    """What was done, and what was refused."""
    done = [_tell_operation(name, each, variant.example) for name, each in variant.applied.items()]
    yield "; ".join(done) or "nothing was done"
    if variant.refused:
        yield "refused: " + ", ".join(f"{name} ({reason})" for name, reason in variant.refused.items())


def _tell_operation(name: str, parameters: Mapping[str, Any], example: Example) -> str:
    """An operation and its parameters, but for texts that stand below in full."""
    texts = _list_texts(example)
    told = [
        f"{value}" if key == name else f"{key} {value}"
        for key, value in parameters.items()
        if value not in texts
    ]
    return " ".join([name, ", ".join(told)]).rstrip()


def _list_texts(example: Example) -> list[str]:
    return [getattr(example, name) for name, _, _ in _TEXTS]


def render_sheet(rows: Sequence[Sequence[Cell]]) -> Image.Image:
    """Draw a sheet.

    Args:
        rows: each a record as it is, and then its variants.

    Returns:
        An RGB picture as large as it needs to be; white where there are no rows.
    """
    texts = [[_write(cell, row[0].example) for cell in row] for row in rows]
    heights = [PICTURE_PX[1] + LINE_PX // 2 + LINE_PX * max(map(len, row)) for row in texts]
    columns = max((len(row) for row in rows), default=0)
    size = (GAP_PX + columns * (WIDTH_PX + GAP_PX), GAP_PX + sum(heights) + 2 * GAP_PX * len(rows))
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    top = GAP_PX
    for row, lines, height in zip(rows, texts, heights, strict=True):
        for column, cell in enumerate(row):
            left = GAP_PX + column * (WIDTH_PX + GAP_PX)
            _paste(sheet, draw, cell.image, left, top)
            draw_lines(draw, lines[column], (left, top + PICTURE_PX[1] + LINE_PX // 2))
        top += height + GAP_PX
        draw.line((GAP_PX, top, size[0] - GAP_PX, top), fill=_RULE)
        top += GAP_PX
    return sheet


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, image: Image.Image, left: int, top: int) -> None:
    """Fit a picture into its place: a small one is enlarged by a whole number, so that it is not blurred."""
    scale = min(box_px / px for box_px, px in zip(PICTURE_PX, image.size, strict=True))
    scale = int(scale) if scale > 1 else scale
    size = tuple(max(1, round(px * scale)) for px in image.size)
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
    fitted = image.convert("RGB").resize((size[0], size[1]), method)
    left, top = left + (PICTURE_PX[0] - size[0]) // 2, top + (PICTURE_PX[1] - size[1]) // 2
    draw.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline=_FRAME)
    sheet.paste(fitted, (left, top))


def _write(cell: Cell, original: Example) -> list[Line]:
    """All lines of a cell."""
    first, *others = cell.title
    lines = _wrap(first, None, Line((), bold=True), 2)
    for text in others:
        lines += _wrap(text, None, Line((), GREY), 4)
    lines.append(_BLANK)
    for name, label, most in _TEXTS:
        text, before = getattr(cell.example, name), getattr(original, name)
        if text and (name in _ALWAYS or text != before):
            # What the original does not have at all is new as a whole, and needs no marks.
            lines += _wrap(f"{label}{text}", f"{label}{before}" if before else None, Line(()), most)
    lines.append(_BLANK)
    for choice in cell.example.choices:
        lines += _write_choice(choice, cell.example, original)
    return lines


def _write_choice(choice: Choice, example: Example, original: Example) -> list[Line]:
    """A choice, marked where it is of the answer, and compared with the original's most like it."""
    right = choice.id in (example.answer or ())
    form = Line((), GREEN if right else BLACK, bold=right, indent_px=INDENT_PX, mark=right)
    label = f"{choice.id}. "
    before = max((each.text for each in original.choices), key=lambda text: _compare(text, choice.text))
    return _wrap(label + choice.text, label + before, form, 2)


def _compare(text: str, other: str) -> float:
    """How alike two texts are, from 0 to 1."""
    return SequenceMatcher(None, text[:_MOST_CHARACTERS], other[:_MOST_CHARACTERS], autojunk=False).ratio()


def _wrap(text: str, before: str | None, form: Line, most: int) -> list[Line]:
    before = None if before is None else before[:_MOST_CHARACTERS]
    return wrap(mark_changes(text[:_MOST_CHARACTERS], before), form, WIDTH_PX, most)
