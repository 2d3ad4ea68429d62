from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_records import make_factuality

from hkdcli.errors import MachineLimitError
from hkdcli.inference import batching
from hkdcli.inference.batching import BatchSize, order_windows, split

drawn = st.lists(st.tuples(st.integers(0, 5), st.text("ab ", max_size=40)), max_size=60)


def make_examples(records):
    return [
        make_factuality(f"r{i}", image=f"{image}.png", context=text)
        for i, (image, text) in enumerate(records)
    ]


@given(drawn)
def test_a_window_holds_each_record_once_and_those_of_an_image_together(records):
    examples = make_examples(records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "WINDOW", 20)
        windows = list(order_windows(examples))
    for number, window in enumerate(windows):
        assert sorted(e.id for e in window) == sorted(e.id for e in examples[20 * number : 20 * number + 20])
        images = [example.image for example in window]
        changes = sum(one != two for one, two in zip(images, images[1:], strict=False))
        assert changes == len(set(images)) - 1
    assert sum(map(len, windows)) == len(examples)


def test_records_of_like_length_come_together():
    lengths = [5, 900, 7, 800, 6, 850]
    examples = make_examples([(i, "a" * n) for i, n in enumerate(lengths)])
    (window,) = order_windows(examples)
    assert [len(example.context) for example in window] == sorted(lengths)


@given(st.lists(st.integers(), max_size=30), st.integers(1, 7))
def test_batches_are_the_records_in_order(records, size):
    batches = split(records, size)
    assert [record for batch in batches for record in batch] == records
    assert all(len(batch) == size for batch in batches[:-1])


def test_a_size_that_is_fixed_stays():
    size = BatchSize(5, largest=256)
    size.take_note(5, 0.0)
    assert size.size == 5


def test_auto_doubles_while_memory_allows_and_only_on_full_batches():
    size = BatchSize(None, largest=30)
    first = size.size
    size.take_note(first - 1, 0.1)
    assert size.size == first
    size.take_note(first, 0.1)
    assert size.size == 2 * first
    size.take_note(2 * first, 0.9)
    assert size.size == 2 * first
    size.take_note(2 * first, 0.1)
    assert size.size == 30


def test_what_did_not_fit_is_halved_for_good():
    size = BatchSize(None, largest=256)
    size.shrink(size.size)
    assert size.size == 4
    size.take_note(4, 0.0)
    assert size.size == 4


def test_three_records_that_do_not_fit_alone_are_the_machine_s_limit():
    size = BatchSize(8, largest=256)
    size.shrink(1)
    size.shrink(1)
    size.forgive()  # one that fits in between
    size.shrink(1)
    size.shrink(1)
    with pytest.raises(MachineLimitError, match="3 records in a row"):
        size.shrink(1)
