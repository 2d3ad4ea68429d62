"""The comparison: what it lets pass, what it refuses, which records it asks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tiny_exports import Heard
from tiny_records import DrawnImages, make_factuality

from hkdcli.data.datasets import Dataset
from hkdcli.errors import BadRow, DataError, GateError
from hkdcli.exporting.parity import TOLERANCES, Tolerance, ask_source, choose_tolerance, compare_answers

RECORDS = tuple(make_factuality(f"f{i}") for i in range(6))


class FakeScorer:
    """Answers each record with the same numbers; refuses records without a claim, as a real one does."""

    def __init__(self, *log_probs: float, also: dict[str, tuple[float, ...]] | None = None) -> None:
        self.log_probs, self.also = log_probs, also or {}

    def score(self, examples, images, presentations):
        if examples[0].claim == "":
            raise DataError("no claim", [BadRow("record.empty_claim", examples[0].id, "", "empty")])
        numbers = self.also.get(examples[0].id, self.log_probs)
        return [SimpleNamespace(log_probs=np.array([numbers]))]


SOURCE = FakeScorer(-1.0, -2.0, -3.0, -40.0)


def ask(*records, count=16, images=None):
    return ask_source(SOURCE, Dataset("d", records, images or DrawnImages()), count, Heard())


def compare(scorer, tolerance, records=RECORDS):
    return compare_answers(scorer, ask(*records)[0], tolerance, "do this")


def test_equal_answers_pass_with_any_tolerance():
    assert compare(SOURCE, Tolerance(0.0)) == 0.0


def test_the_largest_difference_of_all_answers_counts():
    shifted = FakeScorer(-1.0, -2.0, -3.0, -40.25)
    assert compare(shifted, Tolerance(0.25)) == 0.25
    with pytest.raises(GateError, match=r"6 records 0 have another prediction, 6 a log-prob") as caught:
        compare(shifted, Tolerance(0.2))
    assert caught.value.exit_code == 6 and caught.value.hint == "do this"


def test_a_relative_tolerance_forgives_unlikely_answers_alone():
    assert compare(FakeScorer(-1.0, -2.0, -3.0, -44.0), Tolerance(0.1, 0.1)) == 4.0
    with pytest.raises(GateError):
        compare(FakeScorer(-1.25, -2.0, -3.0, -40.0), Tolerance(0.1, 0.1))


def test_another_prediction_is_refused_whatever_the_tolerance():
    flipped = FakeScorer(-1.0, -2.0, -3.0, -40.0, also={"f3": (-1.5, -1.4, -3.0, -40.0)})
    with pytest.raises(GateError, match=r"1 have another prediction \(f3\), 0 a log-prob"):
        compare(flipped, Tolerance(100.0))


def test_nan_is_never_within_a_tolerance():
    with pytest.raises(GateError):
        compare(FakeScorer(-1.0, -2.0, -3.0, float("nan")), Tolerance(100.0))


def test_so_many_records_are_asked_and_bad_ones_are_passed_over():
    broken, empty = make_factuality("b", image="broken.png"), make_factuality("e", claim="")
    asked, skipped = ask(broken, RECORDS[0], empty, *RECORDS[1:], count=3)
    assert [each.example.id for each in asked] == ["f0", "f1", "f2"]
    assert [row.code for row in skipped] == ["image.truncated", "record.empty_claim"]
    assert len(ask(*RECORDS, count=16)[0]) == 6


def test_without_a_single_usable_record_nothing_can_be_checked():
    with pytest.raises(DataError, match="d: none of its 2 records") as caught:
        ask(make_factuality("b", image="broken.png"), make_factuality("c", image="broken2.png"))
    assert len(caught.value.rows) == 2 and "--data" in str(caught.value.hint)


def test_the_coarsest_number_type_decides():
    order = ["float32", "float16", "bfloat16", "nf4"]
    assert [choose_tolerance("float32", name) for name in order] == [TOLERANCES[name] for name in order]
    assert TOLERANCES["float32"].relative == 0.0 and TOLERANCES["float32"].absolute <= 1e-3
    assert str(TOLERANCES["bfloat16"]) == "0.1 + 0.1 |log p|"
