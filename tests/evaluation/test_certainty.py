"""Confidence, abstention and orders in the scores of a whole file."""

import random
from dataclasses import replace

import pytest
from gold_records import claim_record, phrase_record, predict, predict_surely
from hypothesis import given, settings
from hypothesis import strategies as st

from hkdcli.evaluation.certainty import Certainty
from hkdcli.evaluation.metrics import evaluate_predictions

CALIBRATION = ("ece", "brier", "aurc")
ORDERS = ("flip_rate", "all_agree_rate", "all_orders_right")
LEGAL = {"hallucination": ("A", "B", "C", "BC"), "factuality": ("A", "B", "C", "D")}


def test_scores_by_hand():
    examples = [claim_record(str(i), gold) for i, gold in enumerate("ABAAA")]
    predictions = [
        predict_surely("0", "A", {"A": 0.7, "B": 0.3}),
        predict_surely("1", "A", {"A": 0.6, "B": 0.4}),
        predict_surely("2", "A", {"A": 0.45, "C": 0.3, "D": 0.25}, abstained=True),
        predict("3", None, failed=True),  # and record 4 is missing
    ]
    result = evaluate_predictions(predictions, examples)
    task = result.tasks["factuality"]
    for metrics in (result.metrics, task.metrics):
        assert metrics["exact_match"] == 1 / 5 and metrics["micro_recall"] == 1 / 5
        assert metrics["coverage"] == 2 / 5 and metrics["selective_exact_match"] == 1 / 2
        assert metrics["ece"] == pytest.approx((0.3 + 0.6 + 0.55) / 3)
        assert metrics["brier"] == pytest.approx((0.18 + 0.72 + 0.455) / 3)
        assert metrics["aurc"] == pytest.approx((0 + 1 / 2 + 1 / 3) / 3)
    curve = result.risk_coverage
    assert curve == task.risk_coverage
    assert curve[5] == {"coverage": 0.3, "risk": 0.0, "confidence": 0.7}  # ceil(0.3 * 3) = 1 record
    assert curve[6] == {"coverage": 0.35, "risk": 0.5, "confidence": 0.6}
    assert curve[-1]["risk"] == pytest.approx(1 / 3) and curve[-1]["confidence"] == 0.45
    counts = {"records": 5, "missing": 1, "error": 1, "abstained": 1, "invalid": 0, "approximate": 0}
    assert counts.items() <= result.counts.items() and counts.items() <= task.counts.items()
    assert result.counts["with_confidence"] == result.counts["with_posterior"] == 3
    assert any("1 of 5 records were abstained from" in warning for warning in result.warnings)


def test_both_tasks_are_pooled_record_by_record():
    examples = [claim_record("1", "A"), claim_record("2", "B"), phrase_record("3", "BC")]
    predictions = [
        predict_surely("1", "A", {"A": 1.0}),
        predict_surely("2", "A", {"A": 0.5, "B": 0.5}),
        predict_surely("3", "BC", {"A": 0.25, "BC": 0.75}),
    ]
    result = evaluate_predictions(predictions, examples)
    claims, phrases = result.tasks["factuality"].metrics, result.tasks["hallucination"].metrics
    assert result.metrics["brier"] == pytest.approx((2 * claims["brier"] + phrases["brier"]) / 3)
    assert phrases["brier"] == pytest.approx(2 * 0.25**2) and claims["aurc"] == pytest.approx(0.25)
    assert result.metrics["aurc"] == pytest.approx((0 + 0 + 1 / 3) / 3)


def test_figures_are_scalars_and_curves_stay_out_of_them():
    result = evaluate_predictions([predict_surely("1", "A", {"A": 1.0})], [claim_record("1", "A")])
    for scores in (result, *result.tasks.values()):
        assert all(value is None or isinstance(value, int | float) for value in scores.metrics.values())
        assert len(scores.risk_coverage) == 20


def test_a_file_of_ids_and_predictions_has_the_old_scores_and_undefined_new_ones():
    examples = [claim_record("1", "A"), claim_record("2", "B")]
    result = evaluate_predictions([predict("1", "A"), predict("2", "A")], examples)
    assert result.metrics["exact_match"] == result.metrics["selective_exact_match"] == 0.5
    assert result.metrics["coverage"] == 1.0 and result.risk_coverage == []
    assert all(result.metrics[name] is None for name in (*CALIBRATION, *ORDERS))
    (undefined,) = [warning for warning in result.warnings if warning.startswith("undefined")]
    assert all(f"factuality.metrics.{name}" in undefined for name in CALIBRATION)
    assert not any(name in undefined for name in ORDERS)  # nobody asked for orders


def test_rows_without_what_a_figure_needs_are_told_of():
    examples = [claim_record(str(i), "A") for i in range(3)]
    blind = predict("2", None, abstained=True, certainty=Certainty(confidence=0.9))  # from what, nobody knows
    predictions = [predict_surely("0", "A", {"A": 0.8, "B": 0.2}), predict("1", "A"), blind]
    result = evaluate_predictions(predictions, examples)
    assert result.metrics["ece"] == pytest.approx(0.2) and result.metrics["brier"] == pytest.approx(0.08)
    assert result.counts["with_confidence"] == result.counts["with_posterior"] == 1
    assert sum("1 of 3 rows that answer or abstain" in warning for warning in result.warnings) == 2


@pytest.mark.parametrize(
    ("confidence", "chosen"),
    [
        (0.25, "B"),  # no other has it: the decoder chose what is not most probable
        (0.5, "A"),
        (0.125, "A"),  # two answers have it, so the most probable one is taken
        (0.9, "A"),  # no answer has it
    ],
)
@pytest.mark.parametrize("gold", ["A", "B", "C", "BC"])
def test_the_answer_abstained_from_is_the_one_that_has_the_confidence(confidence, chosen, gold):
    posterior = {"A": 0.5, "B": 0.25, "C": 0.125, "BC": 0.125}
    said = predict_surely("1", "A", posterior, abstained=True, confidence=confidence)
    result = evaluate_predictions([said], [phrase_record("1", gold, choices=3)])
    right = gold == chosen
    assert result.metrics["ece"] == pytest.approx(abs(right - confidence))
    assert result.metrics["aurc"] == 1 - right
    assert result.metrics["exact_match"] == 0.0 and result.metrics["selective_exact_match"] is None


def test_a_beam_that_lost_the_gold_answer_pays_for_it():
    said = predict_surely("1", "B", {"B": 0.75, "BC": 0.25}, approximate=True)
    result = evaluate_predictions([said], [phrase_record("1", "CD")])
    assert result.metrics["brier"] == pytest.approx(0.75**2 + 0.25**2 + 1)
    assert result.counts["approximate"] == result.tasks["hallucination"].counts["approximate"] == 1


def test_an_invalid_answer_is_answered_and_wrong_however_sure_it_is():
    said = predict("1", "AB", certainty=Certainty(confidence=1.0))
    result = evaluate_predictions([said], [phrase_record("1", "B")])
    assert result.metrics["coverage"] == 1.0 and result.metrics["selective_exact_match"] == 0.0
    assert result.metrics["ece"] == 1.0 and result.metrics["aurc"] == 1.0


def test_orders_by_hand():
    examples = [claim_record(str(i), "A") for i in range(6)]
    right, wrong = {"A": 0.9, "B": 0.1}, {"A": 0.2, "B": 0.8}
    predictions = [
        predict_surely("0", "A", right, shifts=4),
        predict_surely("1", "A", right, shifts=4, all_agree=False, flip_rate=0.25),
        predict_surely("2", "B", wrong, shifts=4),
        predict_surely("3", "A", right, shifts=4, abstained=True),  # its orders agree all the same
        predict_surely("4", "A", right, shifts=1),  # one order agrees with itself, and is no flip to count
    ]
    result = evaluate_predictions(predictions, examples)
    assert result.metrics["flip_rate"] == pytest.approx(0.25 / 4)
    assert result.metrics["all_agree_rate"] == 3 / 4
    assert result.metrics["all_orders_right"] == 3 / 6  # of all records: number 5 is missing
    assert result.counts["with_shifts"] == 4
    alone = evaluate_predictions(predictions[4:], examples)
    assert all(alone.metrics[name] is None for name in ORDERS)


def test_orders_that_were_asked_for_and_say_nothing_are_told_of():
    said = predict("1", "A", certainty=Certainty(shifts=2, all_agree=True))
    result = evaluate_predictions([said], [claim_record("1", "A")])
    assert result.metrics["all_agree_rate"] == 1.0
    for name in ("flip_rate", "all_orders_right"):  # the one has no number, the other no posterior
        assert result.metrics[name] is None
        assert any(f"factuality.metrics.{name}" in warning for warning in result.warnings)


@st.composite
def sure_predictions(draw):
    """Records of both tasks; rows that answer, abstain or fail, with ties, and some missing."""
    examples, predictions = [], []
    for index in range(draw(st.integers(1, 10))):
        name, task = str(index), draw(st.sampled_from(sorted(LEGAL)))
        legal = LEGAL[task]
        gold = draw(st.sampled_from(legal))
        examples.append(phrase_record(name, gold, 3) if task == "hallucination" else claim_record(name, gold))
        weights = draw(st.lists(st.integers(1, 4), min_size=len(legal), max_size=len(legal)))
        posterior = {answer: w / sum(weights) for answer, w in zip(legal, weights, strict=True)}
        options = {
            "abstained": draw(st.integers(0, 4)) == 0,
            "shifts": draw(st.integers(1, 4)),
            "flip_rate": draw(st.sampled_from([0.0, 0.1, 0.3])),
            "all_agree": draw(st.booleans()),
        }
        row = predict_surely(name, draw(st.sampled_from(legal)), posterior, **options)
        fate = draw(st.integers(0, 9))
        if fate != 0:
            predictions.append(replace(row, choices=None, failed=True) if fate == 1 else row)
    return examples, predictions


@settings(max_examples=60, deadline=None)
@given(sure_predictions(), st.randoms(use_true_random=False))
def test_order_of_rows_changes_nothing(case, shuffler: random.Random):
    examples, predictions = case
    expected = evaluate_predictions(predictions, examples).to_json()
    shuffler.shuffle(examples)
    shuffler.shuffle(predictions)
    assert evaluate_predictions(predictions, examples).to_json() == expected


@settings(max_examples=60, deadline=None)
@given(sure_predictions(), st.data())
def test_abstaining_on_wrong_records_never_lowers_the_selective_exact_match(case, data):
    examples, predictions = case
    gold = {example.id: example.answer for example in examples}
    wrong = sorted(row.id for row in predictions if row.choices != gold[row.id] and not row.failed)
    chosen = data.draw(st.sets(st.sampled_from(wrong))) if wrong else set()
    abstaining = [
        replace(row, choices=None, abstained=True) if row.id in chosen else row for row in predictions
    ]
    before, after = (evaluate_predictions(rows, examples).metrics for rows in (predictions, abstaining))
    if after["selective_exact_match"] is not None:
        assert after["selective_exact_match"] >= before["selective_exact_match"]
    assert after["exact_match"] == before["exact_match"] and after["coverage"] <= before["coverage"]


@settings(max_examples=60, deadline=None)
@given(sure_predictions())
def test_abstaining_from_the_most_probable_answer_changes_no_figure_of_calibration(case):
    examples, predictions = case
    certain = [
        replace(
            row,
            choices=row.certainty.most_probable,
            abstained=False,
            certainty=replace(row.certainty, confidence=max(p for _, p in row.certainty.posterior)),
        )
        for row in predictions
        if not row.failed
    ]
    abstaining = [replace(row, choices=None, abstained=True) for row in certain]
    before, after = (evaluate_predictions(rows, examples) for rows in (certain, abstaining))
    names = (*CALIBRATION, *ORDERS)
    assert {name: before.metrics[name] for name in names} == {name: after.metrics[name] for name in names}
    assert before.risk_coverage == after.risk_coverage
    assert after.metrics["coverage"] == 0.0 and after.counts["abstained"] == len(certain)
