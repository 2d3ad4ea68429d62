"""`hkd split`: three files that read back, and every way in which it writes nothing."""

import json

import pytest
from command_line import call_hkd
from tiny_records import make_factuality, make_hallucination

from hkdcli.data.examples import read_examples, write_examples

COUNT = 60


@pytest.fixture
def files(tmp_path):
    """Both tasks on the same pictures, in files of their own."""
    paths = tmp_path / "task1.json", tmp_path / "task2.jsonl"
    for path, make in zip(paths, (make_hallucination, make_factuality), strict=True):
        write_examples(path, [make(f"{path.stem}-{place}", image=f"{place}.jpg") for place in range(COUNT)])
    return paths


def test_both_tasks_are_shared_out_by_picture(files, tmp_path):
    out = tmp_path / "new/data"
    ran = call_hkd("split", *files, "--out", out, "--json")
    splits = ran.document["splits"]
    assert list(splits) == ["train", "dev", "test"]
    whole = []
    for name, told in splits.items():
        assert told["file"] == str(out / f"{name}.json")
        examples = read_examples(told["file"]).examples
        assert len(examples) == told["records"] == 2 * told["images"] == 2 * told["factuality"]
        whole += examples
    assert {each.id: each for each in whole} == {
        each.id: each for path in files for each in read_examples(path).examples
    }
    assert sum(told["images"] for told in splits.values()) == COUNT


def test_what_is_not_wanted_is_not_written(files, tmp_path):
    ran = call_hkd("split", files[0], "--out", tmp_path / "data", "--dev", "0")
    assert "train.json" in ran.out and "dev.json" not in ran.out
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["test.json", "train.json"]


def test_what_is_there_is_kept(files, tmp_path):
    call_hkd("split", *files, "--out", tmp_path)
    before = (tmp_path / "test.json").read_bytes()
    ran = call_hkd("split", files[0], "--out", tmp_path, code=2)
    assert "train.json: exists already" in ran.err and "--overwrite" in ran.err
    assert (tmp_path / "test.json").read_bytes() == before
    call_hkd("split", files[0], "--out", tmp_path, "--overwrite")
    assert (tmp_path / "test.json").read_bytes() != before


def test_a_file_of_another_split_does_not_stay_beside_it(files, tmp_path):
    call_hkd("split", *files, "--out", tmp_path / "data")
    before = (tmp_path / "data/train.json").read_bytes()
    ran = call_hkd("split", *files, "--out", tmp_path / "data", "--dev", "0", "--overwrite", code=2)
    assert "dev.json: is of another split, and --dev 0 would leave it there" in ran.err
    assert (tmp_path / "data/train.json").read_bytes() == before


def test_the_source_is_never_overwritten(files, tmp_path):
    (tmp_path / "train.json").write_bytes(files[0].read_bytes())
    ran = call_hkd("split", tmp_path / "train.json", "--out", tmp_path, "--overwrite", code=2)
    assert "is read by this command" in ran.err


def test_bad_rows_of_all_files_are_told_at_once(files, tmp_path):
    rows = json.loads(files[0].read_text())
    rows[3]["correct_choice"] = "Z"
    files[0].write_text(json.dumps(rows))
    with files[1].open("a") as file:
        file.write("{\n")
    ran = call_hkd("split", *files, "--out", tmp_path / "data", code=3)
    assert "2 rows cannot be used, nothing was written" in ran.err
    assert "record.unknown_answer" in ran.err and f"task2.jsonl:{COUNT + 1}" in ran.err
    assert not list((tmp_path / "data").glob("*.json"))


def test_one_id_in_two_files(files, tmp_path):
    """The same record is used once; another one under its id is refused."""
    again, other = tmp_path / "again.json", tmp_path / "other.json"
    examples = read_examples(files[0]).examples
    write_examples(again, examples)
    ran = call_hkd("split", files[0], again, "--out", tmp_path / "a", "--json")
    assert sum(told["records"] for told in ran.document["splits"].values()) == COUNT
    write_examples(other, [make_hallucination(examples[0].id, caption="a blue square")])
    ran = call_hkd("split", files[0], other, "--out", tmp_path / "b", code=3)
    assert f"other.json [{examples[0].id}]: record.duplicate_id" in ran.err


def test_shares_that_cannot_be(files, tmp_path):
    ran = call_hkd("split", *files, "--out", tmp_path / "a", "--dev", "50", "--test", "50", code=2)
    assert "--dev 50 and --test 50 leave no pictures for train" in ran.err
    few = tmp_path / "few.json"
    write_examples(few, [make_factuality("1")])
    ran = call_hkd("split", few, "--out", tmp_path / "b", code=3)
    assert "no picture of 1 falls to" in ran.err and "nothing was written" in ran.err
    assert not list((tmp_path / "b").glob("*.json"))
