"""The files of the signal store: what is whole is read, what is not is missing, and nothing else happens."""

import json
import os
import resource
import struct
import tempfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from toy_signals import KEY, read_payloads

from hkdcli.distill import record_file
from hkdcli.distill.signal_store import SignalStore, StoredRecord
from hkdcli.errors import DataError, HkdError, MachineLimitError, SetupError, UsageError

NAMES = ("one", "two", "three")


def make_key(name):
    return name.encode().hex().ljust(64, "0")


def make_record(name, value=0.0):
    arrays = {"log_truth": np.full(1, value, np.float32), "choices": np.arange(3.0)[None]}
    return StoredRecord(make_key(name), name, arrays)


def fill(folder, names=NAMES, shard="a", value=0.0):
    """A store with one record per name, appended one by one; returns the shard's file."""
    store = SignalStore.open(folder, KEY)
    with store.write_shard(shard) as writer:
        for name in names:
            writer.append([make_record(name, value)])
    return folder / f"{shard}.records"


def find(folder, names=NAMES):
    """Which of the names the store has; each must be readable, and hold what was written."""
    store = SignalStore.open(folder, KEY)
    there = [name for name in names if make_key(name) in store]
    for name in there:
        assert store.read(make_key(name))["choices"].tolist() == [[0.0, 1.0, 2.0]]
    assert store.keys() == {make_key(name) for name in there}
    return there


def list_borders(data):
    """Where each record begins, and the end."""
    return [*(at for at in range(len(data)) if data.startswith(b"hkdsig1\n", at)), len(data)]


# Writing and reading


def test_what_was_written_is_read(tmp_path):
    store = SignalStore.open(tmp_path / "deep" / "store", KEY)
    assert store.describe().records == 0 and make_key("one") not in store
    with store.write_shard("a") as writer:
        writer.append([make_record("one", 1.0), make_record("two", 2.0)])
        assert make_key("one") in store  # at once
        writer.append([])
        writer.append([make_record("three", 3.0)])
    for found in (store, SignalStore.open(store.folder, KEY)):
        assert [found.read(make_key(name))["log_truth"].item() for name in NAMES] == [1.0, 2.0, 3.0]
        size = found.describe()
        assert (size.records, size.damaged) == (3, 0)
        assert size.bytes == (store.folder / "a.records").stat().st_size
        assert str(size) == "3 records, 0.0 MiB"
    with pytest.raises(KeyError):
        store.read(make_key("four"))
    assert sorted(path.name for path in store.folder.iterdir()) == ["a.records", "key.json"]


def test_every_number_type_survives(tmp_path):
    kinds = [np.float32, np.float16, np.int32, np.int64]
    arrays = {kind.__name__: np.random.default_rng(0).normal(0, 5, (2, 3)).astype(kind) for kind in kinds}
    store = SignalStore.open(tmp_path, KEY)
    with store.write_shard("a") as writer:
        writer.append([StoredRecord(make_key("x"), "half a character \ud800", arrays)])
    found = store.read(make_key("x"))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


def test_the_same_records_are_the_same_bytes(tmp_path):
    assert fill(tmp_path / "x").read_bytes() == fill(tmp_path / "y").read_bytes()


def test_a_record_names_its_example(tmp_path):
    assert b'"id":"two"' in fill(tmp_path).read_bytes()


def test_the_last_of_two_records_counts(tmp_path):
    fill(tmp_path, value=1.0)
    fill(tmp_path, ["two"], value=2.0)
    store = SignalStore.open(tmp_path, KEY)
    assert store.read(make_key("two"))["log_truth"].item() == 2.0
    assert store.describe().records == 3


def test_all_shards_are_read_also_one_that_is_being_written(tmp_path):
    fill(tmp_path, ["one"], "a")
    reader = SignalStore.open(tmp_path, KEY)
    with SignalStore.open(tmp_path, KEY).write_shard("b") as writer:
        writer.append([make_record("two")])
        assert make_key("two") not in reader
        reader.refresh()
        assert find(tmp_path) == ["one", "two"] and reader.keys() == {make_key("one"), make_key("two")}
        writer.append([make_record("three")])
        reader.refresh()
        assert make_key("three") in reader


def test_a_shard_has_one_writer(tmp_path):
    fill(tmp_path)
    store, other = SignalStore.open(tmp_path, KEY), SignalStore.open(tmp_path, KEY)
    with store.write_shard("a") as writer:
        with pytest.raises(UsageError, match="in use by process"), other.write_shard("a"):
            pass
        with other.write_shard("b") as beside:
            beside.append([make_record("four")])
            writer.append([make_record("five")])
    assert find(tmp_path, [*NAMES, "four", "five"]) == [*NAMES, "four", "five"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a.b", "a\n"])
def test_a_shard_cannot_lie_elsewhere(tmp_path, name):
    with (
        pytest.raises(ValueError, match="cannot name a shard"),
        SignalStore.open(tmp_path, KEY).write_shard(name),
    ):
        pass


def test_a_store_that_cannot_be_written_is_read():
    """As on a medium that is mounted for reading."""
    before = os.geteuid()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "store"
        fill(folder)
        for path, mode in ((Path(place), 0o755), (folder, 0o555), *((p, 0o444) for p in folder.iterdir())):
            path.chmod(mode)
        try:
            if before == 0:
                os.seteuid(65534)  # root may write whatever the mode says
            assert find(folder) == list(NAMES)
            with (
                pytest.raises(SetupError, match="cannot be written"),
                SignalStore.open(folder, KEY).write_shard("a"),
            ):
                pass
        finally:
            os.seteuid(before)
            folder.chmod(0o755)


# Damage


def test_a_torn_tail_is_dropped_and_cut_off_by_the_next_writer(tmp_path):
    """At every byte of the last record."""
    path = fill(tmp_path)
    whole = path.read_bytes()
    start = list_borders(whole)[2]
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        assert find(tmp_path) == ["one", "two"], cut
        assert path.stat().st_size == cut  # a reader changes nothing
        fill(tmp_path, ["three"])
        assert path.read_bytes() == whole, cut
    assert find(tmp_path) == list(NAMES)


@pytest.mark.parametrize("shard", ["a", "b"])
def test_only_the_writer_of_a_shard_cuts_it(tmp_path, shard):
    path = fill(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    torn = path.stat().st_size
    fill(tmp_path, ["three"], shard)
    assert find(tmp_path) == list(NAMES)
    assert (path.stat().st_size == torn) == (shard == "b")


def test_zeros_after_a_power_cut_are_a_torn_tail(tmp_path):
    path = fill(tmp_path)
    whole = path.read_bytes()
    start = list_borders(whole)[2]
    for zeros in (1, 200, len(whole) - start):
        path.write_bytes(whole[:start] + bytes(zeros))
        assert find(tmp_path) == ["one", "two"]
    for kept in (50, 120):  # the length is there already, of what it counts only a part
        path.write_bytes(whole[: start + kept] + bytes(len(whole) - start - kept))
        assert find(tmp_path) == ["one", "two"]
        fill(tmp_path, ["three"])
        assert path.read_bytes() == whole


def test_damage_in_the_middle_costs_one_record_that_is_stored_again(tmp_path):
    """Wherever it is, in the header or the payload; nothing behind it is lost."""
    path = fill(tmp_path)
    whole = bytearray(path.read_bytes())
    borders = list_borders(whole)
    payload = borders[1] + record_file._HEADER_BYTES
    for at in (*range(borders[1], payload), *range(payload, borders[2], 7)):
        damaged = whole.copy()
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        assert find(tmp_path) == ["one", "three"], at
        assert SignalStore.open(tmp_path, KEY).describe().damaged == 1
    fill(tmp_path, ["two"])
    assert find(tmp_path) == list(NAMES)
    assert path.read_bytes()[: len(whole)] == damaged  # nothing that stood there was lost


@pytest.mark.parametrize("place", ["a.records", "key.json"])
def test_i20_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path, place):
    fill(tmp_path)
    (tmp_path / place).unlink()
    os.mkfifo(tmp_path / place)
    with pytest.raises(DataError, match="no regular file"):
        SignalStore.open(tmp_path, KEY)


def test_a_record_damaged_after_it_was_found_is_refused(tmp_path):
    path = fill(tmp_path)
    store, whole = SignalStore.open(tmp_path, KEY), path.read_bytes()
    for data in (whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:], whole[:-1], b"", b"x" * len(whole)):
        path.write_bytes(data)
        with pytest.raises(DataError, match="damaged while the file was in use"):
            store.read(make_key("three"))


def test_a_length_beyond_all_memory_is_a_torn_tail(tmp_path):
    path = fill(tmp_path)
    whole = path.read_bytes()
    for length in (1, 2**31, 2**63, 2**64 - 1):
        rest = struct.pack("<Q32s32s", length, b"k" * 32, b"c" * 32)
        path.write_bytes(whole + b"hkdsig1\n" + struct.pack("<I", zlib.crc32(rest)) + rest)
        assert find(tmp_path) == list(NAMES)


def test_a_long_record_is_never_in_memory_as_a_whole(tmp_path):
    path, size = fill(tmp_path), 200 * 2**20
    rest = struct.pack("<Q32s32s", size, b"k" * 32, b"c" * 32)
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b"hkdsig1\n" + struct.pack("<I", zlib.crc32(rest)) + rest)
        file.truncate(file.tell() + size + 1)
    tracemalloc.start()
    try:
        assert find(tmp_path) == list(NAMES)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def append_payload(folder, payload):
    """A record whose checksum holds, whatever it carries."""
    path = fill(folder, [])
    file = record_file.RecordFile(path, SignalStore.open(folder, KEY)._seed)
    with file.open_for_append() as appender:
        appender.append([(bytes.fromhex(make_key("x")), payload)])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x",
        (2**63).to_bytes(8, "little"),
        (2).to_bytes(8, "little") + b"[]",
        *(
            len(text).to_bytes(8, "little") + text + bytes(4)
            for text in (
                b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4000000000]}}',
                b'{"a":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}',
                b'{"a":{"dtype":"WHAT","shape":[1],"data_offsets":[0,4]}}',
                b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}}',
            )
        ),
    ],
)
def test_a_record_that_holds_no_arrays_is_refused(tmp_path, payload):
    append_payload(tmp_path, payload)
    store = SignalStore.open(tmp_path, KEY)
    with pytest.raises(DataError, match="holds no arrays"):
        store.read(make_key("x"))


def test_a_shard_that_is_no_file_is_refused(tmp_path):
    fill(tmp_path)
    (tmp_path / "b.records").mkdir()
    with pytest.raises(DataError, match=r"b\.records: is no regular file"):
        SignalStore.open(tmp_path, KEY)


# Disk


def test_a_full_disk_costs_nothing_that_was_stored(tmp_path):
    path = fill(tmp_path)
    whole = path.read_bytes()
    store = SignalStore.open(tmp_path, KEY)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with store.write_shard("a") as writer:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 300, before[1]))
            with pytest.raises(MachineLimitError, match="no space left"):
                writer.append([make_record("four"), make_record("five")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == whole and make_key("four") not in store
        writer.append([make_record("four")])
    assert find(tmp_path, [*NAMES, "four"]) == [*NAMES, "four"]


# The store's key


def test_another_key_is_refused_with_every_difference(tmp_path):
    fill(tmp_path)
    other = {
        **KEY,
        "adapter": "x",
        "signal": {"top_k": 6, "states": {"layers": [1, 2], "grid": 2}},
        "more": 1,
    }
    with pytest.raises(UsageError) as caught:
        SignalStore.open(tmp_path, other)
    assert caught.value.exit_code == 2
    assert str(caught.value).splitlines() == [
        f"{tmp_path}: holds signals that are not those asked for; these differ",
        '  adapter                  was null, is "x"',
        "  signal.top_k             was 5, is 6",
        "  signal.states.layers[1]  was 3, is 2",
        "  more                     was absent, is 1",
    ]
    assert "refine.store" in caught.value.hint
    assert find(tmp_path) == list(NAMES)


def test_records_of_another_key_never_count(tmp_path):
    """As when two runs with different models make one folder at the same moment."""
    fill(tmp_path)
    (tmp_path / "key.json").write_text(json.dumps({**KEY, "adapter": "x"}))
    store = SignalStore.open(tmp_path, {**KEY, "adapter": "x"})
    assert store.keys() == set() and store.describe().damaged == 2


def test_signals_without_their_key_are_refused(tmp_path):
    fill(tmp_path)
    (tmp_path / "key.json").unlink()
    with pytest.raises(DataError, match=r"no key\.json") as caught:
        SignalStore.open(tmp_path, KEY)
    assert "delete the folder" in caught.value.hint
    assert not (tmp_path / "key.json").exists()


@pytest.mark.parametrize(
    "text",
    [b"", b"\xff\xfe", b"[]", b"3", b"[" * 100_000, b'{"a":' * 300_000, b'"' + b"x" * 2**21, b"1" * 9999],
)
def test_a_damaged_key_is_refused(tmp_path, text):
    fill(tmp_path)
    (tmp_path / "key.json").write_bytes(text)
    with pytest.raises(DataError, match=r"key\.json: is damaged"):
        SignalStore.open(tmp_path, KEY)


@pytest.mark.parametrize("depth", [50, 200, 400, 700, 950])
def test_a_deep_key_is_refused(tmp_path, depth):
    fill(tmp_path)
    (tmp_path / "key.json").write_bytes(b'{"a":' * depth + b"1" + b"}" * depth)
    with pytest.raises(HkdError):
        SignalStore.open(tmp_path, KEY)


def test_records_are_read_without_a_pickle(tmp_path, monkeypatch):
    fill(tmp_path)

    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    monkeypatch.setattr("pickle.Unpickler", refuse)
    monkeypatch.setattr("pickle.load", refuse)
    monkeypatch.setattr("pickle.loads", refuse)
    monkeypatch.setattr("torch.load", refuse)
    assert find(tmp_path) == list(NAMES)
    assert len(read_payloads(tmp_path)) == 3
