"""Operations on the picture; all but crop and flip leave everything in its place, and sizes stay as they are.

Distances are shares of the picture's short side, so that a small drawing and a large photo change alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from PIL import Image, ImageEnhance, ImageOps, ImageStat

from hkdcli.augment.mirroring import exchange_sides, hide_sides
from hkdcli.augment.operations import Change, Refusal, Sample, operation
from hkdcli.augment.topics import find_topics
from hkdcli.data.answers_text import is_contradicted
from hkdcli.data.records import Example

PHOTOMETRIC_LIMIT = 0.3
COLOUR_WORD_LIMIT = 0.12
"""Where the record names a colour: white stays white then, and black black."""
HUE_LIMIT_DEGREES = 12.0
CROP_LIMIT = 0.05
_RAMP = Image.frombytes("L", (256, 1), bytes(range(256)))


@operation("image", may_falsify=("light", "quality"))
def brightness(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Makes the picture brighter or darker, by at most 30 %.

    Preserves what is shown, where, and how large. May falsify what is said of light and darkness; where a
    colour is named the limit is 12 %, so that every colour keeps its name.
    """
    return _enhance(sample, rng, strength, lambda image, factor: _stretch(image, 0, factor))


@operation("image", may_falsify=("light", "quality"))
def contrast(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Raises or lowers the contrast, by at most 30 %.

    Preserves and may falsify what `brightness` does, with the same limits.
    """

    def stretch(image: Image.Image, factor: float) -> Image.Image:
        return _stretch(image, int(ImageStat.Stat(image.convert("L")).mean[0] + 0.5), factor)

    return _enhance(sample, rng, strength, stretch)


@operation("image", may_falsify=("light", "quality"))
def saturation(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Makes colours stronger or paler, by at most 30 %.

    Preserves what is shown, where, and how large, and the hue of every colour; the limit is 12 % where a
    colour is named. May falsify "vivid", "faded" and the like.
    """
    return _enhance(sample, rng, strength, lambda image, factor: ImageEnhance.Color(image).enhance(factor))


@operation("image", may_falsify=("colour", "light"))
def hue(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Turns all hues by at most 12 degrees.

    Preserves what is shown, where, how large and how bright; may falsify any named colour.
    """
    degrees = _draw_signed(rng, HUE_LIMIT_DEGREES * strength)
    turn = int(degrees / 360 * 256)  # towards 0, so that the limit holds
    if not turn:
        return Refusal("nothing to change")
    hues, saturations, values = sample.image.convert("HSV").split()
    turned = hues.point([(value + turn) % 256 for value in range(256)])
    image = Image.merge("HSV", (turned, saturations, values)).convert("RGB")
    return Change(sample.example, image, {"degrees": round(turn / 256 * 360, 2)})


@operation("image", may_falsify=("text", "count", "place", "size"))
def crop(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Cuts off at most 5 % of both sides, and enlarges the rest to the old size.

    Preserves colours, sides and relations. What lies at the edge may go: a record that counts, speaks of the
    edge or the middle, of something small, or of something to read, is left alone.
    """
    width, height = sample.image.size
    kept = 1 - rng.uniform(CROP_LIMIT / 3, CROP_LIMIT) * strength
    size = math.ceil(width * kept), math.ceil(height * kept)
    left, top = rng.randint(0, width - size[0]), rng.randint(0, height - size[1])
    box = (left, top, left + size[0], top + size[1])
    image = sample.image.resize((width, height), Image.Resampling.BICUBIC, box=box)
    return Change(sample.example, image, {"box": list(box)})


@operation("image", may_falsify=("text",))
def flip(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Mirrors the picture left to right, and exchanges left and right in the texts.

    Preserves objects, colours, sizes, counts, and what is above what. Left alone is a record in which a word
    may be a side or something else ("right now"), that speaks of something else that mirroring turns round
    ("clockwise"), or of something to read; and one with sides whose `correct_answer` says otherwise than its
    letters.
    """
    example, mirrored = sample.example, ImageOps.mirror(sample.image)
    exchanged, hidden = _reword(example, exchange_sides), _reword(example, hide_sides)
    other = find_topics(hidden or example).get("side")
    if exchanged is None or other is not None:
        return Refusal(f"side: {other or find_topics(example).get('side', 'not clear')}")
    if exchanged == example:
        return Change(example, mirrored, {"sides": "none"})
    if "correct_answer" in example.extra and (example.answer is None or is_contradicted(example)):
        return Refusal("correct_answer says otherwise")
    extra = {key: value for key, value in example.extra.items() if key != "correct_answer"}
    return Change(replace(exchanged, extra=extra), mirrored, {"sides": "exchanged"})


def _reword(example: Example, rewrite: Callable[[str], str | None]) -> Example | None:
    """The example with all of its texts rewritten; None where one cannot be."""
    names = ("caption", "caption_question", "claim", "context", "question", "instruction")
    texts = {name: rewrite(getattr(example, name)) for name in names}
    choices = [rewrite(choice.text) for choice in example.choices]
    known: dict[str, Any] = {name: text for name, text in texts.items() if text is not None}
    said = [text for text in choices if text is not None]
    if len(known) < len(texts) or len(said) < len(choices):
        return None
    known["choices"] = tuple(
        replace(choice, text=text) for choice, text in zip(example.choices, said, strict=True)
    )
    return replace(example, **known)


def _enhance(
    sample: Sample, rng: Random, strength: float, enhance: Callable[[Image.Image, float], Image.Image]
) -> Change | Refusal:
    named = "colour" in find_topics(sample.example)
    limit = (COLOUR_WORD_LIMIT if named else PHOTOMETRIC_LIMIT) * strength
    factor = round(1 + _draw_signed(rng, limit), 4)
    return Change(sample.example, enhance(sample.image, factor), {"factor": factor})


def _stretch(image: Image.Image, pivot: int, factor: float) -> Image.Image:
    """Multiply the distance of every level from `pivot`, as `ImageEnhance` does, in half the time."""
    table = Image.blend(Image.new("L", _RAMP.size, pivot), _RAMP, factor)
    return image.point(list(table.tobytes()) * 3)


def _draw_signed(rng: Random, limit: float) -> float:
    """A number of either sign from a third of the limit up to it: less would hardly be seen."""
    return rng.choice((-1, 1)) * rng.uniform(limit / 3, limit)
