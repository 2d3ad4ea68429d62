"""From the bytes of an image file to RGB pixels, with every limit asked before the work is done."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from hkdcli.data.image_formats import check_png_chunks, sniff_format
from hkdcli.data.refusals import RefusedRowError

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_PILLOW_SWITCHES = threading.Lock()


def decode_image(data: bytes, *, max_pixels: int, max_aspect: float) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode an image file in full: upright, first frame, RGB, transparency on white.

    Size and aspect are asked of the header before a pixel is decoded. A baseline JPEG above
    `max_pixels` is decoded at 1/2, 1/4 or 1/8 of its size where that brings it below, which costs
    the memory of the small picture alone.

    Args:
        data: The file's bytes.
        max_pixels: Width times height above which an image is refused.
        max_aspect: Long side over short side above which it is refused.

    Returns:
        The picture in mode RGB, and notes: `image.animated` (further frames were dropped),
        `image.16bit` (rescaled to 8 bit), `image.reduced` (a JPEG decoded smaller).

    Raises:
        RefusedRowError: An `image.*` code: what `sniff_format` raises, `image.too_large`, `image.aspect`,
            `image.truncated`, `image.corrupt`.
    """
    name = sniff_format(data)
    if name == "PNG":
        check_png_chunks(data)
    with _pillow_switches_held():
        try:
            # The format is given, so that no other of Pillow's readers (Ghostscript!) is ever asked.
            with Image.open(BytesIO(data), formats=[name.upper()]) as image:
                notes = _check_header(image, max_pixels, max_aspect)
                image.load()
                upright = _turn_upright(image)
                rgb, more = _convert_to_rgb(upright)
        except RefusedRowError:
            raise
        except MemoryError:
            raise RefusedRowError("image.too_large", "does not fit in memory") from None
        except Exception as error:  # a decoder of hostile bytes may raise anything at all
            raise RefusedRowError(*_explain_decoder(error)) from error
    return rgb, notes + more


def fit_image(
    image: Image.Image, *, resize_pixels: int | None, min_side_px: int
) -> tuple[Image.Image, tuple[str, ...]]:
    """Shrink what is larger than `resize_pixels`, aspect kept; pad sides below `min_side_px` with white.

    Args:
        image: An RGB picture.
        resize_pixels: Width times height that the result stays within; None leaves large pictures.
        min_side_px: The shortest side that image processors are given.

    Returns:
        The picture, and notes (`image.resized`, `image.padded`).
    """
    notes: tuple[str, ...] = ()
    pixels = image.width * image.height
    if resize_pixels is not None and pixels > resize_pixels:
        scale = (resize_pixels / pixels) ** 0.5
        size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        notes += ("image.resized",)
    if min(image.size) < min_side_px:
        size = (max(image.width, min_side_px), max(image.height, min_side_px))
        image = ImageOps.pad(image, size, color="white")
        notes += ("image.padded",)
    return image, notes


@contextmanager
def _pillow_switches_held() -> Iterator[None]:
    """Hold Pillow's process-wide switches where this loader needs them.

    Warnings are ours to phrase, half an image is not an image, and the size limit is our own. All
    three are global, hence the lock.
    """
    with _PILLOW_SWITCHES, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = lenient
            Image.MAX_IMAGE_PIXELS = limit


def _check_header(image: ImageFile.ImageFile, max_pixels: int, max_aspect: float) -> tuple[str, ...]:
    width, height = image.size
    notes: tuple[str, ...] = ("image.animated",) if getattr(image, "is_animated", False) else ()
    if max(width, height) > max_aspect * min(width, height):
        raise RefusedRowError("image.aspect", f"{width}x{height} is longer than {max_aspect:g} to 1")
    if width * height <= max_pixels:
        return notes
    for scale in (2, 4, 8):
        fits = -(-width // scale) * -(-height // scale) <= max_pixels
        # A progressive JPEG keeps all its coefficients in memory, at whatever size it is decoded.
        if fits and image.format in ("JPEG", "MPO") and not image.info.get("progressive"):
            image.draft(None, (width // scale, height // scale))
            return (*notes, "image.reduced")
    raise RefusedRowError("image.too_large", f"{width}x{height} pixels; at most {max_pixels} are decoded")


def _explain_decoder(error: Exception) -> tuple[str, str]:
    """Choose the code and the words for what Pillow raised."""
    text = str(error)
    if "Decompressed data too large" in text or "text memory" in text:
        return "image.too_large", "its text chunks unpack to more than an image may hold"
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "image.truncated", "the file ends before the image does"
    if isinstance(error, UnidentifiedImageError):
        return "image.corrupt", "its header is damaged"
    return "image.corrupt", f"damaged: {ascii(text[:100]) if text else type(error).__name__}"


def _turn_upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; one that is damaged or unheard of means upright."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF raises whatever its bytes lead to, and is worth no record
        turn = None
    if turn is None:
        return image
    turned = image.transpose(turn)
    turned.info = image.info  # transparency lives here, and transpose drops it in some modes
    return turned


def _convert_to_rgb(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    if image.mode.startswith("I") or image.mode == "F":
        return _rescale_deep_gray(image).convert("RGB"), ("image.16bit",)
    if image.mode == "LAB":
        to_rgb = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        converted = ImageCms.applyTransform(image, to_rgb)
        return converted or image.convert("RGB"), ()
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGB", layer.size, "white")
        white.paste(layer, mask=layer.getchannel("A"))
        return white, ()
    return image.convert("RGB"), ()


def _rescale_deep_gray(image: Image.Image) -> Image.Image:
    """Bring gray of more than 8 bits to 0-255.

    16-bit files span 0-65535 by their type. 32-bit and float files do not say what they span: the
    smallest of 0-1 (float), 0-255 and 0-65535 that holds the values, else from minimum to maximum.
    """
    values: NDArray[np.float32] = np.nan_to_num(np.asarray(image).astype(np.float32), posinf=0, neginf=0)
    if image.mode.startswith("I;16"):
        transparent = image.info.get("transparency")
        if isinstance(transparent, int):
            values[values == transparent] = 65535
        low, high = 0.0, 65535.0
    else:
        low, high = float(values.min()), float(values.max())
        spans = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        if low >= 0:
            low, high = 0.0, next((span for span in spans if high <= span), high)
    values -= low
    values *= 255.0 / max(high - low, 1e-12)
    return Image.fromarray(np.rint(values.clip(0, 255)).astype(np.uint8))
