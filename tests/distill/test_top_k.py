"""Comparing the teacher's k likeliest columns and the mass of all others: laws and the equation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_losses import NAMES, divergence, draw, reference
from toy import VOCABULARY, ToySource, ToyStudent, make_objective, make_teachers

from hkdcli.distill.order import Draw
from hkdcli.models.answers import AnswerLogits


def lose_mass(rows=4, columns=50, k=4):
    """A teacher that is sure of its first k tokens, and a student with 99.99 % of its mass elsewhere."""
    teacher, student = draw(15, rows, columns, 0.3), draw(16, rows, columns, 0.3)
    teacher[:, :k] += 8.0
    student[:, k:] += math.log(9999) - student[:, k:].logsumexp(-1, keepdim=True)
    student[:, :k] -= student[:, :k].logsumexp(-1, keepdim=True)
    assert torch.allclose(student.softmax(-1)[:, k:].sum(-1), torch.tensor(0.9999))
    return teacher, student


@pytest.mark.parametrize("name", NAMES)
def test_mass_outside_the_top_k_costs_what_it_costs_the_whole(name):
    """Peers renormalise within the top k: what the student wastes outside is then free."""
    teacher, student = lose_mass()
    dense, top = divergence(name, teacher, student), divergence(name, teacher, student, top_k=4)
    assert (top >= 0.9 * dense).all() and (top <= dense + 1e-5).all()
    # The teacher's columns alone, as peers compare them, see next to nothing of it.
    assert (divergence(name, teacher[:, :4], student[:, :4]) < 0.05 * top).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(NAMES),
    k=st.integers(1, 12),
    scale=st.sampled_from([0.1, 3.0, 30.0]),
    temperature=st.sampled_from([1.0, 2.0]),
)
def test_top_k_bounds_the_whole_from_below(seed, name, k, scale, temperature):
    teacher, student = draw(seed, scale=scale), draw(seed + 1, scale=scale).requires_grad_()
    whole = divergence(name, teacher, student, temperature)
    found = divergence(name, teacher, student, temperature, top_k=k)
    assert (found <= whole * (1 + 1e-4) + 1e-5).all() and (found >= 0).all()
    if k >= 10:  # a tail of one column is that column; more than there are is all of them
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)
    found.sum().backward()
    assert torch.isfinite(student.grad).all()
    assert (divergence(name, teacher, teacher + 3.0, temperature, top_k=k) < 1e-5).all()


@pytest.mark.parametrize("name", NAMES)
def test_top_k_is_the_written_equation_in_float32(name):
    teacher, student = draw(17, columns=30).bfloat16(), draw(18, columns=30).bfloat16()
    merged = []
    for logits in (teacher, student):
        probabilities = (logits.double() / 2.0).softmax(-1)
        kept = teacher.float().topk(3).indices
        rest = probabilities.scatter(-1, kept, 0.0).sum(-1, keepdim=True)
        merged.append(torch.cat([probabilities.gather(-1, kept), rest], -1).log())
    found = divergence(name, teacher, student, 2.0, top_k=3)
    assert found.dtype == torch.float32
    expected = reference(name, 2.0 * merged[0], 2.0 * merged[1], 2.0)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_the_tail_of_a_certain_teacher_is_no_rounding():
    """1 - sum of the kept probabilities is 0 in float32 here: its logarithm would be infinite."""
    teacher, student = torch.zeros(1, 100), torch.zeros(1, 100, requires_grad=True)
    teacher[0, 0] = 60.0
    forward = divergence("forward_kl", teacher, student, top_k=1)
    assert forward.item() == pytest.approx(math.log(100), rel=1e-5)
    reverse = divergence("reverse_kl", teacher, student, top_k=1)
    assert reverse.item() == pytest.approx(0.99 * 60.0 - math.log(100), rel=1e-4)
    reverse.backward()
    assert torch.isfinite(student.grad).all() and (student.grad != 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("top_k", [2, 5, 6])
def test_top_k_sees_the_columns_of_its_mask_alone(name, top_k):
    teacher, student = draw(19, 2, 7), draw(20, 2, 7).requires_grad_()
    mask = torch.tensor([[True] * 4 + [False] * 3, [False] * 7])
    found = divergence(name, teacher, student, mask=mask, top_k=top_k)
    expected = divergence(name, teacher[:1, :4], student[:1, :4], top_k=top_k)
    torch.testing.assert_close(found[:1], expected, rtol=1e-5, atol=1e-6)
    found.sum().backward()
    assert found[1] < 1e-6 and (student.grad[1] == 0).all()
    assert torch.isfinite(student.grad).all() and (student.grad[0, 4:] == 0).all()


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl"])
def test_padding_is_never_among_the_teachers_likeliest_tokens(name):
    batch = ToySource().load([Draw(0, index) for index in range(6)])
    student, teacher = ToyStudent().eval()(batch), make_teachers()(batch)[0]
    objective = make_objective(divergence=name, top_k=3)
    expected = objective(student, [teacher], batch, 0.5).parts["token"].total
    padding = 50.0 + torch.randn(len(teacher.logits), 7)
    wide = AnswerLogits(torch.cat([teacher.logits[:, :VOCABULARY], padding], 1))
    found = objective(student, [wide], batch, 0.5).parts["token"].total
    torch.testing.assert_close(found, expected)
    assert 0.0 < found < make_objective(divergence=name)(student, [teacher], batch, 0.5).parts["token"].total
