"""The image loader against damaged, hostile and unusual files (I01-I18)."""

import subprocess
import sys
import textwrap
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from image_makers import encode, make_photo, make_png, make_text_bomb
from PIL import EpsImagePlugin, Image, ImageFile, ImageOps

from hkdcli.data.given_images import load_given_image
from hkdcli.data.images import ImageError, ImageFolder, ImagePolicy, compute_pixel_hash, fit_image
from hkdcli.data.pixels import decode_image

LIMITS = {"max_pixels": 50_000_000, "max_aspect": 200.0}


def load(folder, data, name="x.jpg", **policy):
    (folder / name).write_bytes(data)
    return ImageFolder(folder, ImagePolicy(**policy)).load(name)


def load_code(folder, data, **policy):
    with pytest.raises(ImageError) as error:
        load(folder, data, **policy)
    row = error.value.row
    assert row.path == str(folder / "x.jpg") and row.detail.isascii() and error.value.exit_code == 3
    return row.code


def decode(data):
    return decode_image(data, **LIMITS)


def average(image):
    return np.asarray(image, dtype=float).mean(axis=(0, 1))


def test_i01_empty_file(tmp_path):
    assert load_code(tmp_path, b"") == "image.empty"


@pytest.mark.parametrize(
    "data", [b"<!DOCTYPE html><html>404</html>", b"\n <html>", b"Not found", b"\0" * 500]
)
def test_i02_not_an_image(tmp_path, data):
    assert load_code(tmp_path, data) == "image.not_an_image"


def test_i02_git_lfs_pointer(tmp_path):
    with pytest.raises(ImageError) as error:
        load(tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    assert error.value.row.code == "image.not_an_image" and error.value.hint == "run git lfs pull"


@pytest.mark.parametrize("share", [30, 90, 99])
@pytest.mark.parametrize(
    ("form", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("WEBP", {}), ("BMP", {})],
)
def test_i03_cut_files(tmp_path, form, options, share):
    data = encode(make_photo(200, 150), form, **options)
    code = load_code(tmp_path, data[: len(data) * share // 100])
    assert code == "image.truncated" or (form in ("GIF", "WEBP") and code == "image.corrupt")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
def test_i03_cut_tiff(tmp_path, compression):
    data = encode(make_photo(200, 150), "TIFF", compression=compression)
    assert load_code(tmp_path, data[: len(data) // 2]) in ("image.truncated", "image.corrupt")


def test_i03_a_lenient_process_does_not_make_the_loader_lenient(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert load_code(tmp_path, encode(make_photo(), "JPEG")[:-300]) == "image.truncated"
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_i04_one_flipped_byte_of_a_png(tmp_path):
    data = encode(make_photo())
    for position in [*range(60), *range(60, len(data), 97)]:
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        code = load_code(tmp_path, bytes(damaged))
        assert code in ("image.corrupt", "image.truncated", "image.not_an_image")


def measure_growth(path):
    """Load a file in a process of its own: the code it got, and by how many MiB its memory grew."""
    script = f"""
        import resource
        from pathlib import Path
        from hkdcli.data.images import ImageError, ImageFolder
        path = Path({str(path)!r})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            code = "x".join(map(str, ImageFolder(path.parent).load(path.name).image.size))
        except ImageError as error:
            code = error.row.code
        print(code, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=root)
    code, growth = done.stdout.split()
    return code, int(growth)


@pytest.mark.parametrize("side", [9_400, 20_000])
def test_i06_i07_bombs_are_refused_from_the_header(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(make_png(side, side))
    assert (tmp_path / "bomb.png").stat().st_size < 64_000
    code, growth = measure_growth(tmp_path / "bomb.png")
    assert code == "image.too_large" and growth < 50


@pytest.mark.parametrize("form", ["JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_i06_the_cap_holds_for_every_format(tmp_path, form):
    data = encode(make_photo(120, 100), form, **({"progressive": True} if form == "JPEG" else {}))
    assert load_code(tmp_path, data, max_pixels=11_999) == "image.too_large"
    assert load(tmp_path, data, max_pixels=12_000).image.size == (120, 100)


def test_i07_the_cap_is_our_own_not_that_of_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert load(tmp_path, encode(make_photo())).image.size == (64, 48)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_i08_text_chunk_bomb(tmp_path):
    assert load_code(tmp_path, make_text_bomb()) == "image.too_large"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_i09_exif_orientation(form, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    stored, _ = decode(encode(make_photo(), form, **options))
    stored.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(stored)
    upright, _ = decode(encode(make_photo(), form, exif=exif, **options))
    assert upright.size == ((48, 64) if orientation >= 5 else (64, 48))
    assert compute_pixel_hash(upright) == compute_pixel_hash(expected)


@pytest.mark.parametrize("orientation", [0, 9, 99, 65535])
def test_i10_orientation_unheard_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright, notes = decode(encode(make_photo(), exif=exif))
    assert compute_pixel_hash(upright) == compute_pixel_hash(make_photo()) and notes == ()


def test_i10_damaged_exif():
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encode(make_photo(), "JPEG", exif=exif)
    start = whole.index(b"Exif\0\0") + 6
    for length in range(0, 26, 2):
        damaged = whole[: start + length] + b"\xff" * (26 - length) + whole[start + 26 :]
        assert set(decode(damaged)[0].size) == {64, 48}


def test_i11_cmyk_jpeg():
    photo = make_photo()
    data = encode(photo.convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data
    difference = np.abs(np.asarray(decode(data)[0], dtype=int) - np.asarray(photo, dtype=int))
    assert difference.mean() < 6


@pytest.mark.parametrize(
    ("mode", "form"),
    [("L", "PNG"), ("LA", "PNG"), ("1", "PNG"), ("P", "PNG"), ("P", "GIF"), ("PA", "TIFF"), ("1", "TIFF")]
    + [
        ("YCbCr", "TIFF"),
        ("YCbCr", "JPEG"),
        ("LAB", "TIFF"),
        ("RGBA", "WEBP"),
        ("CMYK", "TIFF"),
        ("1", "BMP"),
    ],
)
def test_i12_modes(mode, form):
    photo = make_photo()
    if mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        stored = ImageCms.applyTransform(photo, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    elif mode == "PA":
        stored = photo.convert("P").convert("PA")
    else:
        stored = photo.convert(mode)
    image, _ = decode(encode(stored, form))
    gray = mode in ("L", "LA", "1")
    expected = average(photo.convert("L").convert("RGB") if gray else photo)
    assert image.mode == "RGB" and image.size == photo.size
    assert np.abs(average(image) - expected).max() < 8


@pytest.mark.parametrize(
    ("dtype", "scale", "form"),
    [
        (np.uint16, 65535, "PNG"),
        (np.uint16, 65535, "TIFF"),
        (np.int32, 65535, "TIFF"),
        (np.int32, 255, "TIFF"),
        (np.int32, 2**30, "TIFF"),
        (np.float32, 1, "TIFF"),
        (np.float32, 255, "TIFF"),
        (np.float32, 65535, "TIFF"),
    ],
)
def test_i13_deep_gray(dtype, scale, form):
    ramp = np.linspace(0, 1, 4000).reshape(50, 80) ** 2
    image, notes = decode(encode(Image.fromarray((ramp * scale).astype(dtype)), form))
    assert notes == ("image.16bit",) and image.mode == "RGB"
    assert abs(average(image)[0] / (ramp.mean() * 255) - 1) < 0.02
    assert np.asarray(image).min() == 0 and np.asarray(image).max() == 255


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("share", [1, 4000])
def test_i13_float_gray_with_nan(tmp_path, value, share):
    values = np.linspace(0, 1, 4000, dtype=np.float32)
    values[:share] = value
    data = encode(Image.fromarray(values.reshape(50, 80)), "TIFF")
    assert load_code(tmp_path, data) == "image.corrupt"
    with Image.open(BytesIO(data)) as opened, pytest.raises(ImageError) as refused:
        load_given_image(opened)
    assert refused.value.row.code == "image.corrupt"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_i04_float_gray_without_a_finite_number_is_corrupt(tmp_path, value):
    picture = encode(Image.fromarray(np.full((40, 40), value, dtype=np.float32)), "TIFF")
    assert load_code(tmp_path, picture) == "image.corrupt"


def hide_red(mode):
    """Red everywhere, transparent but for a blue square."""
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (10, 10, 30, 30))
    if mode == "RGBA":
        return encode(image)
    plain = Image.new("RGB", (40, 40), (255, 0, 0))
    plain.paste((0, 0, 255), (10, 10, 30, 30))
    if mode == "RGB":
        return encode(plain, transparency=(255, 0, 0))
    palette = plain.quantize(4)
    return encode(palette, "GIF" if mode == "GIF" else "PNG", transparency=palette.getpixel((0, 0)))


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "P", "GIF"])
def test_i14_hidden_colours_stay_hidden(mode):
    pixels = {colour for _, colour in decode(hide_red(mode))[0].getcolors()}
    assert pixels == {(255, 255, 255), (0, 0, 255)}


def test_i14_half_transparency_on_white():
    image, _ = decode(encode(Image.new("RGBA", (40, 40), (0, 0, 0, 128))))
    assert abs(image.getpixel((0, 0))[0] - 127) <= 1


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_i15_first_frame(form):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("blue", "red")]
    options = {"lossless": True} if form == "WEBP" else {}
    image, notes = decode(encode(frames[0], form, save_all=True, append_images=frames[1:], **options))
    assert image.getcolors() == [(1600, (0, 0, 255))] and notes == ("image.animated",)
    assert decode(encode(frames[0], form))[1] == ()


def test_i16_tiny_and_narrow(tmp_path):
    image = load(tmp_path, encode(Image.new("RGB", (1, 1), "blue")), min_side_px=28)
    assert image.image.size == (28, 28) and image.notes == ("image.padded",)
    image = load(tmp_path, encode(Image.new("RGB", (1, 100), "blue")))
    assert image.image.size == (28, 100)
    assert {(0, 0, 255), (255, 255, 255)} == {colour for _, colour in image.image.getcolors()}
    assert load_code(tmp_path, encode(Image.new("RGB", (1, 5000)))) == "image.aspect"
    assert load_code(tmp_path, encode(Image.new("RGB", (5000, 1)))) == "image.aspect"


@pytest.mark.parametrize("size", [(50, 10_000), (100, 20_000), (20_000, 100), (130, 26_000)])
def test_i16_a_long_picture_is_not_made_longer_than_it_may_be(tmp_path, size):
    """Rounding the short side down would: image processors refuse what is longer than 200 to 1."""
    image = load(tmp_path, encode(Image.new("L", size, 90))).image
    assert 100 < max(image.size) / min(image.size) <= 200


def test_i17_large_photo_is_decoded_small(tmp_path):
    Image.new("L", (12_000, 9_000), 90).save(tmp_path / "large.jpg")
    size, growth = measure_growth(tmp_path / "large.jpg")
    width, height = map(int, size.split("x"))
    assert 990_000 < width * height <= 1_003_520 and abs(width / height - 4 / 3) < 0.01
    assert growth < 250


@pytest.mark.parametrize("size", [(3000, 2000), (1500, 1000), (999, 1001)])
def test_i17_resize_keeps_the_aspect(size):
    fitted = fit_image(Image.new("RGB", size), (), ImagePolicy(resize_pixels=1_000_000))
    image, notes = fitted.image, fitted.notes
    assert image.width * image.height <= 1_000_000
    assert abs(image.width / image.height - size[0] / size[1]) < 0.01
    assert (notes == ("image.resized",)) == (size[0] * size[1] > 1_000_000)
    assert fit_image(Image.new("RGB", size), (), ImagePolicy(resize_pixels=None)).image.size == size


def test_i17_reduced_decoding_shows_the_same_picture(tmp_path):
    data = encode(make_photo(640, 480), "JPEG", quality=95)
    small = load(tmp_path, data, max_pixels=100_000)
    assert small.image.size == (320, 240) and small.notes == ("image.reduced",)
    assert np.abs(average(small.image) - average(make_photo())).max() < 3


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "EPS"),
        (b"\xc5\xd0\xd3\xc6" + b"\0" * 40, "EPS"),
        (b"\0\0\1\0\1\0", "ICO"),
        (b"8BPS\0\1", "PSD"),
    ],
)
def test_i18_other_formats(tmp_path, monkeypatch, data, name):
    def start_ghostscript(*_args, **_options):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", start_ghostscript)
    with pytest.raises(ImageError) as error:
        load(tmp_path, data)
    row = error.value.row
    assert row.code == "image.format" and name in row.detail
    assert row.hint == "accepted: JPEG, PNG, WebP, GIF, BMP, TIFF"


def test_i18_content_decides_not_the_extension(tmp_path):
    assert load(tmp_path, encode(make_photo(), "PNG"), name="photo.eps").image.size == (64, 48)
