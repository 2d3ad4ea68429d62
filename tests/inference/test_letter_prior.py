from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_records import make_choices, make_factuality, make_hallucination

from hkdcli.data.prompts import LETTERS, build_legal_answers
from hkdcli.errors import DataError, UsageError
from hkdcli.inference.decode import normalize_log
from hkdcli.inference.letter_prior import CycledRecord, estimate_letter_prior, remove_letter_prior
from hkdcli.inference.shift import combine, shifted_presentations

numbers = st.floats(-8, 8)


def make_record(task, n):
    texts = [f"answer {i}" for i in range(n)]
    if task == "factuality":
        return make_factuality(choices=make_choices(*texts))
    return make_hallucination(phrases=tuple(texts[1:]), answer=None)


def compute_rows(example, evidence, bias, constants=None):
    """log p_s(Y) = evidence(Y) + sum of bias[letter] over Y - log Z_s, for every order of a full cycle."""
    answers = build_legal_answers(example)
    rows = []
    for order in shifted_presentations(example):
        liked = {choice_id: bias[LETTERS.index(letter)] for letter, choice_id in order}
        likings = [sum(liked[choice_id] for choice_id in answer) for answer in answers]
        rows.append(normalize_log(np.resize(evidence, len(answers)) + likings))
    return np.array(rows) + (0.0 if constants is None else np.resize(constants, len(rows))[:, None])


def make_cycled(example, rows):
    return CycledRecord(build_legal_answers(example), rows, shifted_presentations(example))


drawn_records = st.tuples(
    st.sampled_from(["factuality", "hallucination"]),
    st.integers(2, 5),
    st.lists(st.lists(numbers, min_size=16, max_size=16), min_size=1, max_size=3),
    st.lists(numbers, min_size=5, max_size=5),
    st.lists(st.floats(-300, 300), min_size=5, max_size=5),
)


@given(drawn_records)
def test_law_one_debiased_order_equals_the_evidence_alone(drawn):
    task, n, evidences, bias, constants = drawn
    example, answers = make_record(task, n), build_legal_answers(make_record(task, n))
    # For sets a mean of the bias is a liking for large answers, which is evidence.
    bias = np.array(bias[:n]) - np.mean(bias[:n])
    prior = estimate_letter_prior(make_cycled(example, compute_rows(example, e, bias)) for e in evidences)
    np.testing.assert_allclose(prior[n], bias, atol=1e-9)
    rows = compute_rows(example, evidences[0], bias, constants)
    for shown, row in zip(shifted_presentations(example), rows, strict=True):
        cleaned = combine(answers, remove_letter_prior(answers, row[None], [shown], prior)).posterior
        fair = normalize_log(np.resize(evidences[0], len(answers)))
        np.testing.assert_allclose(cleaned.probs, np.exp(fair), atol=1e-6)


@given(drawn_records)
def test_law_an_unbiased_model_has_no_prior_and_nothing_changes(drawn):
    task, n, evidences, _, constants = drawn
    example = make_record(task, n)
    rows = compute_rows(example, evidences[0], [0.0] * n, constants)
    prior = estimate_letter_prior([make_cycled(example, rows)])
    np.testing.assert_allclose(prior[n], np.zeros(n), atol=1e-9)
    cleaned = remove_letter_prior(build_legal_answers(example), rows, shifted_presentations(example), prior)
    np.testing.assert_allclose(cleaned, rows, atol=1e-8)


@given(drawn_records)
def test_law_a_constant_in_a_row_changes_no_prior(drawn):
    task, n, evidences, bias, constants = drawn
    example = make_record(task, n)
    one, two = (
        estimate_letter_prior([make_cycled(example, compute_rows(example, evidences[0], bias, c))])[n]
        for c in (None, constants)
    )
    np.testing.assert_allclose(one, two, atol=1e-9)


@given(st.lists(numbers, min_size=4, max_size=4), st.lists(numbers, min_size=4, max_size=4), numbers)
def test_of_single_answers_the_mean_of_a_bias_cancels(evidence, bias, mean):
    example, shown = make_factuality(), shifted_presentations(make_factuality())
    rows = compute_rows(example, evidence, bias)
    prior = estimate_letter_prior(
        [make_cycled(example, compute_rows(example, evidence, np.array(bias) + mean))]
    )
    cleaned = normalize_log(remove_letter_prior(build_legal_answers(example), rows, shown, prior))
    np.testing.assert_allclose(np.exp(cleaned), np.exp([normalize_log(np.array(evidence))] * 4), atol=1e-6)


def test_each_number_of_choices_has_a_prior_of_its_own_and_records_are_averaged():
    biases = {3: [[2.0, -1.0, -1.0], [0.0, 1.0, -1.0]], 4: [[3.0, -1.0, -1.0, -1.0]]}
    records = []
    for n, rows in biases.items():
        example = make_record("hallucination", n)
        records += [make_cycled(example, compute_rows(example, [0.5, -2.0, 1.0], bias)) for bias in rows]
    prior = estimate_letter_prior(records)
    np.testing.assert_allclose(prior[3], [1.0, 0.0, -1.0], atol=1e-12)
    np.testing.assert_allclose(prior[4], [3.0, -1.0, -1.0, -1.0], atol=1e-12)
    assert list(prior) == [3, 4]


def test_a_record_without_no_hallucination_counts_too():
    example = make_hallucination(choices=make_choices("red square", "left of", "circle"), answer=None)
    rows = compute_rows(example, [1.0, 0.0, -1.0], [1.0, 0.0, -1.0])
    np.testing.assert_allclose(
        estimate_letter_prior([make_cycled(example, rows)])[3], [1.0, 0.0, -1.0], atol=1e-12
    )


def test_a_model_that_knows_and_likes_letters_answers_right_only_without_its_prior():
    rng = np.random.default_rng(0)
    bias, right = np.array([4.0, 0.0, -1.0, -3.0]), {"raw": 0, "cleaned": 0}
    example, answers = make_factuality(), build_legal_answers(make_factuality())
    evidences = rng.normal(size=(60, 4)) * 2
    seen = [make_cycled(example, compute_rows(example, e, bias)) for e in evidences[:20]]
    prior = estimate_letter_prior(seen)
    for evidence in evidences[20:]:
        row, shown = compute_rows(example, evidence, bias)[:1], shifted_presentations(example, 1)
        right["raw"] += int(row[0].argmax() == evidence.argmax())
        cleaned = remove_letter_prior(answers, row, shown, prior)
        right["cleaned"] += int(cleaned[0].argmax() == evidence.argmax())
    assert right["cleaned"] == 40 > right["raw"]


def test_what_is_impossible_tells_nothing_and_stays_impossible():
    example, answers = make_factuality(), build_legal_answers(make_factuality())
    rows = compute_rows(example, [0.0] * 4, [1.0, 0.0, 0.0, -1.0])
    broken = rows.copy()
    broken[1, 2] = -np.inf
    shown = shifted_presentations(example)
    assert estimate_letter_prior([make_cycled(example, broken)]) == {}
    prior = estimate_letter_prior([make_cycled(example, broken), make_cycled(example, rows)])
    np.testing.assert_allclose(prior[4], [1.0, 0.0, 0.0, -1.0], atol=1e-12)
    assert remove_letter_prior(answers, broken, shown, prior)[1, 2] == -np.inf


def test_a_beam_that_lacks_a_choice_alone_is_left_out():
    example = make_hallucination()
    kept = slice(1, None)
    rows = compute_rows(example, [0.0], [0.0] * 4)
    beam = CycledRecord(build_legal_answers(example)[kept], rows[:, kept], shifted_presentations(example))
    assert estimate_letter_prior([beam]) == {}


def test_a_number_of_choices_without_a_prior_is_refused():
    example = make_record("factuality", 5)
    rows, shown = compute_rows(example, [0.0], [0.0] * 5), shifted_presentations(example)
    with pytest.raises(DataError, match="no letter prior for 5 choices, only for 3, 4") as caught:
        remove_letter_prior(build_legal_answers(example), rows, shown, {4: np.zeros(4), 3: np.zeros(3)})
    assert [row.code for row in caught.value.rows] == ["choices.no_prior"]
    assert "--shift" in caught.value.rows[0].hint


@pytest.mark.parametrize("options", [{"shifts": 2}, {"move_none": False}])
def test_a_part_of_the_cycle_is_refused(options):
    example = make_hallucination()
    shown = shifted_presentations(example, **options)
    record = CycledRecord(build_legal_answers(example), np.zeros((len(shown), 8)), shown)
    with pytest.raises(UsageError, match="every letter once"):
        estimate_letter_prior([record])
