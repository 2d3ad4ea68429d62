"""Image files, whole and hostile, for the tests of loading."""

import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image


def make_photo(width=64, height=48):
    """A picture with no symmetry, so that every turn of it differs."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 // width, y * 255 // height, (x * y) * 255 // (width * height)]
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def encode(image, form="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def make_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def make_png(width, height, *, bits=1, colour=0, more=b""):
    """An all-black PNG of any size in a few kilobytes."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + (width * bits * {0: 1, 2: 3}[colour] + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = make_chunk(b"IHDR", header) + more + make_chunk(b"IDAT", body) + make_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def make_text_bomb():
    packed = zlib.compress(bytes(8 * 2**20), 9)
    return make_png(8, 8, more=make_chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed))
