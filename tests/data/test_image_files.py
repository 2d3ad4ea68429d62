"""Names that records give their images: which are opened, and which are refused (I19-I23)."""

import errno
import os
import pickle
import unicodedata

import pytest
from image_makers import encode, make_photo

from hkdcli.data import image_files
from hkdcli.data.images import ImageError, ImageFolder, ImagePolicy


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for name in ("images/a.png", "images/sub/b.png", "outside.png"):
        (tmp_path / name).write_bytes(encode(make_photo()))
    return tmp_path / "images"


def refuse(root, name, **policy):
    with pytest.raises(ImageError) as error:
        ImageFolder(root, ImagePolicy(**policy)).load(name)
    return error.value.row


@pytest.mark.parametrize("name", ["a.png", "sub/b.png", "./a.png", "sub//b.png"])
def test_i19_what_is_there_loads(root, name):
    assert ImageFolder(root).load(name).image.size == (64, 48)


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ("Photo.JPG", "photo.jpg"),
        ("photo.jpeg", "photo.jpg"),
        ("photo.PNG", "Photo.jpg"),
        (
            unicodedata.normalize("NFD", "\u00e9t\u00e9.png"),
            unicodedata.normalize("NFC", "\u00e9t\u00e9.png"),
        ),
    ],
)
def test_i19_near_misses(root, there, asked):
    (root / there).write_bytes(b"")
    row = refuse(root, asked)
    assert row.code == "image.missing" and row.path == str(root / asked)
    assert row.hint.isascii() and row.hint.startswith("did you mean ")
    assert (there if there.isascii() else ascii(there)) in row.hint


def test_i19_nothing_near(root):
    assert refuse(root, "other.png").hint == ""
    assert refuse(root / "no such folder", "a.png").code == "image.missing"


def test_i19_near_misses_are_few(root):
    for number in range(9):
        (root / f"x.{number}").write_bytes(b"")
    assert refuse(root, "x.png").hint == "did you mean x.0, x.1, x.2?"


def test_i20_folders_pipes_and_devices(root, monkeypatch):
    os.mkfifo(root / "pipe.png")
    os.symlink("/dev/zero", root / "zero.png")

    def refuse_to_open(*_args):
        raise AssertionError("opened")

    monkeypatch.setattr(os, "open", refuse_to_open)
    assert refuse(root, "sub").code == "image.not_regular"
    assert refuse(root, "pipe.png").code == "image.not_regular"
    assert refuse(root, "zero.png").code == "image.path_escape"
    assert refuse(root, "zero.png", allow_outside_root=True).code == "image.not_regular"


def test_i20_a_pipe_that_takes_the_place_of_a_file(root, monkeypatch):
    regular = os.stat(root / "a.png")
    (root / "a.png").unlink()
    os.mkfifo(root / "a.png")
    monkeypatch.setattr(os, "stat", lambda *_args, **_options: regular)
    assert refuse(root, "a.png").code == "image.not_regular"


@pytest.mark.parametrize(
    "name",
    ["../outside.png", "sub/../../outside.png", "/etc/hostname", "a\0.png", "C:/x.png", "c:x.png"]
    + ["..\\outside.png", "sub\\b.png", "\\\\host\\share\\x.png", "sub/.."],
)
def test_i21_ways_out(root, name):
    row = refuse(root, name)
    assert row.code == "image.path_escape" and row.path == str(root) and row.detail.isascii()


def test_i21_links_out_of_the_root(root):
    (root / "link.png").symlink_to(root.parent / "outside.png")
    (root / "folder").symlink_to(root.parent)
    (root / "inside.png").symlink_to(root / "a.png")
    assert refuse(root, "link.png").code == "image.path_escape"
    assert refuse(root, "folder/outside.png").code == "image.path_escape"
    assert ImageFolder(root).load("inside.png").image.size == (64, 48)


def test_i21_a_root_that_is_itself_a_link(root):
    (root.parent / "alias").symlink_to(root)
    assert ImageFolder(root.parent / "alias").load("a.png").image.size == (64, 48)


def test_i21_opting_out(root):
    folder = ImageFolder(root, ImagePolicy(allow_outside_root=True))
    (root / "link.png").symlink_to(root.parent / "outside.png")
    for name in ("../outside.png", str(root.parent / "outside.png"), "link.png"):
        assert folder.load(name).image.size == (64, 48)
    assert refuse(root, "a\0.png", allow_outside_root=True).code == "image.path_escape"


@pytest.mark.parametrize("name", ["x" * 5000 + ".png", "loop.png", "\ud83d.png", "a.png/b.png"])
def test_i21_names_that_no_file_can_have(root, name):
    (root / "loop.png").symlink_to(root / "loop.png")
    assert refuse(root, name).code == "image.unreadable"


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize(
    "name",
    ["http://169.254.169.254/latest/meta-data", "https://example.org/x.png", "file:///etc/passwd", "HTTP://x"]
    + ["data:image/png;base64,AAAA", "//host/share.png", "ftp://x/y.png", "s3://bucket/x.png", " http://x"],
)
def test_i22_addresses_are_never_fetched(root, monkeypatch, name, outside):
    import socket

    monkeypatch.setattr(socket, "socket", None)
    row = refuse(root, name, allow_outside_root=outside)
    assert row.code == "image.url" and row.path == str(root)


def break_open(monkeypatch, number, times):
    """Make opening fail `times` times; returns the list of waits between the tries."""
    waits = []
    whole = os.open
    failures = [number] * times

    def fail(*args, **options):
        if failures:
            raise OSError(failures.pop(), "broken")
        return whole(*args, **options)

    monkeypatch.setattr(os, "open", fail)
    monkeypatch.setattr(image_files.time, "sleep", waits.append)
    return waits


@pytest.mark.parametrize("times", [0, 2, 3, 4])
def test_i23_a_flaky_file_system(root, monkeypatch, times):
    waits = break_open(monkeypatch, errno.EIO, times)
    if times <= 3:
        assert ImageFolder(root).load("a.png").image.size == (64, 48)
    else:
        assert refuse(root, "a.png").code == "image.unreadable"
    assert waits == sorted(waits) and len(waits) == min(times, 3)


def test_i23_permission_denied_is_not_tried_again(root, monkeypatch):
    waits = break_open(monkeypatch, errno.EACCES, 1)
    row = refuse(root, "a.png")
    assert (row.code, row.detail, waits) == ("image.unreadable", "broken", [])


def test_large_files_are_not_read(root):
    assert refuse(root, "a.png", max_bytes=100).code == "image.too_large"


def test_errors_and_folders_cross_processes(root):
    with pytest.raises(ImageError) as error:
        pickle.loads(pickle.dumps(ImageFolder(root))).load("none.png")
    again = pickle.loads(pickle.dumps(error.value))
    assert again.row == error.value.row and str(again) == str(error.value)
