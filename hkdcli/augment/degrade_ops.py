"""Operations that lose detail; a variant has one of them at most, and what is shown stays what it is.

Distances are shares of the picture's short side, so that a small drawing and a large photo change alike.
"""

from __future__ import annotations

from io import BytesIO
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from hkdcli.augment.operations import Change, Refusal, Sample, operation

BLUR_LIMIT_PX = 0.36
BLUR_LIMIT = 0.005
"""Standard deviation: so many pixels, and this share of the short side; a small drawing needs the pixels."""
NOISE_LIMIT = 12.0
"""Standard deviation, of 255."""
JPEG_QUALITIES = (35, 90)
JPEG_LARGEST_PX = 65_500
"""A side that the format can hold, and the library writes."""
RESCALE_LIMIT = 0.5
SMALLEST_SIDE_PX = 48
"""No short side is made smaller than this on the way."""


@operation("image", may_falsify=("text", "quality"), group="degrade")
def blur(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Blurs by a Gaussian of at most 0.36 pixels and 0.5 % of the short side.

    Preserves objects, colours, sizes, counts and places; may falsify what is to be read, "sharp", "in focus".
    """
    limit_px = BLUR_LIMIT_PX + BLUR_LIMIT * min(sample.image.size)
    radius_px = round(limit_px * rng.uniform(0.3, 1) * strength, 3)
    if radius_px < 0.1:
        return Refusal("nothing to change")
    image = sample.image.filter(ImageFilter.GaussianBlur(radius_px))
    return Change(sample.example, image, {"radius_px": radius_px})


@operation("image", may_falsify=("text", "quality"), group="degrade")
def noise(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Adds Gaussian noise with a standard deviation of at most 12 of 255.

    Preserves and may falsify what `blur` does.
    """
    deviation = round(NOISE_LIMIT * rng.uniform(0.3, 1) * strength, 3)
    generator = np.random.Generator(np.random.PCG64(rng.getrandbits(64)))
    pixels = np.asarray(sample.image)
    noisy = generator.standard_normal(pixels.shape, dtype=np.float32)
    noisy *= deviation
    noisy += pixels
    image = Image.fromarray(np.rint(noisy).clip(0, 255).astype(np.uint8))
    return Change(sample.example, image, {"deviation": deviation})


@operation("image", may_falsify=("text", "quality"), group="degrade")
def jpeg(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Compresses as JPEG, with a quality from 35 to 90.

    Preserves and may falsify what `blur` does.
    """
    worst, best = JPEG_QUALITIES
    quality = round(best - (best - worst) * rng.uniform(0.3, 1) * strength)
    if max(sample.image.size) > JPEG_LARGEST_PX:
        return Refusal("too large for JPEG")
    buffer = BytesIO()
    sample.image.save(buffer, "JPEG", quality=quality, subsampling=2)
    with Image.open(buffer, formats=["JPEG"]) as opened:
        image = opened.convert("RGB")
    return Change(sample.example, image, {"quality": quality})


@operation("image", may_falsify=("text", "quality"), group="degrade")
def rescale(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Shrinks to no less than half of the sides, and enlarges to the old size.

    Preserves and may falsify what `blur` does.
    """
    drawn, least = (
        1 - RESCALE_LIMIT * rng.uniform(0.3, 1) * strength,
        SMALLEST_SIDE_PX / min(sample.image.size),
    )
    scale = round(max(drawn, least), 3)
    size = tuple(max(1, round(side * scale)) for side in sample.image.size)
    if scale >= 1 or size == sample.image.size:
        return Refusal("too small to be shrunk")
    small = sample.image.resize((size[0], size[1]), Image.Resampling.BOX)
    image = small.resize(sample.image.size, Image.Resampling.BICUBIC)
    return Change(sample.example, image, {"scale": scale})
