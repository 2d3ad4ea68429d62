"""Scores on hand-computed cases and against scikit-learn, computed independently of ours."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from gold_records import LABELS, LETTERS, claim_record, phrase_record, predict
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

from hkdcli.data.datasets import hash_record
from hkdcli.data.records import Choice
from hkdcli.errors import DataError
from hkdcli.evaluation.baseline import find_best_constant
from hkdcli.evaluation.counting import Confusion, count_groups
from hkdcli.evaluation.metrics import DEFINITIONS, evaluate_predictions, join_predictions


def test_hallucination_by_hand():
    examples = [
        phrase_record("1", "B"),
        phrase_record("2", "A"),
        phrase_record("3", "BC"),
        phrase_record("4", "D"),
    ]
    predictions = [predict("1", "BC"), predict("2", "A"), predict("3", "B")]  # record 4 is missing
    result = evaluate_predictions(predictions, examples)
    # TP: 1B 2A 3B = 3; FP: 1C; FN: 3C 4D
    assert result.metrics["micro_precision"] == 3 / 4
    assert result.metrics["micro_recall"] == 3 / 5
    assert result.metrics["micro_f1"] == 6 / 9
    assert result.metrics["exact_match"] == 1 / 4
    # 3 legal answers, 1 of them the gold set, 4 records
    assert result.metrics["set_precision"] == 1 / 3 and result.metrics["set_recall"] == 1 / 4
    assert result.metrics["set_f1"] == 2 / 7
    # 9 choices but A of records with an answer: 1B 1C 3B predicted; 12 of all: 1B 3B 3C 4D gold
    assert result.metrics["yes_rate"] == 3 / 9 and result.metrics["gold_yes_rate"] == 4 / 12
    # without A: TP 2, FP 1, FN 2
    assert result.metrics["hallucinated_f1"] == 4 / 7
    task = result.tasks["hallucination"]
    assert task.per_class["No hallucination"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1}
    assert task.per_class["hallucinated choice"]["f1"] == 4 / 7
    assert result.metrics["macro_f1"] == pytest.approx((1 + 4 / 7) / 2)
    # every other choice: TP 4, FP 8, FN 1 -> 8/17; always B: TP 2, FP 2, FN 3 -> 4/9; "A": 2/9
    assert result.metrics["constant_micro_f1"] == pytest.approx(8 / 17)
    assert task.constant_answer == "always every other choice"
    assert result.counts["missing"] == 1 and result.counts["records"] == 4
    assert any("1 of 4 records have no prediction" in warning for warning in result.warnings)


def test_factuality_by_hand():
    examples = [claim_record(str(i), gold) for i, gold in enumerate("AABC")]
    result = evaluate_predictions([predict(str(i), said) for i, said in enumerate("ABBB")], examples)
    assert result.metrics["micro_f1"] == result.metrics["exact_match"] == 2 / 4
    task = result.tasks["factuality"]
    assert task.per_class["True"] == {"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "support": 2}
    assert task.per_class["False"]["f1"] == 0.5
    assert task.per_class["Partially True"]["f1"] == 0.0
    assert task.per_class["Not Verifiable"]["f1"] is None  # neither gold nor predicted: undefined, left out
    assert result.metrics["macro_f1"] == pytest.approx((2 / 3 + 0.5 + 0) / 3)
    assert result.metrics["constant_micro_f1"] == 0.5 and task.constant_answer == "always 'True'"
    assert any("factuality.per_class.Not Verifiable.f1" in warning for warning in result.warnings)
    assert result.metrics["hallucinated_f1"] is None


def test_a_confusion_matrix_by_hand():
    examples = [claim_record(str(i), gold) for i, gold in enumerate("AABCD")]
    said = [*zip("0123", "ABBA", strict=True)]  # record 4 is missing
    found = evaluate_predictions([predict(*each) for each in said], examples).tasks["factuality"].confusion
    none = dict.fromkeys([*LABELS, "no answer"], 0)
    assert found == {
        "True": {**none, "True": 1, "False": 1},
        "False": {**none, "False": 1},
        "Partially True": {**none, "True": 1},
        "Not Verifiable": {**none, "no answer": 1},
    }
    assert evaluate_predictions([], [phrase_record("1", "B")]).tasks["hallucination"].confusion == {}


def test_a_class_of_its_own_in_every_record_costs_no_more_than_the_record():
    """Labels may be any text, so there may be as many as decisions: each is counted in one pass over all."""
    count, texts = 12_000, "abcd"
    examples = [
        replace(
            claim_record(str(i), "A"),
            choices=tuple(Choice(letter.upper(), f"{letter} {i}") for letter in texts),
        )
        for i in range(count)
    ]
    table = join_predictions([predict(str(i), "AB"[i % 2]) for i in range(count)], examples)["factuality"]
    constant = find_best_constant(table)
    counts = count_groups(table.gold, table.predicted, table.label, len(table.labels))
    assert constant.name == "always choice 'A'" and constant.confusion.f1 == 1.0
    by_label = dict(zip(table.labels, counts, strict=True))
    assert by_label["a 0"] == Confusion(1, 0, 0) and by_label["a 1"] == Confusion(0, 0, 1)
    assert by_label["b 1"] == Confusion(0, 1, 0) and by_label["c 1"] == Confusion(0, 0, 0)


def test_both_tasks_in_one_file():
    examples = [phrase_record("1", "B"), claim_record("2", "A"), claim_record("3", "B")]
    result = evaluate_predictions([predict("1", "B"), predict("2", "A"), predict("3", "A")], examples)
    assert set(result.tasks) == {"hallucination", "factuality"}
    assert result.metrics["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert result.metrics["exact_match"] == pytest.approx(2 / 3)
    macros = [task.metrics["macro_f1"] for task in result.tasks.values()]
    assert result.metrics["macro_f1"] == pytest.approx(sum(macros) / 2)
    assert result.counts["records"] == 3


@pytest.mark.parametrize(
    ("said", "count"),
    [
        (predict("1", "AB"), "invalid.contradiction"),
        (predict("1", "BZ"), "invalid.unknown_choice"),
        (predict("1", ""), "invalid.empty"),
        (predict("1", None), "invalid.unreadable"),
        (predict("1", "B", failed=True), "error"),
        (predict("1", "B", abstained=True), "abstained"),
        (predict("another", "B"), "missing"),
    ],
)
def test_an_unusable_prediction_is_wrong_and_counted(said, count):
    result = evaluate_predictions(
        [said, predict("2", "A")], [phrase_record("1", "B"), phrase_record("2", "A")]
    )
    assert result.counts[count] == 1
    assert result.counts["invalid"] == int(count.startswith("invalid"))
    assert result.counts["extra"] == int(said.id == "another")
    assert result.metrics["micro_recall"] == 0.5 and result.metrics["micro_precision"] == 1.0
    assert len(result.warnings) >= 1


def test_scores_of_sets_and_of_yes_by_hand():
    """Records of three phrases each: right, a false alarm, invalid, missing, abstained, and half found."""
    examples = [
        phrase_record(name, gold)
        for name, gold in zip("123456", ["B", "A", "C", "D", "B", "BC"], strict=True)
    ]
    rows = [predict("1", "B"), predict("2", "BC"), predict("3", "AC"), predict("5", "B", abstained=True)]
    found = evaluate_predictions([*rows, predict("6", "B")], examples).metrics
    assert found["yes_rate"] == 4 / 9 and found["gold_yes_rate"] == 6 / 18
    # One of six records matches; three have a legal answer; four rows say ok.
    assert (found["set_precision"], found["set_recall"], found["set_f1"]) == (1 / 3, 1 / 6, 2 / 9)
    assert found["coverage"] == 4 / 6 and found["selective_exact_match"] == 1 / 4


def test_two_labels_for_one_claim_are_invalid():
    result = evaluate_predictions([predict("1", "AB")], [claim_record("1", "A")])
    assert result.counts["invalid.several"] == 1 and result.metrics["exact_match"] == 0.0


def test_d24_duplicates_and_absent_gold_are_refused():
    examples = [phrase_record("1", "B")]
    with pytest.raises(DataError, match="1 duplicate predictions"):
        evaluate_predictions([predict("1", "B"), predict("1", "B")], examples)
    with pytest.raises(DataError, match="no gold in 2 rows"):
        evaluate_predictions([predict("1", "B")], [phrase_record("1", None), phrase_record("2", None)])


def test_records_without_gold_are_left_out_and_counted():
    examples = [phrase_record("1", "B"), phrase_record("2", None)]
    result = evaluate_predictions([predict("1", "B"), predict("2", "B")], examples)
    assert result.metrics["micro_f1"] == 1.0
    assert result.counts["unlabelled"] == 1 and result.counts["extra"] == 1


def test_d25_one_class_only_is_finite_and_flagged():
    examples = [phrase_record(str(i), "A") for i in range(3)]
    result = evaluate_predictions([predict(str(i), "A") for i in range(3)], examples)
    assert result.metrics["hallucinated_f1"] is None
    assert any("one class (No hallucination)" in warning for warning in result.warnings)
    assert any("hallucination.metrics.hallucinated_f1" in warning for warning in result.warnings)
    json.dumps(result.to_json(), allow_nan=False)


def test_phenomena_and_slices():
    tags = {"A": "object", "B": "colour", "C": "relation", "D": "colour"}
    examples = [
        phrase_record("1", "BC", meta={"phenomena": tags, "source": "coco", "seed": 3}),
        phrase_record("2", "B", meta={"phenomena": tags, "source": "drawn"}),
    ]
    result = evaluate_predictions([predict("1", "BD"), predict("2", "A")], examples)
    found = result.tasks["hallucination"].phenomena
    assert found == {
        "phenomena": {
            "colour": {  # gold 1B 2B, predicted 1B 1D
                "found_rate": 0.5,
                "false_alarm_rate": 0.5,
                "precision": 0.5,
                "f1": 0.5,
                "false_choices": 2,
                "true_choices": 2,
            },
            "relation": {
                "found_rate": 0.0,
                "false_alarm_rate": 0.0,
                "precision": None,
                "f1": 0.0,
                "false_choices": 1,
                "true_choices": 1,
            },
        }
    }
    slices = result.tasks["hallucination"].slices
    assert slices == {
        "source": {
            "coco": {"micro_f1": 0.5, "exact_match": 0.0, "records": 1, "images": 1, "interval": None},
            "drawn": {"micro_f1": 0.0, "exact_match": 0.0, "records": 1, "images": 1, "interval": None},
        }
    }


@pytest.mark.parametrize(("records", "values", "is_slice"), [(10, 10, True), (30, 15, True), (30, 16, False)])
def test_what_names_records_makes_no_slices(records, values, is_slice):
    examples = [
        phrase_record(str(place), "B", meta={"key": f"of {place % values}"}) for place in range(records)
    ]
    predictions = [predict(example.id, "B") for example in examples]
    slices = evaluate_predictions(predictions, examples).tasks["hallucination"].slices
    assert len(slices.get("key", ())) == (values if is_slice else 0)


def test_the_document_defines_what_it_says():
    document = evaluate_predictions([predict("1", "B")], [phrase_record("1", "B")]).to_json()
    assert document["definitions"] == DEFINITIONS and document["schema_version"] == "1.0"
    assert set(document["metrics"]) <= set(DEFINITIONS)
    assert set(document["tasks"]["hallucination"]) - {"metrics", "counts"} <= set(DEFINITIONS)
    assert set(document["counts"]) - set(DEFINITIONS) == {"records", "predictions"}


@st.composite
def prediction_sets(draw):
    """Records of both tasks with right, wrong, missing, failed and invalid predictions."""
    examples, predictions = [], []
    for index in range(draw(st.integers(1, 12))):
        name = str(index)
        if draw(st.booleans()):
            choices = draw(st.integers(2, 5))
            others = LETTERS[1:choices]
            gold = draw(st.one_of(st.just({"A"}), st.sets(st.sampled_from(others), min_size=1)))
            said = draw(st.one_of(st.none(), st.just({"A"}), st.sets(st.sampled_from(LETTERS[:choices]))))
            examples.append(phrase_record(name, gold, choices))
        else:
            said = draw(st.one_of(st.none(), st.sets(st.sampled_from("ABCDE"), max_size=2)))
            examples.append(claim_record(name, draw(st.sampled_from("ABCD"))))
        if draw(st.integers(0, 5)):
            status = draw(st.integers(0, 9))
            predictions.append(predict(name, said, failed=status == 0, abstained=status == 1))
    return examples, predictions


def legal(example, said):
    """Whether a prediction can be scored, written from the definition."""
    ids = {choice.id for choice in example.choices}
    if said is None or said.failed or said.abstained or not said.choices or not said.choices <= ids:
        return False
    alone = len(said.choices) == 1
    return alone if example.task == "factuality" else alone or "A" not in said.choices


def flatten(examples, predictions, task=None, drop_none=False):
    """Gold and predicted decisions as 0/1 arrays."""
    by_id = {row.id: row for row in predictions}
    gold, said = [], []
    for example in examples:
        if task in (None, example.task):
            row = by_id.get(example.id)
            chosen = row.choices if legal(example, row) else frozenset()
            for choice in example.choices[1:] if drop_none else example.choices:
                gold.append(int(choice.id in example.answer))
                said.append(int(choice.id in chosen))
    return np.array(gold), np.array(said)


def check_against_scikit_learn(case):
    examples, predictions = case
    metrics = evaluate_predictions(predictions, examples).metrics
    gold, said = flatten(examples, predictions)
    assert metrics["micro_f1"] == pytest.approx(f1_score(gold, said, zero_division=0))
    assert (metrics["micro_precision"] or 0.0) == pytest.approx(precision_score(gold, said, zero_division=0))
    assert metrics["micro_recall"] == pytest.approx(recall_score(gold, said, zero_division=0))
    gold, said = flatten(examples, predictions, "hallucination", drop_none=True)
    if gold.any() or said.any():
        assert metrics["hallucinated_f1"] == pytest.approx(f1_score(gold, said, zero_division=0))
    else:
        assert metrics["hallucinated_f1"] is None


@settings(max_examples=100, deadline=None)
@given(prediction_sets())
def test_equal_to_scikit_learn(case):
    check_against_scikit_learn(case)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(prediction_sets())
def test_equal_to_scikit_learn_on_a_thousand_prediction_sets(case):
    check_against_scikit_learn(case)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.sampled_from("ABCD")), min_size=1, max_size=20))
def test_factuality_equals_scikit_learn_as_multiclass(pairs):
    examples = [claim_record(str(i), gold) for i, (gold, _) in enumerate(pairs)]
    result = evaluate_predictions([predict(str(i), said) for i, (_, said) in enumerate(pairs)], examples)
    gold, said = [g for g, _ in pairs], [s for _, s in pairs]
    assert result.metrics["micro_f1"] == pytest.approx(accuracy_score(gold, said))
    assert result.metrics["exact_match"] == pytest.approx(accuracy_score(gold, said))
    assert result.metrics["macro_f1"] == pytest.approx(f1_score(gold, said, average="macro", zero_division=0))
    confusion = result.tasks["factuality"].confusion
    found = [[confusion[row][column] for column in LABELS] for row in LABELS]
    assert found == confusion_matrix(gold, said, labels=list("ABCD")).tolist()


@settings(max_examples=50, deadline=None)
@given(prediction_sets(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(case, shuffler: random.Random):
    examples, predictions = case
    expected = evaluate_predictions(predictions, examples).to_json()
    shuffler.shuffle(examples)
    shuffler.shuffle(predictions)
    assert evaluate_predictions(predictions, examples).to_json() == expected


@settings(max_examples=50, deadline=None)
@given(prediction_sets(), st.sampled_from(["none", "others", "A", "B", "C", "D"]))
def test_no_constant_answer_beats_the_constant_baseline(case, policy):
    examples, _ = case
    predictions = []
    for example in examples:
        ids = {choice.id for choice in example.choices}
        if example.task == "hallucination" and policy in ("none", "others"):
            said = {"A"} if policy == "none" else ids - {"A"}
        else:
            said = {policy} & ids
        predictions.append(predict(example.id, said))
    for task in evaluate_predictions(predictions, examples).tasks.values():
        assert task.metrics["micro_f1"] <= task.metrics["constant_micro_f1"]


def test_predictions_of_a_record_that_asks_something_else_by_now_are_told_of():
    record = phrase_record("1", "B")
    told = replace(predict("1", "B"), record_hash=hash_record(record))
    assert evaluate_predictions([told], [record]).counts["changed"] == 0
    assert evaluate_predictions([told], [replace(record, answer=frozenset("C"))]).counts["changed"] == 0
    results = evaluate_predictions([told], [replace(record, caption="Another.")])
    assert results.counts["changed"] == 1 and results.metrics["micro_f1"] == 1.0
    assert any("1 predictions are of records that ask something else" in each for each in results.warnings)
