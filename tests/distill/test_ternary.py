"""The laws of what couples teacher, assistant and student."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hkdcli.distill.losses import FLOOR, compare_distributions
from hkdcli.distill.teacher_signal import TeacherSignal
from hkdcli.distill.ternary import (
    compare_features,
    compare_relations,
    couple,
    join_tokens,
    lay_out,
    mix_log_probs,
    pair_answers,
)
from hkdcli.models.states import States

V = 30
SEEDS = st.integers(0, 10_000)


def draw(seed, *shape, scale=3.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cut(logits, k, temperature=1.0):
    """A signal as it is kept: the k likeliest tokens, and the rest as one number."""
    if k is None:
        return TeacherSignal(torch.zeros(1), torch.zeros(1, 2), logits)
    kept, tokens = logits.topk(k, -1)
    rest = (logits / temperature).scatter(-1, tokens, FLOOR).logsumexp(-1)
    return TeacherSignal(torch.zeros(1), torch.zeros(1, 2), kept, tokens, rest)


# Coupling


@settings(deadline=None)
@given(SEEDS, st.sampled_from([0.01, 1.0, 100.0]))
def test_belief_sums_to_one_and_follows_the_truth(seed, kappa):
    log_truth = -draw(seed, 3, 5).abs()
    weights = couple(log_truth, kappa)
    torch.testing.assert_close(weights.sum(0), torch.ones(5))
    assert torch.equal(weights.argmax(0), log_truth.argmax(0)) or kappa == 100.0
    torch.testing.assert_close(weights, torch.softmax(log_truth / kappa, 0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("worst", [-1e5, -math.inf])
def test_who_gives_the_truth_no_probability_is_not_believed(worst):
    weights = couple(torch.tensor([[worst, worst], [-0.1, worst]]), 1.0)
    assert weights[0, 0] == 0.0 and weights[1, 0] == 1.0
    assert weights[:, 1].tolist() == [0.5, 0.5]  # nobody knows: all are believed alike, and nothing is NaN


def test_a_small_kappa_lets_one_speak_and_a_large_one_all():
    log_truth = torch.tensor([[-0.5], [-1.0]])
    assert couple(log_truth, 1e-3)[0, 0] == 1.0
    assert couple(log_truth, 1e6)[0, 0].item() == pytest.approx(0.5, abs=1e-4)


# The coupled distribution


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([None, 1, 5, 12]), st.sampled_from([1.0, 2.0]))
def test_columns_are_the_written_mixture_where_all_keep_the_same(seed, k, temperature):
    """Upper models that keep the same tokens, as every one that knows the answer does."""
    first = draw(seed, 4, V)
    # The likeliest k of both are the same, in another order.
    order = torch.argsort(first, -1, descending=True)
    second = torch.empty_like(first).scatter_(
        -1, order, draw(seed + 1, 4, V).sort(-1, descending=True).values
    )
    student, weights = draw(seed + 2, 4, V + 3), torch.softmax(draw(seed + 3, 2, 4), 0)
    log_q, log_s = pair_answers(
        [cut(first, k, temperature), cut(second, k, temperature)], weights, student, V, temperature
    )
    dense = [torch.softmax(logits.double() / temperature, -1) for logits in (first, second)]
    whole = sum(w[:, None] * p for w, p in zip(weights.double(), dense, strict=True))
    own = torch.softmax(student[:, :V].double() / temperature, -1)
    for found, expected in ((log_q, whole), (log_s, own)):
        torch.testing.assert_close(found.exp().sum(-1), torch.ones(4))
        if k is None:
            torch.testing.assert_close(found.exp(), expected.float(), rtol=1e-4, atol=1e-6)
            continue
        kept = expected.gather(-1, order[:, :k]).sum(-1)
        torch.testing.assert_close(1 - found[:, -1].exp(), kept.float(), rtol=1e-4, atol=1e-5)
    dense_loss = compare_distributions("forward_kl", whole.log(), own.log())
    loss = compare_distributions("forward_kl", log_q, log_s)
    assert (loss <= dense_loss * (1 + 1e-4) + 1e-5).all()
    if k is None:
        torch.testing.assert_close(loss, dense_loss.float(), rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 12), st.sampled_from([0.3, 3.0, 10.0]))
def test_top_k_is_off_by_no_more_than_what_is_not_kept(seed, k, scale):
    """The stated bound, in total variation, for models that keep different tokens."""
    logits = [draw(seed + i, 6, V, scale=scale) for i in range(2)]
    weights = torch.softmax(draw(seed + 3, 2, 6), 0)
    student = draw(seed + 4, 6, V)
    log_q, _ = pair_answers([cut(each, k) for each in logits], weights, student, V, 1.0)
    united = torch.cat([each.topk(k, -1).indices for each in logits], -1).sort(-1).values
    is_first = torch.cat([torch.ones(6, 1, dtype=torch.bool), united[:, 1:] != united[:, :-1]], -1)
    mixed = sum(w[:, None] * each.softmax(-1) for w, each in zip(weights, logits, strict=True))
    merged = mixed.gather(-1, united) * is_first
    merged = torch.cat([merged, 1 - merged.sum(-1, keepdim=True)], -1)
    tails = torch.stack([1 - each.softmax(-1).topk(k, -1).values.sum(-1) for each in logits])
    distance = (log_q.exp() - merged).abs().sum(-1) / 2
    assert (distance <= (weights * tails).sum(0) + 1e-5).all()


@pytest.mark.parametrize("name", ["forward_kl", "reverse_kl", "jsd"])
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_equal_models_differ_by_nothing_even_where_they_are_certain(name, scale):
    logits, weights = draw(5, 6, V, scale=scale), torch.full((2, 6), 0.5)
    for k in (None, 1, 4):
        pair = pair_answers([cut(logits, k), cut(logits, k)], weights, logits + 3.0, V, 1.0)
        loss = compare_distributions(name, *pair, beta=0.5 if name == "jsd" else None)
        assert (loss < 1e-5).all() and (loss >= 0).all()


def test_a_student_that_wastes_its_mass_outside_pays_for_it():
    teacher, student = torch.zeros(1, V), torch.zeros(1, V)
    teacher[0, :2], student[0, 5:] = 12.0, 12.0
    whole = pair_answers([cut(teacher, None)], torch.ones(1, 1), student, V, 1.0)
    top = pair_answers([cut(teacher, 2)], torch.ones(1, 1), student, V, 1.0)
    dense, found = (compare_distributions("forward_kl", *pair).item() for pair in (whole, top))
    assert 0.9 * dense < found <= dense + 1e-5


def test_gradients_are_finite_where_columns_repeat():
    student = draw(1, 3, V).requires_grad_()
    said = [cut(draw(2, 3, V, scale=40.0), 4), cut(draw(3, 3, V, scale=40.0), 4)]
    log_q, log_s = pair_answers(said, torch.tensor([[1.0] * 3, [0.0] * 3]), student, V, 1.0)
    compare_distributions("forward_kl", log_q, log_s).sum().backward()
    assert torch.isfinite(student.grad).all() and student.grad.any()


def test_a_mixture_with_one_voice_is_that_voice():
    log_probs = torch.log_softmax(draw(8, 2, 4, V), -1)
    weights = torch.tensor([[1.0] * 4, [0.0] * 4])
    torch.testing.assert_close(mix_log_probs(log_probs, weights), log_probs[0])


# Features and relations


def make_states(seed, width=6, answers=(2, 3, 1), layers=2, cells=4):
    examples = torch.repeat_interleave(torch.arange(len(answers)), torch.tensor(answers))
    states = States(
        draw(seed, layers, sum(answers), width), draw(seed + 1, layers, len(answers), cells, width)
    )
    return states, examples


def rotate(states, seed=11):
    rotation = torch.linalg.qr(draw(seed, states.answer.shape[-1], states.answer.shape[-1]))[0]
    return States(states.answer @ rotation, states.image @ rotation)


def relate(own, theirs, examples):
    layout = lay_out(examples, own.image.shape[1], own.image.shape[2])
    return compare_relations(join_tokens(own), join_tokens(theirs), layout)


def test_features_of_equal_states_are_zero_and_of_opposite_ones_two():
    tokens, identity = join_tokens(make_states(0)[0]), torch.eye(6).repeat(2, 1, 1)
    assert compare_features(tokens, tokens, 3.0 * identity).abs().max() < 1e-6
    torch.testing.assert_close(compare_features(tokens, tokens, -identity), torch.full((18,), 2.0))


def test_features_are_the_written_equation():
    (own, _), (theirs, _) = make_states(3), make_states(7, width=9)
    projections = draw(9, 2, 6, 9)
    found = compare_features(join_tokens(own), join_tokens(theirs), projections)
    for one, other, mine in ((own.image.flatten(1, 2), theirs.image.flatten(1, 2), found[:12]),):
        expected = 1 - torch.cosine_similarity(one @ projections, other, dim=-1)
        torch.testing.assert_close(mine, expected.mean(0), rtol=1e-4, atol=1e-5)
    expected = 1 - torch.cosine_similarity(own.answer @ projections, theirs.answer, dim=-1)
    torch.testing.assert_close(found[12:], expected.mean(0), rtol=1e-4, atol=1e-5)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_relations_see_no_rotation_and_no_length(seed):
    (own, examples), (theirs, _) = make_states(seed), make_states(seed + 5, width=9)
    before = relate(own, theirs, examples)
    turned = rotate(own, seed)
    longer = States(turned.answer * 7.0, turned.image * 0.1)
    torch.testing.assert_close(relate(longer, theirs, examples), before, rtol=1e-4, atol=1e-5)
    assert relate(rotate(theirs, seed), theirs, examples).max() < 1e-9
    assert (before > 0).all() and (before <= 4).all()


def test_relations_are_the_written_equation_on_ragged_answers():
    (own, examples), (theirs, _) = make_states(3), make_states(7, width=9)
    found = relate(own, theirs, examples)
    for example in range(3):
        layers = []
        for layer in range(2):
            grams = []
            for states in (own, theirs):
                tokens = torch.cat([states.image[layer, example], states.answer[layer, examples == example]])
                tokens = torch.nn.functional.normalize(tokens.double(), dim=-1)
                grams.append(tokens @ tokens.T)
            layers.append((grams[0] - grams[1]).square().mean())
        assert found[example].item() == pytest.approx(torch.stack(layers).mean().item(), rel=1e-5)


def test_relations_do_not_depend_on_who_else_is_in_the_batch():
    (own, examples), (theirs, _) = make_states(3), make_states(7)
    whole = relate(own, theirs, examples)
    alone = [
        relate(
            *(States(s.answer[:, examples == e], s.image[:, e : e + 1]) for s in (own, theirs)),
            torch.zeros(int((examples == e).sum()), dtype=torch.long),
        )
        for e in range(3)
    ]
    torch.testing.assert_close(torch.cat(alone), whole)


def test_a_batch_of_nothing_has_no_relations():
    (own, _), (theirs, _) = make_states(3), make_states(7)
    none = States(own.answer[:, :0], own.image[:, :0]), States(theirs.answer[:, :0], theirs.image[:, :0])
    assert relate(*none, torch.zeros(0, dtype=torch.long)).shape == (0,)
