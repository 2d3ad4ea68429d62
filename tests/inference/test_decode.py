from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkdcli.inference.decode import build_posterior, decode, decode_expected_f1, decode_map

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
