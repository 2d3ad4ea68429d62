"""Targets that read data: records in every form, facts, locks, pictures, predictions, submissions."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from fuzz_targets import Seeds, Target

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "data"))
from image_makers import encode, make_photo
from record_makers import make_rows

from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import read_examples, write_examples
from hkdcli.data.fact_file import read_facts
from hkdcli.data.images import ImageError, ImageFolder
from hkdcli.data.line_stream import LineStream
from hkdcli.data.lock import verify_data_lock, write_data_lock
from hkdcli.data.records import Example
from hkdcli.errors import BadRow, DataError
from hkdcli.planning.records import _read_size

ENCODINGS = ("utf-8", "utf-16", "latin-1", "utf-7")


def check_read(path: Path, **options: Any) -> None:
    """Read records, and hold what is promised of every file: rows have codes, examples come back."""
    result = read_examples(path, **options)
    assert all(row.code.startswith(("data.", "record.")) for row in result.bad_rows)
    assert len({example.id for example in result.examples}) == len(result.examples)
    again = path.with_name("again.jsonl")
    write_examples(again, result.examples)
    if result.examples:
        assert read_examples(again).examples == result.examples


def read_records(variant: str, content: bytes, folder: Path) -> None:
    (folder / "rows").write_bytes(content)
    strict = variant == "strict"
    check_read(folder / "rows", encoding="utf-8" if strict else variant, strict=strict)


def make_record_files() -> Seeds:
    rows = make_rows()
    whole = json.dumps(rows, indent=1)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    wrapped = json.dumps({"metadata": rows[2]})
    yield from (("utf-8", text.encode()) for text in (whole, lines, wrapped, json.dumps(rows[-1])))
    yield from ((encoding, lines.encode(encoding)) for encoding in ENCODINGS[1:])
    yield "strict", lines.encode()


def read_stream(variant: str, content: bytes, folder: Path) -> None:
    (folder / "lines").write_bytes(content)
    descriptor = os.open(folder / "lines", os.O_RDONLY)
    size = int(variant)
    try:
        for batch in LineStream(descriptor).iterate_batches(size):
            assert 0 < len(batch) <= size and all(isinstance(each, Example | BadRow) for each in batch)
    finally:
        os.close(descriptor)


def make_streams() -> Seeds:
    lines = "".join(json.dumps(row) + "\n" for row in make_rows()).encode()
    yield from (("1", lines), ("4", lines), ("4", json.dumps(make_rows()).encode()))


def read_parquet(variant: str, content: bytes, folder: Path) -> None:
    (folder / "rows.parquet").write_bytes(content)
    check_read(folder / "rows.parquet")


def make_parquet_files() -> Seeds:
    from pyarrow import Table, parquet

    for options in ({}, {"compression": "none", "use_dictionary": False}, {"compression": "zstd"}):
        buffer = io.BytesIO()
        parquet.write_table(Table.from_pylist(_take_columns()), buffer, **options)
        yield "file", buffer.getvalue()


def _take_columns() -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "meta"} for row in make_rows()]


def read_arrow_folder(variant: str, content: bytes, folder: Path) -> None:
    target = folder / "dataset"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name, whole in make_arrow_files():
        (target / name).write_bytes(whole)
    (target / variant).write_bytes(content)
    check_read(target)


@cache
def make_arrow_files() -> Seeds:
    import pyarrow

    table = pyarrow.Table.from_pylist(_take_columns())
    buffer = io.BytesIO()
    with pyarrow.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}
    return [("state.json", json.dumps(state).encode()), ("data-00000-of-00001.arrow", buffer.getvalue())]


def read_fact_file(variant: str, content: bytes, folder: Path) -> None:
    (folder / "facts.jsonl").write_bytes(content)
    facts = read_facts(folder / "facts.jsonl").get_facts("shelf.jpg")
    assert facts.objects is None or set(facts.objects) <= facts.vocabulary


def make_fact_files() -> Seeds:
    rows = [
        {"image_id": "shelf.jpg", "objects": ["shelf", "red apple"], "captions": ["A shelf stands there."]},
        {"file_name": "tower.jpg", "captions": ["A tower."], "width": 640},
    ]
    yield "file", json.dumps(rows).encode()
    yield "file", "".join(json.dumps(row) + "\n" for row in rows).encode()


def read_lock(variant: str, content: bytes, folder: Path) -> None:
    (folder / "data.lock").write_bytes(content)
    verify_data_lock(_build_dataset(folder), folder / "data.lock")


def make_locks() -> Seeds:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write_data_lock(_build_dataset(Path(folder)), Path(folder) / "data.lock")
        yield "file", (Path(folder) / "data.lock").read_bytes()


def _build_dataset(folder: Path) -> Dataset:
    rows = folder / "locked.jsonl"
    if not rows.exists():
        rows.write_text("".join(json.dumps(row) + "\n" for row in make_rows()))
        for name in ("shelf.jpg", "tower.jpg"):
            (folder / name).write_bytes(encode(make_photo(), "JPEG"))
    return Dataset("locked", read_examples(rows).examples, ImageFolder(folder))


def read_image(variant: str, content: bytes, folder: Path) -> None:
    (folder / "picture").write_bytes(_mend_png(content) if variant == "checksums mended" else content)
    loaded = ImageFolder(folder).load("picture")
    assert loaded.image.mode == "RGB" and min(loaded.image.size) >= 28 and len(loaded.pixel_hash) == 64
    assert loaded.image.width * loaded.image.height <= 28 * 28 * 200 + 1_003_520


def read_image_size(variant: str, content: bytes, folder: Path) -> None:
    (folder / "picture").write_bytes(content)
    width, height = _read_size(ImageFolder(folder), "picture")
    assert width >= 0 and height >= 0


def make_images() -> Seeds:
    photo = make_photo()
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        yield "as it is", encode(photo, form)
    yield "as it is", encode(photo, "JPEG", progressive=True, exif=_build_exif())
    yield "as it is", encode(photo.convert("P"), "TIFF", compression="tiff_lzw")
    yield "as it is", encode(photo.convert("F"), "TIFF")
    yield "as it is", encode(photo, "WEBP", lossless=True)
    yield "as it is", encode(photo.convert("P"), "GIF", save_all=True, append_images=[photo.rotate(180)])
    for mode in ("P", "RGBA", "I;16", "1", "L"):
        picture = photo.convert("L").convert(mode) if mode == "I;16" else photo.convert(mode)
        yield "checksums mended", encode(picture, "PNG")
    yield "checksums mended", encode(photo, "PNG", save_all=True, append_images=[photo.rotate(180)])


def make_plain_images() -> Seeds:
    return [("as it is", content) for _, content in make_images()]


def _build_exif() -> Any:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _mend_png(content: bytes) -> bytes:
    """Give every chunk of a PNG the checksum of what it holds now, so that the decoder gets to see it."""
    parts, position = [content[:8]], 8
    while position + 12 <= len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4])
        body = content[position + 4 : end - 4]
        parts += [content[position : position + 4], body, struct.pack(">I", zlib.crc32(body))]
        position = end
    return b"".join(parts)


TARGETS = {
    "records": Target(read_records, "read_examples", (*ENCODINGS, "strict"), (DataError,), make_record_files),
    "line stream": Target(read_stream, "LineStream", ("1", "4"), (DataError,), make_streams),
    "parquet": Target(read_parquet, "read_examples", ("file",), (DataError,), make_parquet_files),
    "arrow folder": Target(
        read_arrow_folder,
        "read_examples",
        ("state.json", "data-00000-of-00001.arrow"),
        (DataError,),
        make_arrow_files,
    ),
    "facts": Target(read_fact_file, "read_facts", ("file",), (DataError,), make_fact_files),
    "data lock": Target(read_lock, "verify_data_lock", ("file",), (DataError,), make_locks),
    "image": Target(read_image, "ImageFolder", ("as it is", "checksums mended"), (ImageError,), make_images),
    "image size": Target(read_image_size, "_read_size", ("as it is",), (), make_plain_images),
}
