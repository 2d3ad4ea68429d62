"""Image formats told from bytes, and what can be checked without decoding."""

from __future__ import annotations

import zlib

from hkdcli.data.refusals import RefusedRowError

ACCEPTED = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF")

_MAGIC = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_OTHER_FORMATS = {
    b"%PDF": "PDF",
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"\0\0\1\0": "ICO",
    b"8BPS": "PSD",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL": "JPEG XL",
}


def sniff_format(data: bytes) -> str:
    """Tell an image's format from its first bytes; names and extensions are not asked.

    Args:
        data: The file, or its first kilobyte.

    Returns:
        One of ACCEPTED.

    Raises:
        RefusedRowError: `image.empty`, `image.format` (an image format that is not accepted), or
            `image.not_an_image`.
    """
    if not data:
        raise RefusedRowError("image.empty", "the file has 0 bytes")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
    text = data[:1024].lstrip().lower()
    other = next((name for magic, name in _OTHER_FORMATS.items() if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        other = (
            "AVIF" if data[8:11] == b"avi" else "HEIC" if data[8:11] in (b"hei", b"hev", b"mif") else "video"
        )
    elif b"<svg" in text:
        other = "SVG"
    if other:
        raise RefusedRowError("image.format", f"{other} is not accepted", f"accepted: {', '.join(ACCEPTED)}")
    if text.startswith(b"version https://git-lfs"):
        raise RefusedRowError("image.not_an_image", "a git-lfs pointer, not the image", "run git lfs pull")
    kind = "an HTML or XML page" if text.startswith(b"<") else "unknown content"
    raise RefusedRowError("image.not_an_image", f"{kind}, not an image")


def check_png_chunks(data: bytes) -> None:
    """Check every chunk of a PNG against its checksum: Pillow skips those of the pixel data.

    Args:
        data: The whole file.

    Raises:
        RefusedRowError: `image.corrupt`, or `image.truncated` where the end chunk is missing.
    """
    position = 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4])
        end = position + 12 + length
        if end > len(data):
            break
        body = data[position + 4 : end - 4]
        if zlib.crc32(body) != int.from_bytes(data[end - 4 : end]):
            raise RefusedRowError("image.corrupt", "a PNG chunk does not match its checksum")
        if body.startswith(b"IEND"):
            return
        position = end
    raise RefusedRowError("image.truncated", "the PNG ends before its end chunk")
