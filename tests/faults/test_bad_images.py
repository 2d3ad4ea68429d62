"""Bad images as a user meets them: I01-I04, I06-I08, I16 and I18-I22, all in one folder.

Both sides: training refuses with exit 3 and counts every code; inference gives each its row and exit 5, and
answers the others. Pictures that are only unusual (I09-I15, I17) are answered. I05 is in test_doctor_command.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import call_hkd, read_rows
from image_makers import encode, make_photo, make_png, make_text_bomb
from PIL import Image
from record_makers import make_factuality
from small_recipe import render_recipe

JPEG = encode(make_photo(200, 150), "JPEG")
# Name of the image -> its file (None: no such file), and the code that its record gets.
BAD: Mapping[str, tuple[bytes | None, str]] = {
    "i01.jpg": (b"", "image.empty"),
    "i02.jpg": (b"<!DOCTYPE html><html>404</html>", "image.not_an_image"),
    "i02-lfs.jpg": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "image.not_an_image"),
    "i03.jpg": (JPEG[: len(JPEG) * 9 // 10], "image.truncated"),
    "i04.png": (encode(make_photo())[:60] + b"\0\1\2" + encode(make_photo())[63:], "image.corrupt"),
    "i06.png": (make_png(20_000, 20_000), "image.too_large"),
    "i07.png": (make_png(9_400, 9_400), "image.too_large"),
    "i08.png": (make_text_bomb(), "image.too_large"),
    "i16.png": (encode(Image.new("RGB", (1, 5000))), "image.aspect"),
    "i18.jpg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "image.format"),
    "i19.jpg": (None, "image.missing"),
    "i20-folder": (None, "image.not_regular"),
    "i20-pipe": (None, "image.not_regular"),
    "../i21.png": (encode(make_photo()), "image.path_escape"),
    "http://169.254.169.254/i22.png": (None, "image.url"),
}


def draw_unusual() -> Mapping[str, bytes]:
    """Files that are pictures all the same."""
    photo, exif = make_photo(), Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray((np.linspace(0, 65535, 3072).reshape(48, 64)).astype(np.uint16))
    frames: Any = {"save_all": True, "append_images": [photo.rotate(90)]}
    return {
        "i09.jpg": encode(photo, "JPEG", exif=exif),
        "i10.jpg": encode(photo, "JPEG", exif=b"Exif\0\0" + b"\xff" * 20),
        "i11.jpg": encode(photo.convert("CMYK"), "JPEG"),
        "i12.png": encode(photo.convert("LA")),
        "i13.png": encode(deep),
        "i14.png": encode(Image.new("RGBA", (40, 40), (255, 0, 0, 0))),
        "i15.gif": encode(photo, "GIF", **frames),
        "i16-dot.png": encode(Image.new("RGB", (1, 1), "blue")),
        "i16-long.png": encode(Image.new("L", (100, 20_000), 90)),
        "i17.jpg": encode(Image.new("L", (12_000, 9_000), 90), "JPEG"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of every bad picture and of every unusual one; read only."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "images" / "i20-folder").mkdir(parents=True)
    os.mkfifo(folder / "images" / "i20-pipe")
    (folder / "images" / "I19.JPG").write_bytes(JPEG)
    unusual = draw_unusual()
    for name, data in [*((name, data) for name, (data, _) in BAD.items()), *unusual.items()]:
        if data is not None:
            (folder / "images" / name).write_bytes(data)
    rows = [make_factuality(name, image_id=name, claim=f"Claim {name}") for name in (*BAD, *unusual)]
    (folder / "records.json").write_text(json.dumps(rows))
    (folder / "recipe.yaml").write_text(render_recipe("records.json"))
    return folder


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.chdir(folder)
    return call_hkd


def test_i01_i02_i03_i04_i06_i07_i08_i16_i18_i19_i20_i21_i22_training_refuses_and_counts(
    call: Callable[..., Any],
) -> None:
    said = call("distill-online", "recipe.yaml", "--dry-run", code=3).err
    assert f"{len(BAD)} of {len(BAD) + len(draw_unusual())}" in said
    for code, count in Counter(code for _, code in BAD.values()).items():
        assert f"{code} {count}" in said.partition("counts: ")[2], code
    for hint in ("run git lfs pull", "did you mean I19.JPG", "--allow-outside-root", "accepted: JPEG, PNG"):
        assert hint in said, hint


def test_i01_i02_i03_i04_i06_i07_i08_i16_i18_i19_i20_i21_i22_each_bad_image_fails_alone(
    call: Callable[..., Any], tmp_path: Path
) -> None:
    """I09-I15 and I17 beside them are answered, and evaluation drops none."""
    out = tmp_path / "p.jsonl"
    call("infer", "scenes:small", "records.json", "--out", out, code=5)
    found = {row["id"]: row["error"]["code"] if row["error"] else row["status"] for row in read_rows(out)}
    assert found == {name: code for name, (_, code) in BAD.items()} | dict.fromkeys(draw_unusual(), "ok")
    assert all(row["prediction"] is None for row in read_rows(out) if row["id"] in BAD)
    counts = call("evaluate", out, "records.json", "--json").document["counts"]
    assert (counts["error"], counts["missing"], counts["records"]) == (len(BAD), 0, len(found))


def test_i09_i10_i11_i12_i13_i14_i15_i16_i17_unusual_pictures_are_noted_by_the_doctor(
    call: Callable[..., Any], folder: Path
) -> None:
    """I13, I15: what was made of them is counted under stable codes."""
    rows = [row for row in json.loads((folder / "records.json").read_text()) if row["id"] not in BAD]
    from hkdcli.data.datasets import load_dataset
    from hkdcli.doctor.data import check_images

    (folder / "unusual.json").write_text(json.dumps(rows))
    finding = check_images(load_dataset(folder / "unusual.json"))
    assert finding.status == "ok"
    noted = "image.16bit 1, image.animated 1, image.padded 1, image.reduced 1, image.resized 2"
    assert finding.found.endswith(f"noted: {noted}")


def test_i21_outside_of_the_folder_is_opened_only_where_that_is_asked_for(
    call: Callable[..., Any], tmp_path: Path, folder: Path
) -> None:
    (folder / "one.json").write_text(json.dumps([make_factuality("x", image_id="../i21.png")]))
    call("infer", "scenes:small", "one.json", "--images", "images", "--out", tmp_path / "p", code=5)
    call(
        "infer",
        "scenes:small",
        "one.json",
        "--images",
        "images",
        "--out",
        tmp_path / "q",
        "--allow-outside-root",
    )
    assert read_rows(tmp_path / "q")[0]["status"] == "ok"


def test_i23_a_file_that_may_not_be_read_costs_its_record_alone(
    call: Callable[..., Any], tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything: the refusal is played."""
    opened = os.open

    def refuse(path: Any, *given: Any, **named: Any) -> int:
        if str(path).endswith("i09.jpg"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *given, **named)

    rows = [make_factuality(name, image_id=name, claim=name) for name in ("i09.jpg", "i11.jpg")]
    (folder / "two.json").write_text(json.dumps(rows))
    monkeypatch.setattr(os, "open", refuse)
    call("infer", "scenes:small", "two.json", "--out", tmp_path / "p", code=5)
    first, second = read_rows(tmp_path / "p")
    assert (first["error"]["code"], first["error"]["detail"]) == ("image.unreadable", "Permission denied")
    assert second["status"] == "ok"
