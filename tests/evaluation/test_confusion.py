"""The confusion matrix of factuality, by hand."""

from dataclasses import replace

from gold_records import LABELS, claim_record, phrase_record, predict

from hkdcli.data.records import Choice
from hkdcli.evaluation.metrics import NO_ANSWER, evaluate_predictions
from hkdcli.evaluation.tally import MAX_CLASSES


def test_records_are_counted_by_gold_and_predicted_label():
    examples = [claim_record(str(index), gold) for index, gold in enumerate("AAABBC")]
    said = [predict("0", "A"), predict("1", "B"), predict("2", "B"), predict("3", "AB"), predict("5", "C")]
    found = evaluate_predictions(said, examples).tasks["factuality"].confusion
    expected = {label: dict.fromkeys((*sorted(LABELS), NO_ANSWER), 0) for label in sorted(LABELS)}
    expected["True"] |= {"True": 1, "False": 2}
    expected["False"] |= {NO_ANSWER: 2}  # two labels are no legal answer, and 4 is missing
    expected["Partially True"] |= {"Partially True": 1}
    assert found == expected and list(found["True"])[-1] == NO_ANSWER


def test_a_record_of_several_gold_labels_is_left_out():
    examples = [claim_record("0", "AB"), claim_record("1", "A")]
    found = evaluate_predictions([predict("0", "A"), predict("1", "A")], examples)
    assert sum(sum(row.values()) for row in found.tasks["factuality"].confusion.values()) == 1


def test_sets_and_too_many_labels_have_none():
    texts = [f"label {index}" for index in range(MAX_CLASSES + 1)]
    many = replace(claim_record("1", "A"), choices=tuple(Choice(text, text) for text in texts))
    many = replace(many, answer=frozenset(texts[:1]))
    results = evaluate_predictions([], [phrase_record("0", "A"), many])
    assert [task.confusion for task in results.tasks.values()] == [{}, {}]
    fewer = replace(many, choices=many.choices[:-1])
    assert evaluate_predictions([], [fewer]).tasks["factuality"].confusion[texts[0]][NO_ANSWER] == 1
