"""From the bytes of an image file to RGB pixels, with every limit asked before the work is done."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from hkdcli.data.image_formats import ACCEPTED, check_png_chunks, sniff_format
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
# As Pillow names them, in upper case; a picture that was drawn, converted or copied has none.
_OPENED_FORMATS = (None, "MPO", *(name.upper() for name in ACCEPTED))
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
        `image.16bit` (rescaled to 8 bit), `image.reduced` (a JPEG decoded smaller). `RefusedRowError` with
        an `image.*` code: what `sniff_format` raises, `image.too_large`, `image.aspect`, `image.truncated`,
        `image.corrupt`.
    """
    name = sniff_format(data)
    if name == "PNG":
        check_png_chunks(data)
    with (
        _pillow_switches_held(),
        _decoder_errors(),
        # The format is given, so that no other of Pillow's readers (Ghostscript!) is ever asked.
        Image.open(BytesIO(data), formats=[name.upper()]) as image,
    ):
        _check_aspect(image, max_aspect)
        notes = _list_frames(image) + _reduce(image, max_pixels)
        rgb, more = _convert_to_rgb(_turn_upright(image))
    return rgb, notes + more


def convert_opened(
    image: Image.Image, *, max_pixels: int, max_aspect: float
) -> tuple[Image.Image, tuple[str, ...]]:
    """Make of a picture that somebody else opened, or drew, what `decode_image` makes of its file.

    The same pixels come out, but for a JPEG above `max_pixels`, which is refused: decoding it smaller would
    change the picture in its owner's hands. Checksums of a PNG, which Pillow skips, are not seen either.

    Args:
        image: The picture; it is decoded where it was not yet, and left as it is.
        max_pixels: Width times height above which it is refused.
        max_aspect: Long side over short side above which it is refused.

    Returns:
        A new picture in mode RGB, and notes as of `decode_image`.

    Raises:
        RefusedRowError: `image.format` for a file of a format that is not accepted, `image.empty` for a
            picture without pixels, and what `decode_image` raises.
    """
    if image.format not in _OPENED_FORMATS:
        hint = f"accepted: {', '.join(ACCEPTED)}; or hand over image.convert('RGB')"
        raise RefusedRowError("image.format", f"{image.format} is not accepted", hint)
    if not image.width * image.height:
        raise RefusedRowError("image.empty", f"{image.width}x{image.height}: it has no pixels")
    with _pillow_switches_held(), _decoder_errors():
        _check_aspect(image, max_aspect)
        _check_size(image, max_pixels)
        notes = _list_frames(image)
        rgb, more = _convert_to_rgb(_turn_upright(image))
    return rgb, notes + more


@contextmanager
def _pillow_switches_held() -> Iterator[None]:
    """Hold Pillow's switches, global and so locked: warnings and limits are ours, half an image is none."""
    with _PILLOW_SWITCHES, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = lenient
            Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _decoder_errors() -> Iterator[None]:
    """A decoder of hostile bytes may raise anything at all: say it in our codes."""
    try:
        yield
    except RefusedRowError:
        raise
    except MemoryError:
        raise RefusedRowError("image.too_large", "does not fit in memory") from None
    except Exception as error:
        raise RefusedRowError(*_explain_decoder(error)) from error


def _list_frames(image: Image.Image) -> tuple[str, ...]:
    return ("image.animated",) if getattr(image, "is_animated", False) else ()


def _check_aspect(image: Image.Image, max_aspect: float) -> None:
    width, height = image.size
    if max(width, height) > max_aspect * min(width, height):
        raise RefusedRowError("image.aspect", f"{width}x{height} is longer than {max_aspect:g} to 1")


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise RefusedRowError("image.too_large", f"{width}x{height} pixels; at most {max_pixels} are decoded")


def _reduce(image: ImageFile.ImageFile, max_pixels: int) -> tuple[str, ...]:
    """Have a JPEG above `max_pixels` decoded smaller; refuse what cannot be."""
    width, height = image.size
    if width * height <= max_pixels:
        return ()
    for scale in (2, 4, 8):
        fits = -(-width // scale) * -(-height // scale) <= max_pixels
        # A progressive JPEG keeps all its coefficients in memory, at whatever size it is decoded.
        if fits and image.format in ("JPEG", "MPO") and not image.info.get("progressive"):
            image.draft(None, (width // scale, height // scale))
            return ("image.reduced",)
    _check_size(image, max_pixels)
    return ()


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
    image.load()
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
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
        return converted or image.convert("RGB"), ()
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGB", layer.size, "white")
        white.paste(layer, mask=layer.getchannel("A"))
        return white, ()
    return image.convert("RGB"), ()


def _check_finite(values: NDArray[np.float32]) -> None:
    if not np.isfinite(values).all():
        raise RefusedRowError("image.corrupt", "it has pixels that are NaN or infinite")


def _rescale_deep_gray(image: Image.Image) -> Image.Image:
    """Bring gray of more than 8 bits to 0-255.

    16-bit files span 0-65535 by their type. 32-bit and float files do not say what they span: the
    smallest of 0-1 (float), 0-255 and 0-65535 that holds the values, else from minimum to maximum.
    """
    values: NDArray[np.float32] = np.asarray(image).astype(np.float32)
    _check_finite(values)
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
