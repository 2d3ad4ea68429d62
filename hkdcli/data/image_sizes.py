"""The size in which a picture is handed to image processors: neither too large, too small nor too long."""

from __future__ import annotations

from PIL import Image, ImageOps


def fit_image(
    image: Image.Image, *, resize_pixels: int | None, min_side_px: int, max_aspect: float
) -> tuple[Image.Image, tuple[str, ...]]:
    """Shrink what is larger than `resize_pixels`, aspect kept; pad sides below `min_side_px` with white.

    Args:
        image: An RGB picture.
        resize_pixels: Width times height that the result stays within; None leaves large pictures.
        min_side_px: The shortest side that image processors are given.
        max_aspect: Long side over short side that shrinking stays within, as the picture does.

    Returns:
        The picture, and notes (`image.resized`, `image.padded`).
    """
    notes: tuple[str, ...] = ()
    pixels = image.width * image.height
    if resize_pixels is not None and pixels > resize_pixels:
        scale = (resize_pixels / pixels) ** 0.5
        image = image.resize(
            _shrink(image.size, scale, max_aspect), Image.Resampling.BICUBIC, reducing_gap=3.0
        )
        notes += ("image.resized",)
    if min(image.size) < min_side_px:
        size = (max(image.width, min_side_px), max(image.height, min_side_px))
        image = ImageOps.pad(image, size, color="white")
        notes += ("image.padded",)
    return image, notes


def _shrink(size: tuple[int, int], scale: float, max_aspect: float) -> tuple[int, int]:
    """A size scaled and rounded down, which may not make a picture longer than image processors take."""
    width, height = (max(1, int(side * scale)) for side in size)
    longest = min(width, height) * max_aspect
    return int(min(width, longest)), int(min(height, longest))
