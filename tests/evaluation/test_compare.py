"""Comparisons of two systems: laws, hand-computed cases, and tests against what the texts on them say."""

import json
import random
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from gold_records import claim_record, phrase_record, predict
from scipy.stats import binomtest

from hkdcli.evaluation.compare import (
    compare_tables,
    compute_flip_p_value,
    compute_p_value,
    compute_smallest_detectable,
)
from hkdcli.evaluation.comparison import DEFINITIONS, Comparison
from hkdcli.evaluation.metrics import Bootstrap, join_predictions, score_tables

BOOTSTRAP = Bootstrap(resamples=2000)


def compare(first, second, examples, bootstrap=BOOTSTRAP):
    tables = [join_predictions(rows, examples) for rows in (first, second)]
    scored = [score_tables(each, rows, examples) for each, rows in zip(tables, (first, second), strict=True)]
    return compare_tables(tables[0], tables[1], (scored[0], scored[1]), bootstrap)


def draw(seed, records=120, accuracy=0.6):
    """Claims with predictions of which about `accuracy` are right; the records are always the same."""
    rng = random.Random(seed)
    golds = [random.Random(str(index)).choice("ABCD") for index in range(records)]
    examples = [
        replace(claim_record(str(index), gold, meta={"source": "xy"[index % 2]}), image=f"{index}.png")
        for index, gold in enumerate(golds)
    ]
    said = [gold if rng.random() < accuracy else rng.choice("ABCD") for gold in golds]
    return examples, [predict(str(index), letter) for index, letter in enumerate(said)]


def test_a_system_equals_itself():
    examples, rows = draw(1)
    found = compare(rows, rows, examples)
    assert all(score.difference == 0 and score.p_value == 1 for score in found.scores.values())
    assert all(
        score.interval is None and score.smallest_detectable is None for score in found.scores.values()
    )
    assert found.mcnemar.p_value == 1 and found.changed == [] and found.flips.fixed == 0


def test_changes_by_hand():
    examples = [phrase_record(name, "B") for name in "1234"] + [claim_record("5", "A")]
    first = [predict("1", "B"), predict("2", "C"), predict("3", "C"), predict("4", "BC"), predict("5", "A")]
    second = [predict("1", "C"), predict("2", "B"), predict("3", "D"), predict("4", "BC")]  # 5 is missing
    found = compare(first, second, examples)
    changes = {record.id: record.change for record in found.changed}
    assert changes == {"1": "broken", "2": "fixed", "3": "other", "5": "broken"}
    assert (found.flips.fixed, found.flips.broken, found.flips.other, found.flips.records) == (1, 2, 1, 5)
    assert found.tasks["factuality"].flips.broken == 1
    assert (found.tasks["factuality"].mcnemar.only_a, found.tasks["factuality"].mcnemar.only_b) == (1, 0)
    assert found.tasks["factuality"].scores["exact_match"].difference == -1
    assert (found.counts["a"]["missing"], found.counts["b"]["missing"]) == (0, 1)
    assert found.bootstrap.level == BOOTSTRAP.level and found.bootstrap.resamples == BOOTSTRAP.resamples
    last = found.changed[0]
    assert (last.id, last.gold, last.a, last.b) == ("5", ["A"], ["A"], None)
    assert (found.mcnemar.only_a, found.mcnemar.only_b) == (2, 1)
    # a: TP 1B 4B 5A, FP 2C 3C 4C, FN 2B 3B; b: TP 2B 4B, FP 1C 3D 4C, FN 1B 3B 5A
    assert found.scores["micro_f1"].a == 6 / 11 and found.scores["micro_f1"].b == 4 / 10
    assert found.scores["micro_f1"].difference == pytest.approx(4 / 10 - 6 / 11)
    assert any(text.startswith("b: 1 of 5 records have no prediction") for text in found.warnings)


def test_swapping_the_systems_swaps_the_signs():
    examples, first = draw(1)
    _, second = draw(2, accuracy=0.8)
    there, back = compare(first, second, examples), compare(second, first, examples)
    for name, score in there.scores.items():
        other = back.scores[name]
        assert score.difference == pytest.approx(-other.difference)
        assert (score.interval is None) == (other.interval is None)
        if score.interval:
            assert score.interval["low"] == pytest.approx(-other.interval["high"], abs=0.02)
    assert there.flips.fixed == back.flips.broken
    assert there.mcnemar.p_value == pytest.approx(back.mcnemar.p_value)


def test_mcnemar_is_the_exact_binomial_of_the_discordant_records():
    examples, first = draw(1)
    _, second = draw(2, accuracy=0.8)
    found = compare(first, second, examples).mcnemar
    right = [
        [row.choices == example.answer for row, example in zip(rows, examples, strict=True)]
        for rows in (first, second)
    ]
    only_a = sum(a and not b for a, b in zip(*right, strict=True))
    only_b = sum(b and not a for a, b in zip(*right, strict=True))
    assert (found.only_a, found.only_b) == (only_a, only_b) and only_a + only_b > 10
    assert found.p_value == pytest.approx(binomtest(only_a, only_a + only_b, 0.5).pvalue)


@pytest.mark.parametrize("gains", [[1, 1, 1, -1], [3, -1, 2], [2, 2, -1, 0, 5, 1], [0, 0], [], [4], [-2, 3]])
def test_mcnemar_over_images_counts_all_choices_of_signs(gains):
    choices = product((1, -1), repeat=len(gains))
    flipped = [sum(s * g for s, g in zip(signs, gains, strict=True)) for signs in choices]
    expected = sum(abs(each) >= abs(sum(gains)) for each in flipped) / len(flipped)
    assert compute_flip_p_value(np.array(gains, np.int64)) == pytest.approx(expected)


def test_ten_records_of_one_image_that_are_fixed_together_are_one_gain():
    examples = [replace(claim_record(str(index), "A"), image="one.png") for index in range(10)]
    first, second = ([predict(each.id, letter) for each in examples] for letter in "BA")
    found = compare(first, second, examples).mcnemar
    assert (found.only_a, found.only_b, found.p_value) == (0, 10, 1.0)


def test_a_large_difference_is_found_and_a_small_one_is_not():
    examples, first = draw(1, 300, accuracy=0.5)
    _, better = draw(2, 300, accuracy=0.9)
    found = compare(first, better, examples).scores["micro_f1"]
    assert found.p_value < 0.01 and found.interval["low"] > 0
    assert found.difference > found.smallest_detectable
    _, alike = draw(3, 300, accuracy=0.5)
    found = compare(first, alike, examples).scores["micro_f1"]
    assert found.p_value > 0.05 and abs(found.difference) < found.smallest_detectable


def test_slices_tell_where_records_changed():
    examples, first = draw(1)
    second = [replace(row, choices=example.answer) for row, example in zip(first, examples, strict=True)]
    slices = compare(first, second, examples).tasks["factuality"].slices["source"]
    wrong = [row.choices != example.answer for row, example in zip(first, examples, strict=True)]
    assert slices["x"].fixed == sum(wrong[0::2]) and slices["y"].fixed == sum(wrong[1::2])
    assert slices["x"].records == 60 and slices["x"].broken == 0


def test_p_values_by_hand():
    assert compute_p_value(np.array([0.1] * 97 + [-0.1] * 3)) == 8 / 101
    assert compute_p_value(np.array([0.1] * 100)) == 2 / 101
    assert compute_p_value(np.array([0.0] * 100)) == 1
    assert compute_p_value(np.array([np.nan])) is None
    assert compute_smallest_detectable(np.array([0.5, 0.5])) is None
    assert compute_smallest_detectable(np.array([-1.0, 1.0])) == pytest.approx(2.8016, abs=1e-4)


def test_what_most_resamples_leave_undefined_has_neither_interval_nor_test():
    mostly = np.array([0.1, 0.2, np.nan, np.nan, np.nan])
    assert compute_p_value(mostly) is None and compute_smallest_detectable(mostly) is None
    half = np.array([0.1, 0.2, np.nan, np.nan])
    assert compute_p_value(half) == 2 / 3 and compute_smallest_detectable(half) > 0


def test_the_interval_of_a_difference_has_the_level_that_is_asked_for():
    examples, first = draw(1)
    _, second = draw(2, accuracy=0.8)
    half, most = (
        compare(first, second, examples, replace(BOOTSTRAP, level=level)).scores["exact_match"].interval
        for level in (0.5, 0.95)
    )
    assert half["half_width"] == pytest.approx(most["half_width"] * 0.6745 / 1.96, rel=0.15)


def test_a_score_that_one_side_lacks_has_no_difference():
    examples = [phrase_record(str(index), "BC"[index % 2]) for index in range(20)]
    examples = [replace(each, image=each.id) for each in examples]
    said = [predict(each.id, "B") for each in examples]
    found = compare([], said, examples).scores["micro_precision"]
    assert (found.a, found.b) == (None, 0.5)
    assert found.difference is found.interval is found.p_value is found.smallest_detectable is None


def test_the_document_survives_writing_and_defines_itself():
    examples, first = draw(1)
    found = compare(first, draw(2)[1], examples)
    text = json.dumps(found.to_json(), allow_nan=False)
    assert Comparison.model_validate_json(text) == found
    assert found.definitions == DEFINITIONS and "McNemar.p_value" in DEFINITIONS


@pytest.mark.slow
def test_p_values_are_uniform_where_there_is_no_difference_and_power_is_as_told():
    """Of systems that are equally good about 5 % differ at 0.05; of a detectable gain 80 % are found."""
    false, found, smallest = 0, 0, []
    runs = 400
    for seed in range(runs):
        examples, first = draw(seed * 3, 200, accuracy=0.6)
        equal = compare(first, draw(seed * 3 + 1, 200, accuracy=0.6)[1], examples).scores["exact_match"]
        false += equal.p_value < 0.05
        smallest.append(equal.smallest_detectable)
    gain = float(np.mean(smallest))
    for seed in range(runs):
        examples, first = draw(seed * 3, 200, accuracy=0.6)
        # a right answer is drawn with accuracy + (1 - accuracy) / 4
        better = draw(seed * 3 + 2, 200, accuracy=0.6 + gain / 0.75)[1]
        found += compare(first, better, examples).scores["exact_match"].p_value < 0.05
    assert 0.02 <= false / runs <= 0.08
    assert 0.72 <= found / runs <= 0.88
