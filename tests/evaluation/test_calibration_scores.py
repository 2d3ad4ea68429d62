"""Pure numbers of calibration and of the risk-coverage curve: laws, and other ways to compute the same."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from hkdcli.evaluation.calibration import (
    BINS,
    compute_brier,
    compute_calibration_error,
    compute_reliability,
)
from hkdcli.evaluation.selective import STEPS, compute_aurc, compute_risk_coverage, compute_risks

# Few different values, so that there are ties and edges of bins among them.
CONFIDENCES = st.one_of(st.sampled_from([0.0, 1 / 15, 0.2, 0.4, 0.6, 0.9, 1.0]), st.floats(0, 1))
JUDGED = st.lists(st.tuples(CONFIDENCES, st.booleans()), min_size=1, max_size=30)


def split(judged):
    return np.array([c for c, _ in judged], np.float64), np.array([right for _, right in judged], np.bool_)


def test_calibrated_confidences_have_a_small_error():
    generator = np.random.Generator(np.random.PCG64(7))
    confidence = generator.random(40_000)
    right = generator.random(40_000) < confidence
    assert compute_calibration_error(confidence, right) < 0.01
    assert compute_calibration_error(confidence**3, right) > 0.2


def test_certain_and_right_is_perfect():
    confidence, right = np.ones(7), np.ones(7, np.bool_)
    assert compute_calibration_error(confidence, right) == 0.0
    assert compute_aurc(confidence, right) == 0.0
    assert all(point["risk"] == 0.0 for point in compute_risk_coverage(confidence, right))
    assert compute_brier(((frozenset("A"), 1.0), (frozenset("B"), 0.0)), frozenset("A")) == 0.0


def test_certain_and_wrong_is_as_bad_as_it_gets():
    confidence, wrong = np.ones(7), np.zeros(7, np.bool_)
    assert compute_calibration_error(confidence, wrong) == 1.0
    assert compute_aurc(confidence, wrong) == 1.0
    assert compute_brier(((frozenset("A"), 1.0), (frozenset("B"), 0.0)), frozenset("B")) == 2.0


def test_nothing_is_undefined_and_not_zero():
    nothing = np.array([]), np.array([], np.bool_)
    assert compute_calibration_error(*nothing) is None and compute_aurc(*nothing) is None
    assert compute_risk_coverage(*nothing) == compute_reliability(*nothing) == []


@settings(max_examples=100, deadline=None)
@given(JUDGED)
def test_calibration_error_is_that_of_scikit_learn_bins(judged):
    confidence, right = split(judged)
    share_right, mean_confidence = calibration_curve(right, confidence, n_bins=BINS, strategy="uniform")
    edges = np.linspace(0, 1, BINS + 1)
    sizes = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=BINS)
    expected = (sizes[sizes > 0] * np.abs(share_right - mean_confidence)).sum() / len(judged)
    assert compute_calibration_error(confidence, right) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(2, 5), st.integers(1, 8))
def test_brier_is_that_of_scikit_learn(data, answers, records):
    weights = st.lists(st.integers(1, 9), min_size=answers, max_size=answers)
    rows = np.array(data.draw(st.lists(weights, min_size=records, max_size=records)), np.float64)
    rows /= rows.sum(axis=1, keepdims=True)
    gold = data.draw(st.lists(st.integers(0, answers - 1), min_size=records, max_size=records))
    posteriors = [tuple((frozenset({str(i)}), float(p)) for i, p in enumerate(row)) for row in rows]
    golds = [frozenset({str(index)}) for index in gold]
    found = np.mean([compute_brier(*pair) for pair in zip(posteriors, golds, strict=True)])
    labels = list(range(answers))
    expected = brier_score_loss(gold, rows, labels=labels, scale_by_half=False)
    assert found == pytest.approx(expected)


def test_an_answer_outside_the_posterior_has_probability_zero():
    posterior = ((frozenset("A"), 0.75), (frozenset("B"), 0.25))
    assert compute_brier(posterior, frozenset("CD")) == 0.75**2 + 0.25**2 + 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.3, 0.6]), st.booleans()), min_size=1, max_size=5))
def test_risks_of_ties_are_the_mean_over_all_their_orders(judged):
    by_order = []
    for order in permutations(judged):
        falling = sorted(order, key=lambda pair: -pair[0])  # stable: ties stay as this order has them
        wrong = np.cumsum([not right for _, right in falling])
        by_order.append(wrong / np.arange(1, len(judged) + 1))
    assert compute_risks(*split(judged)) == pytest.approx(np.mean(by_order, axis=0))


@settings(max_examples=100, deadline=None)
@given(JUDGED, st.randoms(use_true_random=False))
def test_order_changes_nothing_at_all(judged, shuffler):
    before = split(judged)
    shuffler.shuffle(judged)
    after = split(judged)
    assert compute_calibration_error(*before) == compute_calibration_error(*after)
    assert compute_aurc(*before) == compute_aurc(*after)
    assert compute_risk_coverage(*before) == compute_risk_coverage(*after)


def test_no_sum_of_many_floats_depends_on_their_order():
    generator = np.random.Generator(np.random.PCG64(3))
    confidence = generator.random(2000)
    right = generator.random(2000) < confidence
    errors = set()
    for _ in range(5):
        order = generator.permutation(2000)
        errors.add(compute_calibration_error(confidence[order], right[order]))
    assert len(errors) == 1


@settings(max_examples=100, deadline=None)
@given(JUDGED)
def test_the_reliability_diagram_is_what_the_calibration_error_sums_over(judged):
    confidence, right = split(judged)
    bins = compute_reliability(confidence, right)
    assert sum(each["records"] for each in bins) == len(judged)
    gaps = sum(each["records"] * abs(each["exact_match"] - each["confidence"]) for each in bins)
    assert gaps / len(judged) == pytest.approx(compute_calibration_error(confidence, right), abs=1e-12)
    for each in bins:
        assert each["low"] - 1e-12 <= each["confidence"] <= each["high"] + 1e-12


@settings(max_examples=100, deadline=None)
@given(JUDGED)
def test_the_curve_ends_at_the_error_rate_and_its_thresholds_let_enough_through(judged):
    confidence, right = split(judged)
    curve = compute_risk_coverage(confidence, right)
    assert [point["coverage"] for point in curve] == [step / 20 for step in range(1, STEPS + 1)]
    assert curve[-1]["risk"] == pytest.approx(1 - right.mean())
    assert curve[-1]["confidence"] == confidence.min()
    for point in curve:
        assert (confidence >= point["confidence"]).sum() >= point["coverage"] * len(judged) - 1e-9
        assert (confidence > point["confidence"]).sum() < point["coverage"] * len(judged)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=1, max_size=30))
def test_only_the_ranking_matters_to_the_area_and_the_best_ranking_has_the_least(ranked):
    ranks, right = split(ranked)
    area = compute_aurc(ranks / 20, right)
    assert compute_aurc((ranks / 20) ** 3, right) == area
    assert compute_aurc(right * 1.0, right) <= area + 1e-12
    assert compute_aurc(1.0 - right, right) >= area - 1e-12
