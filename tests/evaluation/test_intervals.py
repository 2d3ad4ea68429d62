"""The clustered bootstrap: laws, a rival written from the definition, and how often it is right."""

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gold_records import claim_record, phrase_record, predict
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from hkdcli.data.records import Choice
from hkdcli.evaluation.intervals import (
    bootstrap_scores,
    compute_gains,
    compute_scores,
    resample_gains,
    score_gains,
)
from hkdcli.evaluation.join import build_table
from hkdcli.evaluation.metrics import Bootstrap, evaluate_predictions
from hkdcli.evaluation.resampling import find_interval, resample
from hkdcli.evaluation.scores import score_f1, score_sums
from hkdcli.evaluation.tally import MAX_CLASSES, Tally, join_tallies, tally_records

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from interval_coverage import measure_coverage

ANSWERS = ["A", "B", "C", "D", "BC", "BD", "CD", "BCD"]
BOOTSTRAP = Bootstrap(resamples=2000)
MANY = 10**9  # images


def draw_case(seed, records=60, per_image=1, accuracy=0.6):
    """Records of both tasks, of which about `accuracy` are right, `per_image` with the same image."""
    rng = random.Random(seed)
    examples, predictions = [], []
    for index in range(records):
        make, answers = (phrase_record, ANSWERS) if index % 2 else (claim_record, list("ABCD"))
        gold = rng.choice(answers)
        said = gold if rng.random() < accuracy else rng.choice(answers)
        examples.append(replace(make(str(index), gold), image=f"{index // per_image}.png"))
        predictions.append(predict(str(index), said))
    return examples, predictions


def tally(examples, predictions):
    by_id = {row.id: row for row in predictions}
    tasks = sorted({example.task for example in examples})
    tables = [build_table([each for each in examples if each.task == task], by_id) for task in tasks]
    return join_tallies([tally_records(table) for table in tables])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 4))
def test_the_formulas_give_the_scores_of_the_file_itself(seed, records, per_image):
    examples, predictions = draw_case(seed, records, per_image)
    results = evaluate_predictions(predictions, examples)
    for name, value in compute_scores(tally(examples, predictions)).items():
        assert value == pytest.approx(results.metrics[name], nan_ok=True), name


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_intervals_do_not_depend_on_the_order_of_records(seed, shuffler):
    examples, predictions = draw_case(seed, 20, 2)
    before = bootstrap_scores(tally(examples, predictions), Bootstrap(resamples=50))
    shuffler.shuffle(examples)
    assert bootstrap_scores(tally(examples, predictions), Bootstrap(resamples=50)) == before


def test_the_same_seed_gives_the_same_interval_and_another_seed_nearly():
    counts = tally(*draw_case(1))
    first = bootstrap_scores(counts, BOOTSTRAP)["micro_f1"]
    assert bootstrap_scores(counts, BOOTSTRAP)["micro_f1"] == first
    other = bootstrap_scores(counts, replace(BOOTSTRAP, seed=1))["micro_f1"]
    assert other != first and other["low"] == pytest.approx(first["low"], abs=0.02)


def draw_images_one_by_one(counts: Tally, resamples: int) -> np.ndarray:
    """The clustered bootstrap as it is defined, without any trick."""
    rng = np.random.default_rng(7)
    members = {}
    for place, image in enumerate(counts.images):
        members.setdefault(image, []).append(place)
    groups = list(members.values())
    values = []
    for _ in range(resamples):
        drawn = [place for pick in rng.integers(0, len(groups), len(groups)) for place in groups[pick]]
        sums = {name: np.float64(counts.columns[name][drawn].sum()) for name in ("tp", "fp", "fn")}
        values.append(score_f1(sums))
    return np.array(values)


@pytest.mark.parametrize("per_image", [1, 3])
@pytest.mark.parametrize("is_alike", [True, False], ids=["few kinds", "all kinds differ"])
def test_drawing_kinds_of_images_is_drawing_images(per_image, is_alike):
    """Both ways of drawing have the mean and spread of the bootstrap as it is written in books."""
    counts = tally(*draw_case(3, 60, per_image))
    rng = np.random.default_rng(1)
    more = {
        name: column + (0 if is_alike else rng.integers(0, 40, 60)) for name, column in counts.columns.items()
    }
    counts = replace(counts, columns=more, classes={})
    found = resample(counts, lambda sums: {"f1": score_f1(sums)}, Bootstrap(resamples=20_000))["f1"]
    expected = draw_images_one_by_one(counts, 4000)
    assert found.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / 4000**0.5)
    assert found.std() == pytest.approx(expected.std(), rel=0.06)


def test_records_of_one_image_are_drawn_together():
    """Three copies of each record are no more evidence where they are of the same image."""
    examples, predictions = draw_case(5, 40)
    once = bootstrap_scores(tally(examples, predictions), BOOTSTRAP)["exact_match"]
    copies = [replace(each, id=f"{each.id}-{copy}") for each in examples for copy in range(3)]
    said = [replace(each, id=f"{each.id}-{copy}") for each in predictions for copy in range(3)]
    together = bootstrap_scores(tally(copies, said), BOOTSTRAP)["exact_match"]
    assert together == pytest.approx(once)
    apart = [replace(each, image=each.id) for each in copies]
    alone = bootstrap_scores(tally(apart, said), BOOTSTRAP)["exact_match"]
    assert alone["half_width"] == pytest.approx(together["half_width"] / 3**0.5, rel=0.15)


def test_where_all_images_score_alike_there_is_no_interval():
    examples = [claim_record(str(index), "A") for index in range(10)]
    examples = [replace(each, image=each.id) for each in examples]
    results = evaluate_predictions([predict(each.id, "A") for each in examples], examples, BOOTSTRAP)
    assert results.metrics["micro_f1"] == 1.0 and results.intervals["micro_f1"] is None
    assert any("no interval" in warning for warning in results.warnings)


def test_macro_f1_over_all_has_no_interval_where_a_task_has_too_many_classes():
    """Else the interval would be of the macro-F1 of the other task alone."""
    examples, predictions = draw_case(3)
    texts = [f"label {index}" for index in range(64)]
    examples = [
        each
        if each.task == "hallucination"
        else replace(each, choices=tuple(map(Choice, "ABCD", texts[place : place + 4])))
        for place, each in enumerate(examples)
    ]
    results = evaluate_predictions(predictions, examples, BOOTSTRAP)
    assert len(results.tasks["factuality"].per_class) > MAX_CLASSES
    assert results.metrics["macro_f1"] is not None and results.intervals["macro_f1"] is None
    assert results.tasks["hallucination"].intervals["macro_f1"] is not None
    assert any("no interval for macro_f1" in text and "classes" in text for text in results.warnings)


def test_a_part_of_a_tally_has_the_counts_and_images_of_its_records():
    counts = Tally({"tp": np.arange(4), "fp": np.ones(4, np.int64)}, ("a", "a", "b", "c"), {})
    part = counts.select(np.array([1, 3]), ["tp"])
    assert part.images == ("a", "c") and {name: each.tolist() for name, each in part.columns.items()} == {
        "tp": [1, 3]
    }


def test_a_slice_has_the_interval_of_its_records_alone():
    examples, predictions = draw_case(4, 80, 2)
    examples = [
        replace(each, extra={"meta": {"half": "xy"[place >= 40]}}) for place, each in enumerate(examples)
    ]
    second = evaluate_predictions(predictions, examples[40:], BOOTSTRAP).tasks["factuality"]
    found = evaluate_predictions(predictions, examples, BOOTSTRAP).tasks["factuality"].slices["half"]["y"]
    assert (found["records"], found["micro_f1"]) == (20, second.metrics["micro_f1"])
    for edge in ("low", "high"):  # the kinds of images are others, so the draws are, too
        assert found["interval"][edge] == pytest.approx(second.intervals["micro_f1"][edge], abs=0.06)


def test_one_image_gives_no_interval():
    examples, predictions = draw_case(2, 10, per_image=10)
    assert set(bootstrap_scores(tally(examples, predictions), BOOTSTRAP).values()) == {None}


def test_an_interval_needs_half_of_the_resamples():
    values = np.array([0.1, 0.2, 0.3, np.nan])
    assert find_interval(values, 0.95, MANY).low == pytest.approx(0.105)
    assert find_interval(values, 0.9, MANY).high == pytest.approx(0.29)
    assert find_interval(np.array([0.1, 0.2, np.nan, np.nan, np.nan]), 0.95, MANY) is None
    assert find_interval(np.array([np.nan]), 0.95, MANY) is None


def test_of_a_mean_the_interval_is_about_that_of_students_t():
    sample = np.random.default_rng(0).normal(size=12)
    means = np.random.default_rng(1).choice(sample, (40_000, 12)).mean(axis=1)
    half = student.ppf(0.975, 11) * sample.std(ddof=1) / 12**0.5
    assert find_interval(means, 0.95, 12).half_width == pytest.approx(half, rel=0.03)


def test_a_gain_over_oneself_is_zero_in_every_resample():
    counts = tally(*draw_case(4))
    assert set(compute_gains(counts, counts).values()) <= {0.0, None}
    assert all(
        (np.nan_to_num(gains) == 0).all() for gains in resample_gains(counts, counts, BOOTSTRAP).values()
    )


def test_gains_are_differences_and_pairing_makes_them_sharp():
    examples, first = draw_case(6, 200)
    _, second = draw_case(6, 200)
    second[0] = predict("0", "A" if "A" not in first[0].choices else "B")
    a, b = tally(examples, first), tally(examples, second)
    gains = compute_gains(a, b)
    assert gains["exact_match"] == pytest.approx(
        compute_scores(b)["exact_match"] - compute_scores(a)["exact_match"]
    )
    paired = resample_gains(a, b, BOOTSTRAP)["exact_match"].std()
    assert paired < 0.2 * resample(b, lambda s: score_sums(s, b.classes), BOOTSTRAP)["exact_match"].std()


def test_gains_of_sums_know_their_sides():
    sums = {
        f"{side}{name}": np.float64(value)
        for side, values in (("a:", (1, 1, 1)), ("b:", (3, 0, 0)))
        for name, value in zip(("tp", "fp", "fn"), values, strict=True)
    }
    sums |= {f"{side}{name}": np.float64(4) for side in ("a:", "b:") for name in ("records", "matched")}
    sums |= {f"{side}{name}": np.float64(4) for side in ("a:", "b:") for name in ("named", "answered")}
    sums |= {f"{side}answered_matched": np.float64(4) for side in ("a:", "b:")}
    gains = score_gains(sums, {})
    assert gains["micro_f1"] == 0.5 and gains["exact_match"] == 0 and np.isnan(gains["hallucinated_f1"])


@pytest.mark.slow
@pytest.mark.parametrize(("images", "at_least"), [(50, 0.90), (200, 0.93), (1000, 0.935)])
def test_coverage_is_near_what_is_promised(images, at_least):
    """Of files drawn from a known world, so many of the 95 % intervals hold the true score."""
    found = measure_coverage(images, (1, 4), files=1000, resamples=2000)
    assert at_least <= found["images"] <= 0.975
    assert found["records"] < found["images"]


def test_the_simulation_can_fail():
    """Records drawn one by one are far too sure where ten share an image."""
    assert measure_coverage(50, (10, 10), files=60, resamples=400)["records"] < 0.8
