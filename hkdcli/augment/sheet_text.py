"""Text on a contact sheet: lines that fit a width, with marks, and with the words that changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from functools import cache

from PIL import ImageDraw, ImageFont

TEXT_PX = 13
LINE_PX = 18
INDENT_PX = 18
"""Before a line with a mark, and what follows it."""
BLACK, GREY, GREEN, CHANGED = (25, 25, 25), (110, 110, 110), (0, 110, 50), (255, 226, 130)
_STROKE = 0.35
"""Half of what makes bold letters of the one font that Pillow ships."""
_SPACE_PX = 4
_CUT = "..."


@dataclass(frozen=True, slots=True)
class Word:
    """A word, and whether the original does not have it there."""

    text: str
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """Words side by side.

    Attributes:
        words: what is written.
        colour: of the letters.
        bold: whether they are.
        indent_px: where they begin.
        mark: a disc before them, filled (True) or hollow (False); None: no disc.
    """

    words: tuple[Word, ...]
    colour: tuple[int, int, int] = BLACK
    bold: bool = False
    indent_px: int = 0
    mark: bool | None = None


def mark_changes(text: str, original: str | None) -> tuple[Word, ...]:
    """The words of a text, those marked that are not in the original, of which there may be none."""
    words = _clean(text)
    if original is None:
        return tuple(map(Word, words))
    matcher = SequenceMatcher(None, _clean(original), words, autojunk=False)
    return tuple(
        Word(word, tag != "equal")
        for tag, _, _, start, end in matcher.get_opcodes()
        for word in words[start:end]
    )


def _clean(text: str) -> list[str]:
    """The words of a text that can be drawn: neither control characters nor halves of surrogate pairs."""
    return "".join(letter if letter.isprintable() else " " for letter in text).split()


def wrap(words: Sequence[Word], form: Line, width_px: int, most: int) -> list[Line]:
    """Break words into lines.

    Args:
        words: what is written; may be none, which is no line.
        form: a line without words: colour, weight, indent; its mark stands before the first line alone.
        width_px: from the left edge to the right, the indent included.
        most: lines; what does not fit is cut off and shown as "...".

    Returns:
        The lines.
    """
    rows: list[list[Word]] = [[]]
    room = width_px - form.indent_px
    left: float = room
    for word in _break_long(words, room):
        needed = measure(word.text)
        if rows[-1] and needed > left:
            rows.append([])
            left = room
        rows[-1].append(word)
        left -= needed + _SPACE_PX
    if len(rows) > most:
        rows = [*rows[: most - 1], _cut(rows[most - 1], room)]
    lines = [replace(form, words=tuple(row)) for row in rows if row]
    return [lines[0], *(replace(line, mark=None) for line in lines[1:])] if lines else []


def _break_long(words: Sequence[Word], room_px: float) -> Iterator[Word]:
    """The words, those that are wider than a line in pieces, as languages without spaces need it."""
    for word in words:
        rest = word.text
        while len(rest) > 1 and measure(rest) > room_px:
            end = next((n for n in range(2, len(rest)) if measure(rest[:n]) > room_px), len(rest)) - 1
            yield replace(word, text=rest[:end])
            rest = rest[end:]
        yield replace(word, text=rest)


def _cut(row: Sequence[Word], room_px: float) -> list[Word]:
    """As much of a row as there is room for beside "..."."""
    kept = [*row]
    while kept and sum(measure(word.text) + _SPACE_PX for word in kept) + measure(_CUT) > room_px:
        last = kept.pop()
        if not kept and len(last.text) > 1:
            kept.append(replace(last, text=last.text[:-1]))
    return [*kept, Word(_CUT)]


def measure(text: str) -> float:
    """Width of a text, px."""
    return _load_font().getlength(text)


@cache
def _load_font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that Pillow ships: it has Latin letters, and a box for any other."""
    return ImageFont.load_default(TEXT_PX)


def draw_lines(draw: ImageDraw.ImageDraw, lines: Sequence[Line], corner: tuple[int, int]) -> None:
    """Draw lines one below the other, the top left of the first at `corner`; each is `LINE_PX` high."""
    left, top = corner
    for number, line in enumerate(lines):
        _draw_line(draw, line, left, top + number * LINE_PX)


def _draw_line(draw: ImageDraw.ImageDraw, line: Line, left: float, top: int) -> None:
    if line.mark is not None:
        disc = (left + 2, top + 4, left + 12, top + 14)
        draw.ellipse(disc, fill=line.colour if line.mark else None, outline=line.colour, width=1)
    left += line.indent_px
    for word in line.words:
        width = measure(word.text)
        if word.changed:
            draw.rectangle((left - 1, top, left + width + 1, top + LINE_PX - 2), fill=CHANGED)
        stroke = _STROKE if line.bold else 0
        draw.text((left, top), word.text, fill=line.colour, font=_load_font(), stroke_width=stroke)
        left += width + _SPACE_PX
