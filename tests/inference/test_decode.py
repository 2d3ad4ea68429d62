from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkdcli.errors import UsageError
from hkdcli.inference.decode import (
    build_posterior,
    decode,
    decode_expected_f1,
    decode_map,
    decode_thresholds,
    temper,
)

ANSWERS = [frozenset(letters) for letters in ("A", "B", "C", "BC")]


def test_posterior_is_normalised_and_marginals_add_up():
    posterior = build_posterior(ANSWERS, np.log([0.1, 0.2, 0.3, 0.4]) - 50)
    np.testing.assert_allclose(posterior.probs, [0.1, 0.2, 0.3, 0.4])
    assert posterior.marginals() == pytest.approx({"A": 0.1, "B": 0.6, "C": 0.7})
    assert posterior.get_probability(frozenset("BC")) == pytest.approx(0.4)


def test_map_and_expected_f1_can_differ():
    posterior = build_posterior(ANSWERS, np.log([0.4, 0.3, 0.29, 0.01]))
    assert decode_map(posterior) == {"A"}
    assert decode(posterior, "map") == {"A"}
    # F1 of {B, C} against B, C and {B, C}: 2/3, 2/3 and 1.
    assert decode_expected_f1(posterior) == {"B", "C"}
    assert decode(posterior, "expected-f1") == {"B", "C"}


def test_certain_answers_agree():
    for index, answer in enumerate(ANSWERS):
        log_scores = np.full(4, -np.inf)
        log_scores[index] = -3.0
        posterior = build_posterior(ANSWERS, log_scores)
        assert decode_map(posterior) == decode_expected_f1(posterior) == answer
        assert max(posterior.marginals().values()) == 1


@given(st.lists(st.floats(-200, 200), min_size=4, max_size=4), st.floats(-500, 500))
def test_a_constant_changes_nothing(scores, constant):
    one, two = (build_posterior(ANSWERS, np.array(scores) + c) for c in (0.0, constant))
    np.testing.assert_allclose(one.probs, two.probs, atol=1e-9)
    assert one.probs.sum() == pytest.approx(1)


def build_random(scores, size=4, none=True):
    """A posterior over all answers of a record with that many choices, `n` being "No hallucination"."""
    others = "abcdefgh"[: size - none]
    subsets = [frozenset(s) for k in range(1, len(others) + 1) for s in itertools.combinations(others, k)]
    answers = [*([frozenset("n")] if none else []), *subsets]
    return build_posterior(answers, np.resize(scores, len(answers)))


scores = st.lists(st.floats(-12, 3), min_size=8, max_size=8)


@given(scores, st.floats(0.001, 0.999), st.booleans())
def test_threshold_predicts_every_choice_that_is_likely_enough(scores, threshold, none):
    posterior = build_random(scores, 4, none)
    likely = {c for c, p in posterior.marginals().items() if c != "n" and p >= threshold}
    answer = decode(posterior, "threshold", none_id="n" if none else None, threshold=threshold)
    assert answer == (likely or ({"n"} if none else decode_map(posterior)))


def test_threshold_decides_between_one_phrase_and_two():
    posterior = build_posterior([frozenset(s) for s in ("n", "a", "b", "ab")], np.log([0.4, 0.3, 0.1, 0.2]))
    found = {t: decode(posterior, "threshold", none_id="n", threshold=t) for t in (0.2, 0.4, 0.6)}
    assert found == {0.2: {"a", "b"}, 0.4: {"a"}, 0.6: {"n"}}
    # The marginal itself is enough.
    at = posterior.marginals()["b"]
    assert decode(posterior, "threshold", none_id="n", threshold=at) == {"a", "b"}


@given(st.data(), scores, st.floats(0, 1))
def test_threshold_answers_from_the_list_of_a_beam_and_as_near_as_it_can(data, scores, threshold):
    whole = build_random(scores)
    kept = data.draw(st.sets(st.integers(0, 7), min_size=1).map(sorted))
    beam = build_posterior([whole.answers[i] for i in kept], whole.log_probs[kept])
    answer = decode(beam, "threshold", none_id="n", threshold=threshold)
    assert answer in beam.answers
    gain = {y: sum(beam.marginals()[c] - threshold for c in y if c != "n") for y in beam.answers}
    assert gain[answer] == pytest.approx(max(gain.values()), abs=1e-9)


def test_of_single_answers_the_threshold_takes_the_most_probable():
    posterior = build_posterior([frozenset(s) for s in "ABCD"], np.log([0.2, 0.45, 0.3, 0.05]))
    for threshold in (0.0, 0.25, 0.4, 0.9):
        assert decode(posterior, "threshold", threshold=threshold) == {"B"}


@given(scores, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_many_thresholds_at_once_are_the_same_as_one_by_one(scores, thresholds):
    posterior = build_random(scores)
    together = decode_thresholds(posterior, thresholds, "n")
    apart = [decode(posterior, "threshold", none_id="n", threshold=t) for t in thresholds]
    assert [posterior.answers[i] for i in together] == apart


def test_threshold_without_a_threshold_is_refused():
    with pytest.raises(UsageError, match="no threshold"):
        decode(build_random([0.0]), "threshold", none_id="n")


@given(scores, st.floats(0.1, 10), st.floats(0.1, 10))
def test_tempering_twice_is_tempering_by_the_product_and_keeps_the_order(scores, one, two):
    posterior = build_random(scores)
    twice = temper(temper(posterior, one), two)
    np.testing.assert_allclose(twice.probs, temper(posterior, one * two).probs, atol=1e-9)
    np.testing.assert_allclose(temper(posterior, 1.0).probs, posterior.probs, atol=1e-12)
    assert posterior.get_probability(decode_map(twice)) == pytest.approx(posterior.probs.max())


def test_tempering_flattens_and_leaves_the_impossible_impossible():
    posterior = build_posterior(ANSWERS, [0.0, np.log(0.25), -np.inf, -np.inf])
    np.testing.assert_allclose(temper(posterior, 2.0).probs, [2 / 3, 1 / 3, 0, 0])
    np.testing.assert_allclose(temper(posterior, 1e6).probs, [0.5, 0.5, 0, 0], atol=1e-6)
