"""A dataset of variants on disk: what it holds, gone on with after any kill, and what it leaves alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from tiny_records import make_hallucination

from hkdcli.augment import writing
from hkdcli.augment.making import name_class
from hkdcli.augment.writing import VariantWriter
from hkdcli.augmenting import AugmentOptions, Target, augment
from hkdcli.data.examples import read_examples, write_examples
from hkdcli.data.images import ImageFolder
from hkdcli.errors import DataError, MachineLimitError, StoppedError, UsageError
from hkdcli.opening import DataOptions
from hkdcli.scenes.source import load_scenes, write_scenes

SCENES = DataOptions("scenes:train", limit=12, on_bad="error")
OPTIONS = AugmentOptions(copies=2, seed=3, policy="strong")


def write(out: Path, data: DataOptions = SCENES, options: AugmentOptions = OPTIONS, **more):
    return augment(data, options, Target(out, nproc=more.pop("nproc", 1), **more)).document


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def read_all(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """What nothing interrupted; read only."""
    out = tmp_path_factory.mktemp("whole") / "d"
    write(out)
    return out


def test_r03_a_disk_that_fills_up_is_told_and_leaves_no_file_open(tmp_path, monkeypatch):
    """Also where the rows that it did not take, being few, are still held as the files are closed."""
    locate, writers, few = writing._locate, [], DataOptions("scenes:train", limit=1, on_bad="error")

    def locate_full(folder: Path, name: str) -> Path:
        return Path("/dev/full") if name == writing.RECORDS else locate(folder, name)

    monkeypatch.setattr(writing, "_locate", locate_full)
    monkeypatch.setattr(
        VariantWriter, "_go_on", lambda writer: writers.append(writer)
    )  # which would read the device
    with pytest.raises(MachineLimitError, match="no space left to write") as caught:
        write(tmp_path / "d", few)
    assert caught.value.exit_code == 4
    assert [file.closed for file in writers[0]._files.values()] == [True, True]
    monkeypatch.undo()
    write(tmp_path / "d", few, resume=True)
    assert 1 < len(read_lines(tmp_path / "d" / "records.jsonl")) <= 3


@pytest.fixture
def photos(tmp_path) -> DataOptions:
    """Records about files: a JPEG, a PNG with an alpha channel, a GIF; two records share one."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    base = Image.effect_noise((60, 50), 90)
    base.convert("RGB").save(folder / "images" / "a.jpg", quality=80)
    base.convert("RGBA").save(folder / "images" / "b.png")
    base.save(folder / "images" / "c.gif")
    names = {"h1": "a.jpg", "h2": "b.png", "h3": "c.gif", "h4": "a.jpg"}
    write_examples(folder / "r.jsonl", [make_hallucination(each, image=name) for each, name in names.items()])
    return DataOptions(str(folder / "r.jsonl"), on_bad="error")


def test_records_come_as_they_are_and_then_their_variants(whole):
    written = read_examples(whole / "records.jsonl").examples
    originals = {example.id: example for example in load_scenes("train", size=12).examples}
    assert len(written) == 36
    images = ImageFolder(whole / "images")
    for example in written:
        images.load(example.image)
        source = originals[example.id.split("~")[0]]
        if "~" not in example.id:
            assert (example.caption, example.claim, example.answer) == (
                source.caption,
                source.claim,
                source.answer,
            )
        else:
            told = example.extra["augmented"]
            assert told["source"] == source.id and told["source_image"] == source.image
            assert example.id == f"{source.id}~{told['copy']}"


def test_the_manifest_says_of_every_variant_what_was_done(whole):
    records = {row["id"]: row for row in read_lines(whole / "records.jsonl")}
    entries = read_lines(whole / "manifest.jsonl")
    assert [entry["id"] for entry in entries if entry["written"]] == list(records)
    applied = Counter(name for entry in entries for name in entry["applied"])
    refused = [entry["refused"] for entry in entries if entry["refused"]]
    assert len(applied) > 12 and refused
    assert all(isinstance(reason, str) and reason for each in refused for reason in each.values())
    counts = json.loads((whole / "augment.json").read_text())["counts"]
    assert {
        name: each["applied"] for name, each in counts["operations"].items() if each["applied"]
    } == applied


def test_classes_are_counted_as_they_were_written(whole):
    counts = json.loads((whole / "augment.json").read_text())["counts"]
    found = Counter(
        (example.task, name_class(example)) for example in read_examples(whole / "records.jsonl").examples
    )
    told = {(task, name): n for task, each in counts["classes_after"].items() for name, n in each.items()}
    assert told == found


@pytest.mark.parametrize("nproc", [2, 3])
def test_the_number_of_processes_changes_no_byte(whole, tmp_path, nproc):
    write(tmp_path / "d", nproc=nproc)
    assert read_all(tmp_path / "d") == read_all(whole)


def test_another_seed_makes_other_variants_of_the_same_records(whole, tmp_path):
    write(tmp_path / "d", options=AugmentOptions(copies=2, seed=4, policy="strong"))
    mine, others = (read_lines(folder / "records.jsonl") for folder in (tmp_path / "d", whole))
    assert mine[::3] == others[::3] and mine[1] != others[1]


def test_pictures_that_nothing_changed_are_the_very_files(photos, tmp_path):
    options = AugmentOptions(copies=1, probabilities=dict.fromkeys(list_image_operations(), 0.0))
    write(tmp_path / "d", photos, options)
    source = Path(photos.source).parent / "images"
    assert Counter(read_all(tmp_path / "d" / "images").values()) == Counter(
        path.read_bytes() for path in source.iterdir()
    )


def test_changed_pictures_are_jpeg_where_they_were_and_lossless_else(photos, tmp_path):
    only = dict.fromkeys(list_all_operations(), 0.0) | {"flip": 1.0}
    write(tmp_path / "d", photos, AugmentOptions(copies=1, probabilities=only))
    entries = read_lines(tmp_path / "d" / "manifest.jsonl")
    suffixes = {entry["source"]: Path(entry["image"]).suffix for entry in entries if entry["copy"]}
    assert suffixes == {"h1": ".jpg", "h2": ".png", "h3": ".png", "h4": ".jpg"}
    assert all((tmp_path / "d" / "images" / entry["image"]).is_file() for entry in entries)


def test_variants_without_any_change_are_left_out_and_counted(tmp_path):
    only = dict.fromkeys(list_all_operations(), 0.0) | {"hue": 1.0}
    counts = write(tmp_path / "d", options=AugmentOptions(copies=2, probabilities=only))["counts"]
    assert counts["left_out"] > 0 and counts["left_out"] + counts["variants"] == 24
    assert len(read_lines(tmp_path / "d" / "records.jsonl")) == 12 + counts["variants"]
    assert len(read_lines(tmp_path / "d" / "manifest.jsonl")) == 36


def list_all_operations() -> list[str]:
    from hkdcli.augment.operations import get_operations

    return list(get_operations())


def list_image_operations() -> list[str]:
    from hkdcli.augment.operations import get_operations

    return [name for name, each in get_operations().items() if each.kind == "image"]


def cut(folder: Path, whole: Path, records: int, manifest: int, rest: bytes = b"") -> None:
    """What a kill leaves: some lines of each file, the settings, all pictures and a half-written one."""
    folder.mkdir()
    settings = json.loads((whole / "augment.json").read_text())["settings"]
    (folder / "unfinished.json").write_text(json.dumps(settings))
    for name, count in (("records", records), ("manifest", manifest)):
        lines = (whole / f"{name}.jsonl").read_bytes().splitlines(keepends=True)
        (folder / f"{name}.partial.jsonl").write_bytes(b"".join(lines[:count]) + rest)
    (folder / "images").mkdir()
    (folder / "images" / ".half.png.99.tmp").write_bytes(b"half")


@pytest.mark.parametrize(
    ("records", "manifest", "rest"),
    [
        (0, 0, b""),
        (36, 0, b""),
        (7, 5, b'{"id": "h'),
        (5, 7, b""),
        (9, 9, b"\xff"),
        (36, 36, b""),
        (36, 35, b""),
    ],
)
def test_whatever_a_kill_leaves_a_resume_ends_in_the_same_bytes(whole, tmp_path, records, manifest, rest):
    cut(tmp_path / "d", whole, records, manifest, rest)
    if records >= 3:  # pictures of what is done are there
        for path in (whole / "images").iterdir():
            (tmp_path / "d" / "images" / path.name).write_bytes(path.read_bytes())
    write(tmp_path / "d", resume=True)
    assert read_all(tmp_path / "d") == read_all(whole)


def test_a_kill_between_the_last_renames_is_survived(whole, tmp_path):
    cut(tmp_path / "d", whole, 36, 36)
    (tmp_path / "d" / "records.partial.jsonl").rename(tmp_path / "d" / "records.jsonl")
    for path in (whole / "images").iterdir():
        (tmp_path / "d" / "images" / path.name).write_bytes(path.read_bytes())
    write(tmp_path / "d", resume=True)
    assert read_all(tmp_path / "d") == read_all(whole)


def test_an_interrupt_finishes_the_chunk_and_a_resume_goes_on(whole, tmp_path, monkeypatch):
    import os
    import signal

    from hkdcli.augment.writing import VariantWriter

    append = VariantWriter.append

    def interrupt(self, lines):
        append(self, lines)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(VariantWriter, "append", interrupt)
    with pytest.raises(StoppedError, match="8 of 12 records") as caught:
        write(tmp_path / "d")
    assert caught.value.exit_code == 130 and not (tmp_path / "d" / "records.jsonl").exists()
    monkeypatch.undo()
    write(tmp_path / "d", resume=True)
    assert read_all(tmp_path / "d") == read_all(whole)


def test_resuming_a_finished_dataset_changes_nothing(whole, tmp_path):
    write(tmp_path / "d")
    before = read_all(tmp_path / "d")
    write(tmp_path / "d", resume=True)
    assert read_all(tmp_path / "d") == before


def test_resuming_with_other_settings_names_each(tmp_path):
    write(tmp_path / "d")
    with pytest.raises(UsageError, match=r"seed +was 3, is 5"):
        write(tmp_path / "d", options=AugmentOptions(copies=2, seed=5, policy="strong"), resume=True)
    with pytest.raises(UsageError, match="records"):
        write(tmp_path / "d", DataOptions("scenes:train", limit=11, on_bad="error"), resume=True)


def test_what_is_there_is_not_overwritten_unasked_and_what_is_foreign_never(tmp_path):
    write(tmp_path / "d")
    with pytest.raises(UsageError, match="holds a dataset"):
        write(tmp_path / "d")
    other = AugmentOptions(copies=1, seed=9)
    write(tmp_path / "d", options=other, overwrite=True)
    write(tmp_path / "e", options=other)
    assert read_all(tmp_path / "d") == read_all(tmp_path / "e")
    (tmp_path / "d" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        write(tmp_path / "d", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_photos_of_ones_own_in_a_folder_of_that_name_are_safe(tmp_path, overwrite):
    """The challenge's own names are 16 hexadecimal digits."""
    (tmp_path / "d" / "images").mkdir(parents=True)
    (tmp_path / "d" / "images" / "00385794700c832e.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"images/00385794700c832e\.jpg"):
        write(tmp_path / "d", overwrite=overwrite)
    assert (tmp_path / "d" / "images" / "00385794700c832e.jpg").read_bytes() == b"mine"


def test_a_dataset_is_not_written_over_the_records_it_is_made_of(tmp_path):
    write(tmp_path / "d")
    with pytest.raises(UsageError, match="holds the records that are read"):
        write(tmp_path / "d", DataOptions(str(tmp_path / "d" / "records.jsonl")), overwrite=True)


def test_variants_of_variants_have_ids_of_their_own_or_are_refused(tmp_path):
    write(tmp_path / "d")
    again = DataOptions(str(tmp_path / "d" / "records.jsonl"), on_bad="error")
    with pytest.raises(DataError, match="~1"):
        write(tmp_path / "e", again)


def test_every_bad_image_is_named_before_anything_is_written(tmp_path):
    write_scenes(tmp_path / "in", load_scenes("train", size=4))
    images = sorted((tmp_path / "in" / "images").iterdir())
    images[0].write_bytes(b"")
    images[2].unlink()
    data = DataOptions(str(tmp_path / "in" / "records.json"), on_bad="error")
    with pytest.raises(DataError) as caught:
        write(tmp_path / "d", data)
    assert {row.code for row in caught.value.rows} == {"image.empty", "image.missing"}
    assert not (tmp_path / "d").exists()


def test_balance_evens_out_the_classes(tmp_path):
    only = dict.fromkeys(list_all_operations(), 0.0) | {"question": 1.0}
    options = AugmentOptions(copies=4, probabilities=only, balance=True)
    counts = write(tmp_path / "d", DataOptions("scenes:train", limit=40), options)["counts"]
    after = [n for each in counts["classes_after"].values() for n in each.values()]
    assert sum(after) == 200 and max(after) - min(after) <= 1
