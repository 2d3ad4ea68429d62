"""Data order and schedules as functions of the step."""

from collections import Counter

import pytest

from hkdcli.distill.order import StepShape, draw_step
from hkdcli.distill.schedules import compute_lambda, compute_learning_rate


def stream(steps, size, shape, rank=0, seed=1):
    return [
        draw for step in range(steps) for micro in draw_step(step, size, seed, shape, rank) for draw in micro
    ]


def test_every_example_once_per_epoch_in_a_new_order():
    draws = stream(10, 10, StepShape(3, 1))
    for epoch in range(3):
        seen = Counter(draw.index for draw in draws if draw.epoch == epoch)
        assert seen == Counter(range(10))
    orders = [[d.index for d in draws if d.epoch == epoch] for epoch in range(3)]
    assert orders[0] != orders[1] != orders[2]


def test_a_step_holds_the_same_examples_however_it_is_cut():
    whole = [draw_step(step, 13, 1, StepShape(8, 1)) for step in range(5)]
    for shape in (StepShape(4, 2), StepShape(2, 4), StepShape(1, 8)):
        cut = [draw_step(step, 13, 1, shape) for step in range(5)]
        assert [sum(step, []) for step in cut] == [sum(step, []) for step in whole]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize(("size", "count"), [(8, 1), (2, 4), (3, 3), (4, 2)])
def test_devices_share_the_examples_of_a_step_in_as_many_pieces_each(size, count, ranks):
    shape = StepShape(size, count, ranks)
    (whole,) = draw_step(2, 13, 1, StepShape(size * count, 1))
    shares = [draw_step(2, 13, 1, shape, rank) for rank in range(ranks)]
    assert Counter(draw for share in shares for piece in share for draw in piece) == Counter(whole)
    assert {len(share) * ranks for share in shares} == {shape.pieces}
    assert all(1 <= len(piece) <= size for share in shares for piece in share)


def test_order_depends_on_the_seed_alone():
    assert stream(4, 50, StepShape(5, 2)) == stream(4, 50, StepShape(5, 2))
    assert stream(4, 50, StepShape(5, 2)) != stream(4, 50, StepShape(5, 2), seed=2)


def test_lambda():
    assert [compute_lambda("constant", step, 5, start=0.4) for step in (0, 4)] == [0.4, 0.4]
    assert compute_lambda("linear", 0, 5, start=0.2, end=0.8) == pytest.approx(0.2)
    assert compute_lambda("linear", 2, 5, start=0.2, end=0.8) == pytest.approx(0.5)
    assert compute_lambda("cosine", 1, 5, start=0.0, end=1.0) == pytest.approx(0.1464466)
    for schedule in ("linear", "cosine"):
        assert compute_lambda(schedule, 4, 5, start=0.2, end=0.8) == pytest.approx(0.8)
        assert compute_lambda(schedule, 0, 1, start=0.2, end=0.8) == pytest.approx(0.2)


def test_learning_rate():
    rates = [compute_learning_rate("linear", step, 10, peak=1.0, warmup_steps=2) for step in range(10)]
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    cosine = [compute_learning_rate("cosine", step, 10, peak=2.0) for step in range(10)]
    assert cosine[0] == 2.0 and cosine[5] == pytest.approx(1.0) and 0 < cosine[9] < 0.1
    assert compute_learning_rate("constant", 9, 10, peak=3.0, warmup_steps=10) == 3.0


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="there are: constant, linear, cosine"):
        compute_learning_rate("step", 1, 2, peak=1.0)
