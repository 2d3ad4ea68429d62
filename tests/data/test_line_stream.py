"""Records from a pipe: whatever pieces they come in, and without waiting for what is not needed."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example as case
from hypothesis import given, settings
from hypothesis import strategies as st
from record_makers import make_factuality

from hkdcli.data import line_stream
from hkdcli.data.examples import Example
from hkdcli.data.line_stream import LineStream
from hkdcli.errors import BadRow, DataError

Records = list[Example | BadRow]


def make_line(record_id: str = "r1", **fields: Any) -> bytes:
    return json.dumps(make_factuality(record_id, **fields), ensure_ascii=False).encode()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where something waits for what never comes."""

    def fail(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def open_pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            try:
                os.close(end)
            except OSError:
                continue  # the test closed it


def read_all(data: bytes, size: int = 3) -> Records:
    """The records of a file on stdin."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        batches = list(LineStream(file.fileno()).iterate_batches(size))
    assert all(1 <= len(batch) <= size for batch in batches)
    return [record for batch in batches for record in batch]


LINES = st.one_of(
    st.integers(0, 9).map(lambda n: make_line(f"r{n}")),
    st.integers(0, 9).map(lambda n: make_line(f"r{n}", note="\u2028\u0085 \u00e9") + b"\r"),
    st.integers(2, 5).map(lambda n: b"[" + b", ".join(make_line(f"a{k}") for k in range(n)) + b"]"),
    st.sampled_from(
        [b"", b"\r", b"  ", b"{", b"[", b"null", b"\xff\xfe", b'{"id": "\\ud83d"}', b"\xef\xbb\xbf"]
    ),
    st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"")),
)


@settings(deadline=None)
@given(
    st.lists(LINES, max_size=7),
    st.booleans(),
    st.lists(st.integers(0, 2000), max_size=9),
    st.integers(1, 4),
)
@case([make_line("r1"), make_line("r2")], False, [], 2)
def test_records_do_not_depend_on_the_pieces_they_come_in_and_none_waits_for_the_next(
    lines: list[bytes], is_ended: bool, cuts: list[int], size: int
) -> None:
    """After every piece, each record whose line is complete is given before the next piece is written."""
    data = b"\n".join(lines) + b"\n" * is_ended
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    seen: Records = []
    with open_pipe() as (source, target):
        batches = LineStream(source).iterate_batches(size)
        for start, end in zip(places, places[1:], strict=False):
            os.write(target, data[start:end])
            complete = data[: data.rfind(b"\n", 0, end) + 1]
            due = len(read_all(complete))
            with within(20):
                while len(seen) < due:
                    batch = next(batches)
                    assert 1 <= len(batch) <= size
                    seen += batch
            assert len(seen) == due
        os.close(target)
        with within(20):
            seen += [record for batch in batches for record in batch]
    assert seen == read_all(data)


def test_a_record_is_given_while_the_next_is_half_written() -> None:
    with open_pipe() as (source, target), within(20):
        batches = LineStream(source).iterate_batches(8)
        os.write(target, make_line("r1") + b"\n" + make_line("r2")[:40])
        assert [record.id for record in next(batches)] == ["r1"]
        os.write(target, make_line("r2")[40:] + b"\n")
        assert [record.id for record in next(batches)] == ["r2"]


def test_records_that_are_there_come_together() -> None:
    """As many as a batch takes: they are answered at once, and cheaper."""
    with open_pipe() as (source, target), within(20):
        batches = LineStream(source).iterate_batches(4)
        os.write(target, b"".join(make_line(f"r{n}") + b"\n" for n in range(6)))
        assert [record.id for record in next(batches)] == ["r0", "r1", "r2", "r3"]
        assert [record.id for record in next(batches)] == ["r4", "r5"]
        os.close(target)
        assert list(batches) == []


def test_d20_the_last_line_needs_no_end_and_ends_may_be_windows_ones() -> None:
    data = make_line("r1") + b"\r\n" + make_line("r2") + b"\r\n\r\n" + make_line("r3")
    assert [record.id for record in read_all(data)] == ["r1", "r2", "r3"]


def test_d20_d04_only_a_line_feed_ends_a_line_and_marks_are_dropped() -> None:
    (record,) = read_all(b"\xef\xbb\xbf" + make_line("r1", claim="one\u2028two\u0085three\x0bfour") + b"\n")
    assert isinstance(record, Example) and record.claim == "one\u2028two\u0085three\x0bfour"


def test_nothing_but_blank_lines_is_no_record() -> None:
    assert read_all(b"") == read_all(b"\n") == read_all(b"\r\n  \n\n\t") == []


@pytest.mark.parametrize(
    ("line", "code", "known_id"),
    [
        (b"no json", "data.format", ""),
        (b'{"id": "x"', "data.json", ""),
        (make_line("r1")[:-9], "data.json", ""),
        (make_line("r1") + make_line("r2"), "data.json", ""),
        (b"17", "data.format", ""),
        (b"\xff\xfe{}", "data.encoding", ""),
        (make_line("\u00e9").decode().encode("latin-1"), "data.encoding", ""),
        (b'{"id": "x", "id": "y"}', "data.duplicate_key", ""),
        (b'{"id": "x", "n": NaN}', "data.number", ""),
        (b"[" * 100_000, "data.nesting", ""),
        (make_line("r1", claim=None, context="x"), "record.missing_field", "r1"),
        (make_line("r1", claim="HERE").replace(b"HERE", b"\\ud83d"), "record.text", "r1"),
        (make_line("HERE").replace(b"HERE", b"\\ud83d"), "record.text", ""),
        (make_line("r1", claim="HERE").replace(b"HERE", b"\\u0000"), "record.text", "r1"),
    ],
)
def test_a_line_that_is_no_record_says_why_and_where_and_the_others_are_read(
    line: bytes, code: str, known_id: str
) -> None:
    first, bad, last = read_all(make_line("a") + b"\n\n" + line + b"\n" + make_line("b"))
    assert (first.id, last.id) == ("a", "b")
    assert isinstance(bad, BadRow) and (bad.code, bad.id) == (code, known_id)
    assert bad.path.startswith("stdin:3")
    str(bad).encode()  # and it can be shown


def test_a_line_of_a_megabyte_is_a_record_like_any_other() -> None:
    context, claim = "It stands in a shop.\n" * 45_000, "It is red. " * 20_000
    data = make_line("r1", context=context, claim=claim) + b"\n" + make_line("r2")
    assert len(data) > 2**20
    long, short = read_all(data)
    assert isinstance(long, Example) and long.context == context and short.id == "r2"


def test_a_line_without_end_is_refused_before_memory_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_stream, "MAX_LINE_BYTES", 100_000)
    with pytest.raises(DataError, match="stdin: a line of more than 100000 bytes"):
        read_all(b"x" * 300_000)


def test_d04_another_encoding_is_told_as_what_a_stream_can_do_about_it() -> None:
    (bad,) = read_all(make_line(context="\u00e9").decode().encode("latin-1"))
    assert isinstance(bad, BadRow) and (bad.code, bad.hint) == ("data.encoding", "send UTF-8")
