"""`--shard I/N` and `hkd merge-shards`: the same rows as in one go, or a refusal that says what is amiss."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import call_hkd, read_rows

MODEL = "scenes:small"
NUMBERS = ("posterior", "marginals", "confidence")  # equal but for the last digits


@pytest.fixture(scope="module")
def whole(scenes_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 40 records in one go; read only."""
    out = tmp_path_factory.mktemp("whole") / "p.jsonl"
    call_hkd("infer", MODEL, scenes_files / "records.json", "--out", out)
    return out


@pytest.fixture(scope="module")
def parts(scenes_files: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same in three shards; read only."""
    folder = tmp_path_factory.mktemp("parts")
    return [infer(scenes_files / "records.json", folder / f"{i}.jsonl", f"{i}/3") for i in (1, 2, 3)]


def infer(data: Path, out: Path, shard: str, *options: str | Path, code: int = 0) -> Path:
    call_hkd("infer", MODEL, data, "--shard", shard, "--out", out, *options, code=code)
    return out


def drop_numbers(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in NUMBERS} for row in rows]


def test_shards_together_are_the_whole(
    whole: Path, parts: list[Path], scenes_files: Path, tmp_path: Path
) -> None:
    out, records = tmp_path / "p.jsonl", scenes_files / "records.json"
    assert [len(read_rows(part)) for part in parts] == [14, 13, 13]
    counts = call_hkd("merge-shards", records, *reversed(parts), "--out", out, "--json").document
    assert counts == {"out": str(out), "total": 40, "failed": 0, "abstained": 0}
    merged, expected = read_rows(out), read_rows(whole)
    assert drop_numbers(merged) == drop_numbers(expected)
    for row, other in zip(merged, expected, strict=True):
        assert row["marginals"] == pytest.approx(other["marginals"], abs=1e-5)
    assert sorted(out.read_bytes().split(b"\n")) == sorted(
        b"".join(part.read_bytes() for part in parts).split(b"\n")[:-1] + [b""]
    )
    scores = [
        call_hkd("evaluate", path, records, "--json").document["metrics"]["micro_f1"] for path in (out, whole)
    ]
    assert scores[0] == scores[1]


def test_one_shard_of_one_is_the_file(whole: Path, scenes_files: Path, tmp_path: Path) -> None:
    out = infer(scenes_files / "records.json", tmp_path / "p.jsonl", "1/1")
    assert out.read_bytes() == whole.read_bytes()
    call_hkd("merge-shards", scenes_files / "records.json", out, "--out", tmp_path / "m.jsonl")
    assert (tmp_path / "m.jsonl").read_bytes() == whole.read_bytes()


def refuse(records: Path, shards: list[Path], out: Path, *, code: int = 3) -> str:
    said = call_hkd("merge-shards", records, *shards, "--out", out, "--json", code=code)
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*"))
    assert said.document["exit_code"] == code
    return said.err


def test_shards_that_do_not_add_up_are_refused_by_name(
    parts: list[Path], scenes_files: Path, tmp_path: Path
) -> None:
    one, two, three = parts
    records, out = scenes_files / "records.json", tmp_path / "p.jsonl"
    said = refuse(records, [one, three], out)
    assert "13 rows keep the shards from being merged" in said and "shard.missing" in said
    said = refuse(records, [one, two, three, two], out)
    assert "shard.repeated 13" in said and f"is in {two} too" in said
    assert "cannot read predictions" in refuse(records, [one, two, tmp_path / "absent"], out)
    assert "cannot be read as a prediction" in refuse(records, [one, two, records], out)


def test_an_unfinished_shard_is_refused_until_it_is_resumed(
    whole: Path, parts: list[Path], scenes_files: Path, tmp_path: Path
) -> None:
    records, out = scenes_files / "records.json", tmp_path / "p.jsonl"
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(parts[1].read_bytes()[:-20])  # a kill left it so
    said = refuse(records, [parts[0], cut, parts[2]], out)
    assert "1 rows keep the shards" in said and "--resume" in said
    infer(records, cut, "2/3", "--resume")
    assert cut.read_bytes() == parts[1].read_bytes()
    call_hkd("merge-shards", records, parts[0], cut, parts[2], "--out", out)
    assert drop_numbers(read_rows(out)) == drop_numbers(read_rows(whole))


def test_shards_of_other_data_or_another_way_of_asking_are_refused(
    parts: list[Path], scenes_files: Path, tmp_path: Path
) -> None:
    records, out = scenes_files / "records.json", tmp_path / "p.jsonl"
    said = refuse(records, [*parts[:2], infer(records, tmp_path / "s", "3/3", "--shift")], out, code=2)
    assert "was not predicted as" in said and "same shifts" in said
    rows = json.loads(records.read_text())
    (tmp_path / "fewer.json").write_text(json.dumps(rows[:39]))
    shutil.copytree(scenes_files / "images", tmp_path / "images")
    said = refuse(tmp_path / "fewer.json", parts, out)
    assert "1 rows keep the shards" in said and "shard.unknown" in said and rows[39]["id"] in said


def test_what_is_there_is_replaced_only_where_that_was_said(
    parts: list[Path], scenes_files: Path, tmp_path: Path
) -> None:
    out, records = tmp_path / "p.jsonl", scenes_files / "records.json"
    out.write_text("mine")
    assert "--overwrite" in call_hkd("merge-shards", records, *parts, "--out", out, code=2).err
    assert out.read_text() == "mine"
    call_hkd("merge-shards", records, *parts, "--out", out, "--overwrite")
    assert len(read_rows(out)) == 40


def test_failed_records_of_every_shard_are_in_the_whole(scenes_files: Path, tmp_path: Path) -> None:
    """An image that is broken, and a record that is none: exit 5 from the shard that has them, and after."""
    rows = json.loads((scenes_files / "records.json").read_text())[:9]
    rows[4]["choices"] = []
    folder = Path(shutil.copytree(scenes_files / "images", tmp_path / "images"))
    (folder / rows[5]["image_id"]).write_bytes(b"")
    data, out = tmp_path / "records.json", tmp_path / "p.jsonl"
    data.write_text(json.dumps(rows))
    parts = [infer(data, tmp_path / f"{i}", f"{i}/2", code=code) for i, code in ((1, 5), (2, 0))]
    counts = call_hkd("merge-shards", data, *parts, "--out", out, "--json", code=5).document
    assert (counts["total"], counts["failed"]) == (9, 2)
    status = {row["id"]: row["status"] for row in read_rows(out)}
    assert len(status) == 9
    assert {row_id for row_id, said in status.items() if said == "error"} == {rows[4]["id"], rows[5]["id"]}
