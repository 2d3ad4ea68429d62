from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_records import make_choices, make_factuality, make_hallucination

from hkdcli.data.prompts import build_legal_answers, identity_presentation
from hkdcli.inference.decode import normalize_log
from hkdcli.inference.shift import combine, shifted_presentations

numbers = st.floats(-10, 10)


@pytest.mark.parametrize("n", range(2, 8))
def test_every_choice_meets_every_letter_and_place_once(n):
    example = make_factuality(choices=make_choices(*[f"answer {i}" for i in range(n)]))
    orders = shifted_presentations(example)
    assert len(set(orders)) == n
    assert orders[0] == identity_presentation(example)
    for choice in example.choices:
        letters = [letter for order in orders for letter, choice_id in order if choice_id == choice.id]
        places = [[c for _, c in order].index(choice.id) for order in orders]
        assert len(set(letters)) == len(set(places)) == n


def test_shift_s_maps_choice_i_to_letter_i_plus_s():
    order = shifted_presentations(make_factuality())[1]
    assert order == (("A", "D"), ("B", "A"), ("C", "B"), ("D", "C"))


def test_letters_and_positions_apart():
    example = make_factuality()
    letters = shifted_presentations(example, what="letters")[1]
    assert letters == (("B", "A"), ("C", "B"), ("D", "C"), ("A", "D"))
    positions = shifted_presentations(example, what="positions")[1]
    assert positions == (("D", "D"), ("A", "A"), ("B", "B"), ("C", "C"))


def test_none_choice_can_stay():
    orders = shifted_presentations(make_hallucination(), move_none=False)
    assert len(orders) == 3
    assert all(order[0] == ("A", "A") for order in orders)
    assert {order[1][1] for order in orders} == {"B", "C", "D"}


@pytest.mark.parametrize(
    ("shifts", "first_letters"), [(1, "A"), (2, "AC"), (3, "ABC"), (4, "ABCD"), (9, "ABCD")]
)
def test_some_shifts_are_spread_over_the_cycle(shifts, first_letters):
    orders = shifted_presentations(make_factuality(), shifts)
    letters = [letter for order in orders for letter, choice_id in order if choice_id == "A"]
    assert "".join(letters) == first_letters


def compute_rows(evidence, prior, example, extra=None):
    """log p(choice | order) of a model whose letter prior multiplies the evidence."""
    rows = []
    for s, order in enumerate(shifted_presentations(example)):
        letter = {choice_id: "ABCDEFGH".index(shown) for shown, choice_id in order}
        row = [evidence[i] + prior[letter[c.id]] for i, c in enumerate(example.choices)]
        rows.append(normalize_log(np.array(row)) + (extra[s] if extra else 0.0))
    return np.array(rows)


@given(st.integers(2, 6).flatmap(lambda n: st.tuples(*[st.lists(numbers, min_size=n, max_size=n)] * 3)))
def test_law_a_letter_prior_does_not_move_the_shifted_posterior(drawn):
    evidence, prior, constants = drawn
    example = make_factuality(choices=make_choices(*[f"answer {i}" for i in range(len(evidence))]))
    answers = build_legal_answers(example)
    fair = normalize_log(np.array(evidence))
    combined = combine(answers, compute_rows(evidence, prior, example, constants))
    np.testing.assert_allclose(combined.posterior.probs, np.exp(fair), atol=1e-6)


@given(st.lists(numbers, min_size=4, max_size=4))
def test_shifting_an_unbiased_model_changes_nothing(evidence):
    example = make_factuality()
    rows = compute_rows(evidence, [0.0] * 4, example)
    for combination in ("log_mean", "arithmetic"):
        combined = combine(build_legal_answers(example), rows, combination)
        np.testing.assert_allclose(combined.posterior.probs, np.exp(rows[0]), atol=1e-9)
        assert combined.all_agree
        assert combined.flip_rate == 0


def test_arithmetic_mean_lacks_the_law():
    example = make_factuality()
    rows = compute_rows([1.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0], example)
    fair = np.exp(normalize_log(np.array([1.0, 0.0, 0.0, 0.0])))
    mean = combine(build_legal_answers(example), rows, "arithmetic").posterior.probs
    np.testing.assert_allclose(mean, np.exp(rows).mean(0))
    assert np.abs(mean - fair).max() > 0.01


def test_flip_rate_and_agreement():
    answers = build_legal_answers(make_factuality())
    rows = np.log([[0.7, 0.1, 0.1, 0.1], [0.7, 0.1, 0.1, 0.1], [0.2, 0.6, 0.1, 0.1], [0.6, 0.2, 0.1, 0.1]])
    combined = combine(answers, rows)
    assert combined.flip_rate == 0.25
    assert not combined.all_agree
    assert combine(answers, rows[:1]).all_agree


def test_impossible_in_one_order_is_impossible_in_the_mean_of_logs():
    answers = build_legal_answers(make_factuality())
    rows = np.array([[0.0, -np.inf, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert combine(answers, rows).posterior.probs[1] == 0
    assert combine(answers, rows, "arithmetic").posterior.probs[1] == pytest.approx(0.125)
