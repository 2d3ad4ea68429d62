"""No picture stands in two splits, none is lost, and what comes later moves nothing."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_records import make_factuality

from hkdcli.data.splits import SPLITS, split_examples

NAMES = st.lists(st.text(max_size=8), max_size=30)
SHARES = st.tuples(st.integers(0, 50), st.integers(0, 50))


def make_records(names):
    return [make_factuality(str(place), image=name) for place, name in enumerate(names)]


@given(NAMES, SHARES)
@settings(max_examples=100)
def test_every_record_is_in_one_split_with_all_of_its_picture(names, shares):
    examples = make_records(names)
    splits = split_examples(examples, dev=shares[0], test=shares[1])
    assert tuple(splits) == SPLITS
    assert sorted((each.id for split in splits.values() for each in split), key=int) == [
        each.id for each in examples
    ]
    images = [{each.image for each in split} for split in splits.values()]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(images, 2))
    assert all(
        [int(each.id) for each in split] == sorted(int(each.id) for each in split)
        for split in splits.values()
    )


@given(NAMES, NAMES, SHARES)
@settings(max_examples=100)
def test_what_comes_later_moves_nothing(names, later, shares):
    before = split_examples(make_records(names), dev=shares[0], test=shares[1])
    after = split_examples(make_records([*names, *later]), dev=shares[0], test=shares[1])
    assert all(after[name][: len(before[name])] == before[name] for name in SPLITS)


def test_shares_are_about_as_large_as_asked_for():
    splits = split_examples(make_records([f"{place}.jpg" for place in range(5000)]), dev=10, test=20)
    shares = [len(split) / 5000 for split in splits.values()]
    assert all(abs(share - wanted) < 0.02 for share, wanted in zip(shares, (0.7, 0.1, 0.2), strict=True))


def test_a_larger_test_takes_pictures_from_train_alone():
    """Otherwise a picture that was tested on could come to be learned from as shares grow."""
    examples = make_records([f"{place}.jpg" for place in range(500)])
    small, large = (split_examples(examples, dev=0, test=test)["test"] for test in (10, 30))
    assert {each.id for each in small} < {each.id for each in large}


def test_a_picture_goes_to_one_place_however_its_name_is_written():
    for name in ("0.jpg", "photos/1.jpg", "photos/2.jpg"):
        spelled = (name, f"./{name}", f"a/../{name}", name.replace("/", "//"))
        splits = split_examples(make_records(spelled), dev=30, test=30)
        assert sorted(map(len, splits.values())) == [0, 0, len(spelled)]
