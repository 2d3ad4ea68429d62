from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from hkdcli.errors import GateError, UsageError
from hkdcli.inference.abstention import (
    choose_abstention,
    compute_lower_bounds,
    compute_p_values,
    count_needed,
    is_answered,
)
from hkdcli.inference.task_fit import Half, TaskFit

LEVEL = 0.05


def make_half(confidence, correct):
    confidence, correct = (tuple(np.asarray(values).tolist()) for values in (confidence, correct))
    return Half(confidence=confidence, correct=correct)


def make_fit(fit_half, test_half):
    figures = dict.fromkeys(
        ("nll_before", "nll_after", "ece_before", "ece_after", "exact_match_before", "exact_match_after"), 0.1
    )
    return TaskFit(
        temperature=1.0, decoding="map", threshold=None, fit_half=fit_half, test_half=test_half, **figures
    )


def compute_bound(correct, answered):
    return compute_lower_bounds(np.array([answered]), np.array([correct]), LEVEL)[0]


def make_even(size, right):
    """Both halves alike: confidence falls evenly from 1, and of every ten records `right` are right."""
    confidence = np.linspace(1, 0.1, size)
    half = make_half(confidence, np.arange(size) % 10 < right)
    return make_fit(half, half)


# What confidence u, uniform on [0, 1], says: P(right | u), and the precision of answering from t on.
RELATIONS = {
    "rising": (lambda u: 0.6 + 0.4 * u, lambda t: 0.6 + 0.2 * (1 + t)),
    "step": (
        lambda u: np.where(u > 0.6, 0.97, 0.5),
        lambda t: 0.97 if t > 0.6 else (0.4 * 0.97 + (0.6 - t) * 0.5) / (1 - t),
    ),
    "falling": (lambda u: 1 - 0.15 * u, lambda t: 1 - 0.075 * (1 + t)),
    "just too low": (lambda u: np.full_like(u, 0.899), lambda t: 0.899),
    "far too low": (lambda u: 0.3 + 0.3 * u, lambda t: 0.3 + 0.15 * (1 + t)),
    "good": (lambda u: np.full_like(u, 0.97), lambda t: 0.97),
}


def simulate(relation, *, size, target=0.9, slices=600, seed=0):
    """The thresholds chosen on simulated slices; None where the promise was refused."""
    rng = np.random.default_rng(seed)
    confidence = rng.random((slices, 2, size)).round(3)  # with ties
    right = rng.random(confidence.shape) < RELATIONS[relation][0](confidence)
    chosen = []
    for u, r in zip(confidence, right, strict=True):
        try:
            found = choose_abstention(make_fit(make_half(u[0], r[0]), make_half(u[1], r[1])), target)
            chosen.append(found.threshold)
        except GateError:
            chosen.append(None)
    return chosen


@pytest.mark.parametrize("size", [40, 150, 500])
@pytest.mark.parametrize("relation", RELATIONS)
def test_law_the_promise_is_broken_in_no_more_slices_than_the_level(relation, size):
    slices = 600
    chosen = simulate(relation, size=size, slices=slices, seed=size)
    precision = RELATIONS[relation][1]
    broken = sum(t is not None and precision(min(t, 0.999)) < 0.9 - 1e-9 for t in chosen)
    # Three standard deviations of what 600 slices can tell.
    assert broken / slices <= LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / slices)


def test_a_model_that_is_never_good_enough_is_almost_always_refused():
    assert all(t is None for t in simulate("far too low", size=300))
    assert np.mean([t is None for t in simulate("just too low", size=300)]) > 0.9


def test_a_good_model_answers_nearly_everything_and_a_mixed_one_its_good_part():
    good = simulate("good", size=300, slices=100)
    assert np.mean([t is not None and t < 0.1 for t in good]) > 0.95
    step = simulate("step", size=500, slices=100)
    answered = [t for t in step if t is not None]
    assert len(answered) > 95
    assert np.median(answered) == pytest.approx(0.55, abs=0.15)


@given(st.integers(0, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.01, 0.99))
def test_the_test_is_the_exact_binomial_one_and_the_bound_its_inverse(counts, target):
    correct, answered = counts
    if answered:
        exact = binomtest(correct, answered, target, alternative="greater")
        found = compute_p_values(np.array([answered]), np.array([correct]), target)[0]
        assert found == pytest.approx(exact.pvalue, rel=1e-6, abs=1e-12)
        low = exact.proportion_ci(0.95, "exact").low
        assert compute_bound(correct, answered) == pytest.approx(low, abs=1e-6)
    else:
        assert compute_p_values(np.array([0]), np.array([0]), target)[0] == 1
        assert compute_bound(0, 0) == 0


@pytest.mark.parametrize(("target", "needed"), [(0.9, 29), (0.95, 59), (0.99, 299), (0.5, 5)])
def test_how_many_records_a_promise_takes_at_least(target, needed):
    assert count_needed(target, LEVEL) == needed
    assert compute_bound(needed, needed) >= target > compute_bound(needed - 1, needed - 1)


def test_what_is_chosen_holds_in_the_test_half_and_says_how():
    fit = make_even(400, 10)
    found = choose_abstention(fit, 0.9)
    assert (found.threshold, found.coverage, found.answered, found.correct) == (0.0, 1.0, 400, 400)
    assert found.lower_bound == pytest.approx(LEVEL ** (1 / 400))
    assert (found.target_precision, found.confidence_level) == (0.9, 0.95)


def test_the_sequence_stops_where_the_model_stops_being_right():
    confidence = np.linspace(1, 0, 400)
    right = confidence > 0.495
    found = choose_abstention(make_fit(make_half(confidence, right), make_half(confidence, right)), 0.9)
    assert found.correct / found.answered >= 0.9
    assert found.lower_bound >= 0.9
    assert 0.45 <= found.coverage < 0.56
    assert found.answered == sum(is_answered(c, found.threshold) for c in confidence.tolist())


def test_thresholds_come_from_the_fit_half_alone():
    rng = np.random.default_rng(0)
    fit_half = make_half(rng.random(200).round(2), rng.random(200) < 0.97)
    allowed = {*fit_half.confidence, 0.0}
    for _ in range(30):
        test_half = make_half(rng.random(200), rng.random(200) < 0.97)
        assert choose_abstention(make_fit(fit_half, test_half), 0.85).threshold in allowed


def test_a_slice_too_small_says_how_many_records_it_takes():
    half = make_half(np.linspace(1, 0.5, 20), [True] * 20)
    with pytest.raises(GateError, match="40 labelled records are too few .* at least 57") as caught:
        choose_abstention(make_fit(half, half), 0.9)
    assert caught.value.exit_code == 6
    enough = make_half(np.linspace(1, 0.5, 29), [True] * 29)
    assert choose_abstention(make_fit(enough, enough), 0.9).coverage == 1


def test_a_model_that_is_not_that_good_says_what_can_be_promised():
    with pytest.raises(GateError, match=r"0\.9 cannot be promised at 0\.95: .* coverage 1\.00") as caught:
        choose_abstention(make_even(200, 7), 0.9)
    promised = float(str(caught.value).split("the best one ")[1].split(" ")[0])
    assert promised == pytest.approx(compute_bound(140, 200), abs=0.001)
    # What it says can be promised can be promised.
    assert choose_abstention(make_even(200, 7), promised - 0.001).lower_bound >= promised - 0.001


@pytest.mark.parametrize("right", [True, False])
def test_equal_confidences_are_answered_together(right):
    half = make_half([0.7] * 100, [right] * 100)
    if right:
        found = choose_abstention(make_fit(half, half), 0.9)
        assert (found.threshold, found.coverage, found.answered) == (0.0, 1.0, 100)
    else:
        with pytest.raises(GateError, match=r"promises 0\.000"):
            choose_abstention(make_fit(half, half), 0.9)


def test_ties_at_the_threshold_are_all_answered():
    confidence = [0.9] * 150 + [0.4] * 150
    half = make_half(confidence, [True] * 150 + [False] * 150)
    found = choose_abstention(make_fit(half, half), 0.9)
    assert (found.threshold, found.answered, found.correct) == (0.9, 150, 150)


def test_a_confidence_is_compared_as_it_is_stored():
    stored = float(f"{2 / 3:.9g}")
    assert stored > 2 / 3
    assert is_answered(2 / 3, stored)
    assert not is_answered(0.66, stored)


@pytest.mark.parametrize("value", [1.0, 0.0, -0.5, 1.5, float("nan"), float("inf")])
def test_targets_and_levels_outside_of_0_to_1_are_refused(value):
    fit = make_even(100, 10)
    with pytest.raises(UsageError, match="a precision of"):
        choose_abstention(fit, value)
    with pytest.raises(UsageError, match="a confidence level of"):
        choose_abstention(fit, 0.9, value)


def test_a_very_high_level_takes_more_records():
    fit = make_even(100, 10)
    assert choose_abstention(fit, 0.9, 0.95).threshold == 0
    with pytest.raises(GateError, match=r"at 0\.99999: it takes at least 219"):
        choose_abstention(fit, 0.9, 0.99999)
