from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hkdcli.errors import DataError
from hkdcli.inference.calibration import (
    MIN_RECORDS,
    Labelled,
    fit_task,
    fit_temperature,
    fit_threshold,
    split_ids,
)
from hkdcli.inference.decode import build_posterior, decode, temper
from hkdcli.inference.task_fit import Half, TaskFit

SINGLE = [frozenset(letter) for letter in "ABCD"]
SETS = [frozenset(s) for s in ("n", "a", "b", "c", "ab", "ac", "bc", "abc")]


def draw_items(count, answers=SINGLE, *, sharpness=1.0, seed=0, none_id=None):
    """Records whose gold answers are drawn from a posterior that is then sharpened: T = sharpness."""
    rng = np.random.default_rng(seed)
    items = []
    for index in range(count):
        fair = build_posterior(answers, rng.normal(size=len(answers)) * 1.5)
        gold = answers[rng.choice(len(answers), p=fair.probs / fair.probs.sum())]
        items.append(Labelled(f"r{index}", temper(fair, 1 / sharpness), gold, none_id))
    return items


def split(items):
    return [item.posterior for item in items], [item.gold for item in items]


def compute_nll(items, temperature):
    return -np.mean([np.log(temper(p, temperature).get_probability(g)) for _, p, g, _ in items])


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 2.5, 6.0])
def test_the_temperature_undoes_what_sharpened_the_posteriors(sharpness):
    posteriors, golds = split(draw_items(3000, sharpness=sharpness))
    assert fit_temperature(posteriors, golds) == pytest.approx(sharpness, rel=0.07)


@given(st.integers(0, 10_000), st.floats(0.25, 4))
def test_law_tempering_first_divides_the_temperature(seed, factor):
    posteriors, golds = split(draw_items(200, seed=seed))
    tempered = [temper(posterior, factor) for posterior in posteriors]
    assert fit_temperature(tempered, golds) == pytest.approx(
        fit_temperature(posteriors, golds) / factor, rel=1e-3
    )


@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.05, 20))
def test_law_no_temperature_does_better_than_the_fitted_one(seed, count, other):
    items = draw_items(count, seed=seed)
    fitted = fit_temperature(*split(items))
    assert 0.05 <= fitted <= 20
    assert compute_nll(items, fitted) <= compute_nll(items, other) + 1e-5


def test_records_may_have_different_numbers_of_answers():
    posteriors, golds = split(draw_items(400, sharpness=3.0) + draw_items(400, SETS, sharpness=3.0))
    assert fit_temperature(posteriors, golds) == pytest.approx(3.0, rel=0.15)


def test_gold_without_any_probability_does_not_move_the_temperature():
    items = draw_items(300, sharpness=2.0)
    impossible = build_posterior(SINGLE, [0.0, -1.0, -2.0, -np.inf])
    lost = [
        Labelled("beam", impossible, frozenset("E"), None),
        Labelled("no", impossible, frozenset("D"), None),
    ]
    assert fit_temperature(*split(items + lost)) == pytest.approx(fit_temperature(*split(items)), rel=1e-3)
    # Where nothing can be gained nothing is changed.
    assert fit_temperature(*split(lost)) == 1.0


def compute_micro_f1(items, threshold):
    answers = [decode(p, "threshold", none_id=none_id, threshold=threshold) for _, p, _, none_id in items]
    hits = sum(len(y & item.gold) for y, item in zip(answers, items, strict=True))
    return 2 * hits / sum(len(y) + len(item.gold) for y, item in zip(answers, items, strict=True))


@given(st.integers(0, 10_000), st.integers(1, 15), st.floats(0.001, 0.999), st.booleans())
@settings(max_examples=50)
def test_law_no_threshold_does_better_than_the_fitted_one(seed, count, other, none):
    items = draw_items(count, SETS if none else SETS[1:], seed=seed, none_id="n" if none else None)
    posteriors, golds = split(items)
    fitted = fit_threshold(posteriors, golds, [item.none_id for item in items])
    assert 0 < fitted < 1
    assert compute_micro_f1(items, fitted) >= compute_micro_f1(items, other)


def test_of_equal_thresholds_the_one_nearest_to_a_half_is_taken():
    certain = build_posterior(SETS, [-np.inf, 0.0, *[-np.inf] * 6])
    assert fit_threshold([certain], [frozenset("a")], ["n"]) == 0.5
    # Marginals 0.9 (right) and 0.2 (wrong): anything between does.
    answers = [frozenset(s) for s in ("n", "a", "b", "ab")]
    one = build_posterior(answers, np.log([0.1, 0.7, 0.01, 0.19]))
    assert fit_threshold([one], [frozenset("a")], ["n"]) == pytest.approx((0.89 + 0.2) / 2)


def test_many_marginals_and_a_beam_still_give_a_good_threshold():
    items = draw_items(600, SETS, none_id="n")
    beams = [
        item._replace(posterior=build_posterior(SETS[:5], item.posterior.log_probs[:5]))
        for item in items
        if item.gold in SETS[:5]
    ]
    for records in (items, beams):
        posteriors, golds = split(records)
        fitted = fit_threshold(posteriors, golds, ["n"] * len(records))
        grid = [compute_micro_f1(records, t) for t in np.linspace(0.05, 0.95, 19)]
        assert compute_micro_f1(records, fitted) >= max(grid) - 0.003


@given(st.sets(st.text(max_size=6), max_size=40), st.randoms())
def test_halves_share_nothing_and_do_not_depend_on_order(ids, random):
    fit, test = split_ids(ids)
    assert not fit & test
    assert fit | test == ids
    assert len(test) - len(fit) in (0, 1)
    shuffled = list(ids)
    random.shuffle(shuffled)
    assert split_ids(shuffled) == (fit, test)


def test_halves_are_mixed_whatever_the_ids_tell():
    assert len(split_ids(["\ud800", "r1"])[0]) == 1  # half a character is an id, too
    fit, _ = split_ids(f"{index:06d}" for index in range(1000))
    assert 200 < sum(int(record_id) < 500 for record_id in fit) < 300


@pytest.mark.parametrize("task", ["hallucination", "factuality"])
def test_a_fit_says_what_the_test_half_gains_and_depends_on_no_order(task):
    answers, none_id = (SETS, "n") if task == "hallucination" else (SINGLE, None)
    items = draw_items(1500, answers, sharpness=4.0, none_id=none_id)
    fit = fit_task(task, items)
    assert fit.temperature == pytest.approx(4.0, rel=0.15)
    assert fit.nll_after < fit.nll_before
    assert fit.ece_after < 0.06 < fit.ece_before
    assert (len(fit.fit_half.confidence), len(fit.test_half.confidence)) == (750, 750)
    assert fit_task(task, items[::-1]) == fit


def test_the_test_half_has_no_part_in_what_is_fitted():
    items = draw_items(200, SETS, sharpness=3.0, none_id="n")
    _, test_ids = split_ids(item.id for item in items)
    spoiled = [item._replace(gold=frozenset("n")) if item.id in test_ids else item for item in items]
    one, two = fit_task("hallucination", items), fit_task("hallucination", spoiled)
    kept = ("temperature", "decoding", "threshold", "fit_half")
    assert [getattr(one, name) for name in kept] == [getattr(two, name) for name in kept]
    assert one.test_half != two.test_half
    assert one.nll_after != two.nll_after


def test_pairs_are_what_inference_will_see():
    items = draw_items(60, SETS, none_id="n")
    fit = fit_task("hallucination", items, decoding="threshold")
    _, test_ids = split_ids(item.id for item in items)
    pairs = []
    for item in (item for item in items if item.id in test_ids):
        posterior = temper(item.posterior, fit.temperature)
        answer = decode(posterior, fit.decoding, none_id="n", threshold=fit.threshold)
        pairs.append((posterior.get_probability(answer), answer == item.gold))
    pairs.sort(reverse=True)
    assert fit.test_half.confidence == pytest.approx([p for p, _ in pairs], rel=1e-8)
    assert list(fit.test_half.correct) == [right for _, right in pairs]


def build_shy_items(count):
    """Posteriors that spread over sets: the most probable is "n", yet phrase `a` is likely, and right."""
    log_probs = np.log([0.3, 0.2, 0.02, 0.02, 0.2, 0.2, 0.03, 0.03])
    return [Labelled(f"r{i}", build_posterior(SETS, log_probs), frozenset("a"), "n") for i in range(count)]


def test_hallucination_is_decoded_by_threshold_where_that_is_better_than_map():
    fit = fit_task("hallucination", build_shy_items(40))
    assert fit.decoding == "threshold"
    assert all(fit.test_half.correct)
    for decoding in ("map", "expected-f1"):
        asked = fit_task("hallucination", build_shy_items(40), decoding=decoding)
        assert (asked.decoding, asked.threshold) == (decoding, None)


def test_hallucination_stays_with_map_where_a_threshold_gains_nothing():
    posterior = build_posterior(SETS, np.log([0.02, 0.86, *[0.02] * 6]))
    items = [Labelled(f"r{i}", posterior, frozenset("a"), "n") for i in range(40)]
    fit = fit_task("hallucination", items)
    assert (fit.decoding, fit.threshold) == ("map", None)
    asked = fit_task("hallucination", items, decoding="threshold")
    assert asked.decoding == "threshold"
    assert asked.threshold is not None


def test_factuality_is_decoded_by_map_and_a_threshold_changes_nothing_there():
    items = draw_items(80)
    fit = fit_task("factuality", items)
    assert (fit.decoding, fit.threshold) == ("map", None)
    assert fit_task("factuality", items, decoding="threshold").test_half == fit.test_half


@pytest.mark.parametrize("count", [0, 1, MIN_RECORDS - 1])
def test_too_few_records_are_refused(count):
    with pytest.raises(DataError, match=f"{count} labelled records are too few") as caught:
        fit_task("factuality", draw_items(count))
    assert str(MIN_RECORDS) in (caught.value.hint or "")
    assert fit_task("factuality", draw_items(MIN_RECORDS)).nll_after >= 0


def test_gold_that_no_posterior_holds_gives_finite_figures():
    beam = [frozenset("a"), frozenset("ab")]
    items = [Labelled(f"r{i}", build_posterior(beam, [0.0, -1.0]), frozenset("c"), "n") for i in range(20)]
    fit = fit_task("hallucination", items)
    assert fit.temperature == 1.0
    assert fit.nll_before == fit.nll_after == pytest.approx(-math.log(1e-12))
    assert not any(fit.test_half.correct)


def test_a_model_that_is_always_certain_and_right_stays_so():
    certain = build_posterior(SETS, [-np.inf, 0.0, *[-np.inf] * 6])
    fit = fit_task("hallucination", [Labelled(f"r{i}", certain, frozenset("a"), "n") for i in range(10)])
    assert (fit.temperature, fit.decoding, fit.ece_after, fit.nll_after) == (1.0, "map", 0.0, 0.0)


def test_parts_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="different lengths"):
        Half(confidence=(0.5,), correct=(True, False))
    half = Half(confidence=(0.5,), correct=(True,))
    figures = dict.fromkeys(
        ("nll_before", "nll_after", "ece_before", "ece_after", "exact_match_before", "exact_match_after"), 0.1
    )
    for decoding, threshold in itertools.product(("map", "threshold"), (None, 0.5)):
        parts = {"decoding": decoding, "threshold": threshold, "fit_half": half, "test_half": half}
        if (decoding == "threshold") == (threshold is not None):
            assert TaskFit(temperature=1.0, **parts, **figures).threshold == threshold
        else:
            with pytest.raises(ValueError, match="do not go together"):
                TaskFit(temperature=1.0, **parts, **figures)


def test_on_few_records_of_a_model_that_is_calibrated_little_is_changed():
    fits = [fit_task("factuality", draw_items(24, seed=seed)) for seed in range(100)]
    assert sum(fit.temperature == 1 for fit in fits) > 50
    lost = np.mean([fit.nll_after - fit.nll_before for fit in fits])
    assert lost < 0.05
    # What is far off is mended with a hundred.
    mended = [fit_task("factuality", draw_items(100, sharpness=5.0, seed=seed)) for seed in range(20)]
    assert np.mean([fit.nll_after < fit.nll_before for fit in mended]) > 0.9
