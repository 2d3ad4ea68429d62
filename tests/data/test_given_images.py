"""A picture is the same picture, however a program hands it over."""

from __future__ import annotations

import threading
from io import BytesIO

import numpy as np
import pytest
from image_makers import encode, make_photo
from PIL import Image

from hkdcli.data.given_images import load_given_image
from hkdcli.data.images import ImageError, ImageFolder, ImagePolicy, compute_pixel_hash


def encode_upright(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(make_photo(), "JPEG", exif=exif)


def make_files() -> dict[str, bytes]:
    photo = make_photo()
    deep = Image.fromarray((np.arange(40 * 40, dtype=np.uint16) * 40).reshape(40, 40))
    hidden = photo.convert("RGBA")
    hidden.putalpha(Image.linear_gradient("L").resize(photo.size))
    return {
        "photo.png": encode(photo),
        "photo.jpg": encode(photo, "JPEG"),
        "turned.jpg": encode_upright(6),
        "flipped.jpg": encode_upright(2),
        "cmyk.jpg": encode(photo.convert("CMYK"), "JPEG"),
        "gray.png": encode(photo.convert("L")),
        "palette.gif": encode(photo.quantize(16), "GIF"),
        "moving.gif": encode(photo, "GIF", save_all=True, append_images=[photo.rotate(90)]),
        "deep.png": encode(deep),
        "alpha.png": encode(hidden),
        "lab.tif": encode(Image.new("LAB", (40, 30), (120, 90, 200)), "TIFF"),
        "small.webp": encode(photo.resize((9, 7)), "WEBP", lossless=True),
        "large.png": encode(photo.resize((1400, 1100))),
    }


@pytest.mark.parametrize("name", make_files())
def test_a_file_is_the_same_picture_as_path_bytes_and_opened(name, tmp_path):
    data = make_files()[name]
    (tmp_path / name).write_bytes(data)
    expected = ImageFolder(tmp_path).load(name)
    with Image.open(BytesIO(data)) as opened, Image.open(tmp_path / name) as loaded:
        loaded.load()
        for given in (tmp_path / name, str(tmp_path / name), data, opened, loaded):
            got = load_given_image(given)
            assert (got.pixel_hash, got.notes) == (expected.pixel_hash, expected.notes)
            assert got.image.mode == "RGB"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_pixels_are_the_picture_that_they_make(mode):
    picture = make_photo().convert(mode)
    assert load_given_image(np.asarray(picture)).pixel_hash == load_given_image(picture).pixel_hash


def test_what_was_handed_over_is_neither_changed_nor_shared():
    picture, pixels = make_photo(), np.asarray(make_photo()).copy()
    before = picture.tobytes()
    for given in (picture, pixels):
        load_given_image(given).image.paste("red", (0, 0, 40, 40))
    assert picture.tobytes() == before == pixels.tobytes()


def test_pixels_may_lie_in_memory_in_any_order():
    pixels = np.asarray(make_photo())[::-1, ::2]
    assert load_given_image(pixels).image.tobytes() == Image.fromarray(pixels.copy()).tobytes()


BAD = {
    "image.missing": "no-such-file.png",
    "image.url": "https://example.org/cat.jpg",
    "image.path_escape": "a\0b.png",
    "image.empty": b"",
    "image.not_an_image": b"<html>404</html>",
    "image.truncated": encode(make_photo(), "JPEG")[:700],
    "image.type": None,
    "image.array": np.zeros((4, 4, 3), np.float32),
    "image.aspect": Image.new("RGB", (5000, 2)),
}


@pytest.mark.parametrize("code", BAD)
def test_a_bad_picture_is_refused_by_its_code(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError) as refused:
        load_given_image(BAD[code])
    assert refused.value.row.code == code


@pytest.mark.parametrize(
    "given",
    [Image.new("RGB", (0, 0)), np.zeros((0, 4, 3), np.uint8), np.zeros((0, 0), np.uint8)],
    ids=["image", "rows", "both"],
)
def test_a_picture_without_pixels_is_refused(given):
    with pytest.raises(ImageError) as refused:
        load_given_image(given)
    assert refused.value.row.code == "image.empty"


@pytest.mark.parametrize("shape", [(4,), (4, 4, 2), (2, 4, 4, 3)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(ImageError, match="image.array"):
        load_given_image(np.zeros(shape, np.uint8))


def test_limits_hold_for_every_form():
    policy = ImagePolicy(max_pixels=1000, max_bytes=10**6)
    for given in (make_photo(), np.asarray(make_photo()), encode(make_photo())):
        with pytest.raises(ImageError, match="image.too_large"):
            load_given_image(given, policy)
    with pytest.raises(ImageError, match="image.too_large"):
        load_given_image(encode(make_photo()), ImagePolicy(max_bytes=100))


def test_an_opened_file_that_is_cut_off_is_refused():
    opened = Image.open(BytesIO(encode(make_photo(), "JPEG")[:700]))
    with pytest.raises(ImageError, match="image.truncated"):
        load_given_image(opened)


def test_i18_an_opened_eps_is_refused_before_ghostscript_is_asked():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n"
    with Image.open(BytesIO(eps)) as opened:
        assert opened.format == "EPS"
        with pytest.raises(ImageError, match="image.format"):
            load_given_image(opened)


def test_links_are_followed_since_the_caller_named_them(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").mkdir()
    make_photo().save(tmp_path / "real" / "cat.png")
    (tmp_path / "linked" / "cat.png").symlink_to(tmp_path / "real" / "cat.png")
    expected = compute_pixel_hash(make_photo())
    assert load_given_image(tmp_path / "linked" / "cat.png").pixel_hash == expected
    assert load_given_image(tmp_path / "linked" / ".." / "real" / "cat.png").pixel_hash == expected


def test_threads_may_share_one_opened_picture():
    data = encode(make_photo().resize((600, 500)), "JPEG")
    expected = load_given_image(data).pixel_hash
    with Image.open(BytesIO(data)) as opened:
        hashes: list[str] = []
        threads = [
            threading.Thread(target=lambda: hashes.append(load_given_image(opened).pixel_hash))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert hashes == [expected] * 8
