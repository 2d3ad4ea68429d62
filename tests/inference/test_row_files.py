from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkdcli.errors import DataError, UsageError
from hkdcli.inference.row_files import merge_shards, put_in_order


def make_line(row_id: str, status: str = "ok", run: str = "r") -> bytes:
    row = {"id": row_id, "status": status, "prompt_hash": "p", "run_hash": run, "note": "\u2028" + row_id * 3}
    row |= {"task": "factuality", "record_hash": f"hash of {row_id}", "error": {"code": "some.code"}}
    return json.dumps(row).encode() + b"\n"


def make_records(ids):
    return {row_id: f"hash of {row_id}" for row_id in ids}


def read_ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_bytes().splitlines()]


@given(st.permutations([f"r{i}" for i in range(12)]), st.integers(1, 5))
def test_shards_of_any_order_become_the_file_in_the_order_of_the_data(tmp_path_factory, order, count):
    folder = tmp_path_factory.mktemp("shards")
    ids = [f"r{i}" for i in range(12)]
    shards = []
    for index in range(count):
        shards.append(folder / f"{index}.jsonl")
        shards[-1].write_bytes(b"".join(make_line(row_id) for row_id in order[index::count]))
    counts = merge_shards(shards, make_records(ids), folder / "all.jsonl")
    assert (folder / "all.jsonl").read_bytes() == b"".join(map(make_line, ids))
    assert counts == {"total": 12, "failed": 0, "abstained": 0}
    put_in_order(folder / "all.jsonl", order)
    assert read_ids(folder / "all.jsonl") == order


def test_failed_and_abstained_rows_are_counted(tmp_path):
    (tmp_path / "1").write_bytes(make_line("a", "error") + make_line("b", "abstain") + make_line("c"))
    assert merge_shards([tmp_path / "1"], make_records("abc"), tmp_path / "out") == {
        "total": 3,
        "failed": 1,
        "abstained": 1,
    }


def test_every_row_that_is_missing_repeated_or_unknown_is_named_at_once_and_nothing_is_written(tmp_path):
    (tmp_path / "1").write_bytes(make_line("a") + make_line("x") + make_line("b")[:-9])
    (tmp_path / "2").write_bytes(make_line("a") + make_line("c"))
    (tmp_path / "out").write_text("before")
    with pytest.raises(DataError) as caught:
        merge_shards([tmp_path / "1", tmp_path / "2"], make_records("abcd"), tmp_path / "out")
    assert {(row.code, row.id) for row in caught.value.rows} == {
        ("shard.repeated", "a"),
        ("shard.unknown", "x"),
        ("shard.missing", "b"),
        ("shard.missing", "d"),
    }
    assert (tmp_path / "out").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "out"]


def test_one_shard_named_twice_is_no_merge(tmp_path):
    (tmp_path / "1").write_bytes(make_line("a"))
    with pytest.raises(DataError, match=r"shard\.repeated"):
        merge_shards([tmp_path / "1", tmp_path / "1"], make_records("a"), tmp_path / "out")


def test_shards_of_different_runs_are_refused(tmp_path):
    (tmp_path / "1").write_bytes(make_line("a"))
    (tmp_path / "2").write_bytes(make_line("b", run="other"))
    with pytest.raises(UsageError, match="was not predicted as"):
        merge_shards([tmp_path / "1", tmp_path / "2"], make_records("ab"), tmp_path / "out")


@pytest.mark.parametrize("content", [b"[1]\n", b"no json\n", b'{"id": "a"}\n'])
def test_a_foreign_file_is_refused_with_its_line(tmp_path, content):
    (tmp_path / "1").write_bytes(make_line("b") + content)
    with pytest.raises(DataError, match="1:2"):
        merge_shards([tmp_path / "1"], make_records("ab"), tmp_path / "out")


def test_an_absent_shard_is_named(tmp_path):
    with pytest.raises(DataError, match="absent"):
        merge_shards([tmp_path / "absent"], make_records("a"), tmp_path / "out")


def test_a_file_that_is_in_order_is_not_written_again(tmp_path):
    path = tmp_path / "p"
    path.write_bytes(make_line("a") + make_line("b"))
    before = path.stat().st_ino
    put_in_order(path, ["a", "b"])
    assert path.stat().st_ino == before
