"""Losses against closed forms in float64, and the laws that any divergence must keep."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hkdcli.distill.losses import (
    choice_logits,
    compute_divergence,
    cross_entropy,
    cut_to_shared,
    forward_kl,
    jsd,
    reverse_kl,
    skew_kl,
)

NAMES = ("forward_kl", "reverse_kl", "jsd", "skew_kl")
BETA = {"jsd": 0.5, "skew_kl": 0.1}


def divergence(name, *args, **kwargs):
    return compute_divergence(name, *args, **{"beta": BETA.get(name), **kwargs})


def draw(seed, rows=5, columns=11, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, columns, generator=generator)


def reference_kl(a, b):
    return (a * (a.log() - b.log())).sum(-1)


def reference(name, teacher, student, temperature):
    p = torch.softmax(teacher.double() / temperature, -1)
    q = torch.softmax(student.double() / temperature, -1)
    square = temperature**2
    if name == "forward_kl":
        return square * reference_kl(p, q)
    if name == "reverse_kl":
        return square * reference_kl(q, p)
    if name == "skew_kl":
        return square * reference_kl(p, 0.1 * p + 0.9 * q)
    middle = 0.5 * p + 0.5 * q
    return square * (0.5 * reference_kl(p, middle) + 0.5 * reference_kl(q, middle))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_divergences_equal_their_equations(name, temperature):
    teacher, student = draw(0), draw(1)
    found = divergence(name, teacher, student, temperature)
    assert found.dtype == torch.float32 and found.shape == (5,)
    torch.testing.assert_close(
        found.double(), reference(name, teacher, student, temperature), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
def test_equal_logits_have_no_divergence(name):
    logits = draw(2, rows=64, columns=5000, scale=8.0)
    assert divergence(name, logits, logits.clone(), 2.0).abs().max() < 1e-6
    assert divergence("forward_kl", logits, logits.clone()).abs().max() == 0.0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(NAMES),
    teacher_type=st.sampled_from([torch.float32, torch.bfloat16]),
    student_type=st.sampled_from([torch.float32, torch.bfloat16]),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
    top_k=st.sampled_from([None, 3]),
)
def test_no_divergence_is_negative_in_mixed_precision(seed, name, teacher_type, student_type, scale, top_k):
    teacher = draw(seed, 16, 300, scale).to(teacher_type)
    student = teacher.float() + draw(seed + 1, 16, 300, 0.01)
    found = divergence(name, teacher, student.to(student_type), top_k=top_k)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all() and (found >= 0).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(NAMES), shift=st.floats(-50, 50))
def test_a_constant_added_to_the_logits_changes_nothing(seed, name, shift):
    teacher, student = draw(seed), draw(seed + 1)
    expected = divergence(name, teacher, student)
    torch.testing.assert_close(divergence(name, teacher + shift, student), expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(divergence(name, teacher, student + shift), expected, rtol=1e-3, atol=1e-4)
    targets = torch.arange(5)
    torch.testing.assert_close(
        cross_entropy(student + shift, targets), cross_entropy(student, targets), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("teacher_padding", "student_padding"), [(0, 7), (7, 0), (3, 5)])
def test_padded_columns_change_nothing(name, teacher_padding, student_padding):
    teacher, student = draw(3), draw(4)
    padded_teacher = torch.cat([teacher, draw(5, columns=teacher_padding, scale=40.0)], dim=1)
    padded_student = torch.cat([student, draw(6, columns=student_padding, scale=40.0)], dim=1)
    found = divergence(name, *cut_to_shared(padded_teacher, padded_student, 11))
    assert torch.equal(found, divergence(name, teacher, student))


def test_a_shared_range_that_a_head_lacks_is_refused():
    with pytest.raises(ValueError, match="shared vocabulary of 12"):
        cut_to_shared(draw(0), draw(1, columns=20), 12)
    with pytest.raises(ValueError, match="differ in shape"):
        divergence("forward_kl", draw(0), draw(1, columns=20))


def test_jsd_ends_are_the_two_kls():
    log_p, log_q = draw(7).log_softmax(-1), draw(8).log_softmax(-1)
    assert torch.equal(jsd(log_p, log_q, 0.0), forward_kl(log_p, log_q))
    assert torch.equal(jsd(log_p, log_q, 1.0), reverse_kl(log_p, log_q))
    # Near the ends the divergence vanishes in the direction of that KL.
    near = jsd(log_p, log_q, 1e-4) / 1e-4
    torch.testing.assert_close(near, forward_kl(log_p, log_q), rtol=2e-2, atol=1e-2)
    assert torch.equal(skew_kl(log_p, log_q, 0.0), forward_kl(log_p, log_q))


def test_jsd_is_bounded_where_kl_is_not():
    log_p = torch.tensor([[100.0, -100.0]]).log_softmax(-1)
    log_q = log_p.flip(-1)
    assert jsd(log_p, log_q, 0.5).item() == pytest.approx(math.log(2))
    assert forward_kl(log_p, log_q).item() == pytest.approx(200.0)
    assert skew_kl(log_p, log_q, 0.1).item() == pytest.approx(-math.log(0.1), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_temperature_reaches_the_loss_and_its_gradient(name):
    teacher = draw(9)
    values, norms = [], []
    for temperature in (1.0, 3.0):
        student = draw(10).requires_grad_()
        loss = divergence(name, teacher, student, temperature).sum()
        loss.backward()
        values.append(loss.item())
        norms.append(student.grad.norm().item())
    assert abs(values[0] - values[1]) > 0.05 * values[0]
    assert 0.05 < norms[1] / norms[0] < 20  # T^2 keeps the gradient's size
    unscaled = divergence(name, teacher, draw(10), 3.0, scale_by_temperature=False).sum()
    assert unscaled.item() == pytest.approx(values[1] / 9.0)


@pytest.mark.parametrize("name", NAMES)
def test_masked_columns_take_no_part(name):
    teacher, student = draw(11, 2, 6), draw(12, 2, 6).requires_grad_()
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    found = divergence(name, teacher, student, mask=mask)
    expected = divergence(name, teacher[:1, :4], student[:1, :4])
    torch.testing.assert_close(found[:1], expected)
    found.sum().backward()
    assert torch.isfinite(student.grad).all()
    assert (student.grad[0, 4:] == 0).all() and (student.grad[0, :4] != 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("top_k", [None, 2])
def test_a_row_without_columns_and_a_batch_without_rows_give_zero(name, top_k):
    teacher, student = draw(13, 1, 6), draw(14, 1, 6).requires_grad_()
    nowhere = torch.zeros(1, 6, dtype=torch.bool)
    divergence(name, teacher, student, mask=nowhere, top_k=top_k).sum().backward()
    assert (student.grad == 0).all()
    nothing = student[:0]
    loss = divergence(name, teacher[:0], nothing, top_k=top_k).sum()
    loss = loss + cross_entropy(nothing, torch.zeros(0, dtype=torch.long)).sum()
    student.grad = None
    loss.backward()
    assert loss.item() == 0.0 and (student.grad == 0).all()


def test_choice_logits_are_those_of_the_letters_at_the_first_answer_token():
    logits = torch.arange(40.0).reshape(4, 10)
    letters, mask = choice_logits(logits, torch.tensor([0, 2]), torch.tensor([[3, 5, -1], [9, 1, 2]]))
    assert letters.tolist() == [[3.0, 5.0, 0.0], [29.0, 21.0, 22.0]]
    assert mask.tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: divergence("forward_kl", a, a, 0.0), "temperature"),
        (lambda a: divergence("forward_kl", a, a, math.nan), "temperature"),
        (lambda a: divergence("forward_kl", a, a, top_k=0), "top_k must be at least 1"),
        (lambda a: divergence("jsd", a, a, beta=1.5), "beta must lie"),
        (lambda a: divergence("skew_kl", a, a, beta=1.0), "beta of skew_kl"),
        (lambda a: compute_divergence("kl", a, a), "there are: forward_kl"),
        (lambda a: compute_divergence("jsd", a, a), "needs a beta"),
        (lambda a: compute_divergence("forward_kl", a, a, beta=0.5), "has no beta"),
    ],
)
def test_settings_without_meaning_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(draw(0))
