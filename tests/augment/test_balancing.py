"""How many variants each record gets: all of them given, and the classes as even as they can be."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hkdcli.augment.balancing import balance_copies

CLASSES = st.lists(st.sampled_from("abcd"), min_size=1, max_size=60)


@given(CLASSES, st.integers(1, 6), st.integers(0, 3))
def test_all_variants_are_given_and_none_is_negative(classes, copies, seed):
    given = balance_copies(classes, copies, seed)
    assert len(given) == len(classes) and sum(given) == copies * len(classes) and min(given) >= 0


@given(CLASSES, st.integers(1, 6))
def test_no_class_gets_a_variant_while_a_smaller_one_could_use_it(classes, copies):
    given = balance_copies(classes, copies, 0)
    sizes, after = Counter(classes), Counter(classes)
    for name, count in zip(classes, given, strict=True):
        after[name] += count
    filled = [name for name in sizes if after[name] > sizes[name]]
    assert max(after[name] for name in filled) - min(after[name] for name in filled) <= 1
    assert all(after[name] <= sizes[other] + 1 for other in sizes if other not in filled for name in filled)


@given(CLASSES, st.integers(1, 6))
def test_records_of_one_class_get_equally_many_but_for_one(classes, copies):
    given = balance_copies(classes, copies, 0)
    for name in set(classes):
        own = [count for each, count in zip(classes, given, strict=True) if each == name]
        assert max(own) - min(own) <= 1


def test_classes_come_out_even():
    classes = ["many"] * 60 + ["few"] * 20 + ["none"] * 4
    given = balance_copies(classes, 2, 1)
    after = Counter(classes)
    for name, count in zip(classes, given, strict=True):
        after[name] += count
    assert sorted(after.values()) == [84, 84, 84]


def test_the_seed_says_who_gets_the_odd_ones():
    classes = ["a"] * 30 + ["b"] * 7
    assert balance_copies(classes, 1, 0) == balance_copies(classes, 1, 0) != balance_copies(classes, 1, 1)
