"""Thumbnails: small, without metadata, and a reason where there is no picture."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace
from io import BytesIO

import pytest
from PIL import Image
from report_records import build_tables

from hkdcli.data.images import ImageError
from hkdcli.errors import BadRow
from hkdcli.reporting.cases import build_cases
from hkdcli.reporting.thumbnails import build_thumbnails, render_thumbnail


def decode(uri):
    head, data = uri.split(",")
    assert head == "data:image/webp;base64"
    return Image.open(BytesIO(b64decode(data)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1024, 512), (256, 128)),
        ((300, 30_000), (3, 256)),
        ((200, 100), (200, 100)),
        ((72, 72), (216, 216)),
        ((1, 1), (256, 256)),
        ((1000, 1), (256, 1)),
    ],
)
def test_size(size, expected):
    assert decode(render_thumbnail(Image.new("RGB", size))).size == expected


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode):
    assert decode(render_thumbnail(Image.new(mode, (300, 200)))).mode == "RGB"


def test_an_enlarged_picture_has_the_colours_of_the_original():
    image = Image.new("RGB", (2, 1), "red")
    image.putpixel((1, 0), (0, 0, 255))
    thumbnail = decode(render_thumbnail(image))
    (red, _, _), (_, _, blue) = thumbnail.getpixel((60, 60)), thumbnail.getpixel((190, 60))
    assert red > 230 and blue > 230


def test_no_metadata_comes_along():
    image = Image.new("RGB", (400, 300), "teal")
    exif = Image.Exif()
    exif[0x010E] = "secret description"
    file = BytesIO()
    image.save(file, "JPEG", exif=exif, icc_profile=b"secret profile", comment=b"secret comment")
    opened = Image.open(file)
    assert opened.info["icc_profile"] == b"secret profile"
    thumbnail = decode(render_thumbnail(opened))
    thumbnail.load()
    assert b"secret" not in b64decode(render_thumbnail(opened).split(",")[1])
    assert not thumbnail.getexif() and "icc_profile" not in thumbnail.info


def test_an_image_that_cannot_be_loaded_leaves_its_reason():
    cases = build_cases(build_tables(), 2).cases

    def load(example):
        if example.id == "label":
            raise ImageError(BadRow("image.missing", "", "/data/label.png", "no such file"))
        return Image.new("RGB", (8, 8))

    found = build_thumbnails(cases, load)
    assert found["label"].reason == "image.missing: no such file" and found["label"].uri == ""
    assert found["alarm"].uri.startswith("data:image/webp;base64,") and found["alarm"].reason == ""


def test_an_image_of_several_records_is_loaded_once():
    cases = build_cases(build_tables(), 4).cases
    shared = [replace(case, example=replace(case.example, image="one.png")) for case in cases]
    loaded = []

    def load(example):
        loaded.append(example.image)
        return Image.new("RGB", (8, 8))

    found = build_thumbnails(shared, load)
    assert len(shared) > 1 and loaded == ["one.png"]
    assert found.keys() == {case.id for case in shared}
