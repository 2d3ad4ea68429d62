"""What the images add, over all records and for each task."""

from dataclasses import replace

from gold_records import claim_record, phrase_record, predict

from hkdcli.evaluation.blind import compare_blind
from hkdcli.evaluation.metrics import Bootstrap, join_predictions, score_tables


def build_records():
    records = [(claim_record if index % 2 else phrase_record)(str(index), "B") for index in range(40)]
    return [replace(each, image=each.id) for each in records]


def test_gains_by_hand():
    """Seeing: 20 of 20 claims and 15 of 20 sets; blind: 5 of 20 claims and 15 of 20 sets, others wrong."""
    examples = build_records()
    seeing = [predict(each.id, "B" if int(each.id) % 2 or int(each.id) < 30 else "C") for each in examples]
    blind = [
        predict(each.id, "B" if int(each.id) < (10 if int(each.id) % 2 else 30) else "C") for each in examples
    ]
    tables, control = join_predictions(seeing, examples), join_predictions(blind, examples)
    found = compare_blind(tables, control, score_tables(control, blind, examples), Bootstrap(2000))
    assert found.metrics["exact_match"] == 0.5 and found.gain["exact_match"] == 35 / 40 - 20 / 40
    gains = {task: block.gain["exact_match"] for task, block in found.tasks.items()}
    assert gains == {"factuality": 0.75, "hallucination": 0}
    assert found.tasks["factuality"].metrics["exact_match"] == 0.25
    assert found.tasks["hallucination"].metrics["exact_match"] == 0.75
    whole, claims = (
        found.gain_intervals["exact_match"],
        found.tasks["factuality"].gain_intervals["exact_match"],
    )
    assert 0 < whole["low"] < 0.375 < whole["high"] < claims["high"] and claims["low"] < 0.75
    assert found.tasks["hallucination"].gain_intervals["exact_match"] is None  # both answer alike
