"""The laws of the objective on ragged answers."""

from dataclasses import replace

import pytest
import torch
from toy import VOCABULARY, ToySource, ToyStudent, collate, make_objective, make_teachers

from hkdcli.distill.objective import OnlineObjective
from hkdcli.distill.order import Draw
from hkdcli.models.answers import AnswerLogits


@pytest.fixture
def batch():
    return ToySource().load([Draw(0, index) for index in range(6)])


def run(objective, student, teachers, batch, lambda_t=0.5):
    parts = objective(student, teachers, batch, lambda_t)
    return parts, parts.combine(objective.count(batch))


def test_the_loss_is_the_written_equation(batch):
    student, teacher = ToyStudent().eval()(batch), make_teachers()(batch)[0]
    objective = make_objective(choice_weight=0.3, temperature=2.0)
    parts, loss = run(objective, student, [teacher], batch, 0.6)
    p = torch.log_softmax(teacher.logits.double()[:, :VOCABULARY] / 2, -1)
    q = torch.log_softmax(student.logits.double()[:, :VOCABULARY] / 2, -1)
    token = 4 * (p.exp() * (p - q)).sum(-1).mean()
    choice = []
    for example, row in enumerate(batch.first):
        letters = batch.letter_ids[example][batch.letter_ids[example] >= 0]
        p_letters = torch.log_softmax(teacher.logits[row, letters].double() / 2, -1)
        q_letters = torch.log_softmax(student.logits[row, letters].double() / 2, -1)
        choice.append(4 * (p_letters.exp() * (p_letters - q_letters)).sum())
    reference = -torch.log_softmax(student.logits.double(), -1)[range(len(p)), batch.answer_targets].mean()
    expected = 0.4 * reference + 0.6 * (0.3 * torch.stack(choice).mean() + 0.7 * token)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(parts.parts) == {"cross_entropy", "choice", "token"}


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_an_identical_teacher_teaches_nothing(batch, divergence):
    student = ToyStudent().eval()(batch)
    objective = make_objective(divergence=divergence)
    parts, _ = run(objective, student, [AnswerLogits(student.logits.detach())], batch)
    assert parts.parts["choice"].total.item() == 0.0 and parts.parts["token"].total.item() == 0.0


def test_padded_columns_and_constants_do_not_reach_the_teaching(batch):
    student, teacher = ToyStudent().eval()(batch), make_teachers()(batch)[0]
    expected, _ = run(make_objective(), student, [teacher], batch)
    padding = 50 * torch.randn(len(teacher.logits), 7)
    wide = AnswerLogits(torch.cat([teacher.logits + 11.0, padding], 1))  # now the teacher's head is larger
    narrow = AnswerLogits(student.logits[:, :VOCABULARY] - 7.0)  # and the student's is not padded
    found, _ = run(make_objective(), narrow, [wide], batch)
    for name in ("choice", "token"):
        torch.testing.assert_close(found.parts[name].total, expected.parts[name].total, rtol=1e-4, atol=1e-5)


def test_teacher_weights_are_normalised_and_mix_linearly(batch):
    student = ToyStudent().eval()(batch)
    one, two = ToyStudent(7).eval()(batch), ToyStudent(8).eval()(batch)
    mixed, _ = run(make_objective(teacher_weights=(3.0, 1.0)), student, [one, two], batch)
    alone = [run(make_objective(), student, [teacher], batch)[0] for teacher in (one, two)]
    for name in ("choice", "token"):
        expected = 0.75 * alone[0].parts[name].total + 0.25 * alone[1].parts[name].total
        torch.testing.assert_close(mixed.parts[name].total, expected)


def test_what_weighs_nothing_is_not_computed(batch):
    student, teachers = ToyStudent().eval()(batch), make_teachers()(batch)
    assert set(run(make_objective(), student, (), batch, 0.0)[0].parts) == {"cross_entropy"}
    choices_only = run(make_objective(choice_weight=1.0), student, teachers, batch)[0]
    assert set(choices_only.parts) == {"cross_entropy", "choice"}
    tokens_only = run(make_objective(choice_weight=0.0), student, teachers, batch)[0]
    assert set(tokens_only.parts) == {"cross_entropy", "token"}


def test_the_first_answer_token_is_scored(batch):
    """A mask shifted by one would leave the letter itself, the whole decision, without loss."""
    logits = ToyStudent().eval()(batch).logits.detach().requires_grad_()
    _, loss = run(make_objective(), AnswerLogits(logits), make_teachers()(batch), batch)
    loss.backward()
    letters = batch.answer_targets[batch.first]
    assert (logits.grad[batch.first, letters] != 0).all()
    other = batch.answer_targets.clone()
    other[batch.first[0]] = 4 if other[batch.first[0]] != 4 else 5
    _, changed = run(
        make_objective(), AnswerLogits(logits), make_teachers()(batch), replace(batch, answer_targets=other)
    )
    assert changed.item() != loss.item()


def test_nothing_after_the_end_token_is_learned(batch):
    student = ToyStudent().eval()
    student.embedding.weight.requires_grad_(False)
    states = []
    student.mix.register_forward_hook(
        lambda module, inputs, output: states.append(output[0]) or output[0].retain_grad()
    )
    _, loss = run(make_objective(), student(batch), make_teachers()(batch), batch)
    loss.backward()
    gradient = states[0].grad.abs().sum(-1)  # [B, L]
    lengths = batch.model_inputs["attention_mask"].sum(-1)
    for row, length in enumerate(lengths.tolist()):
        assert (gradient[row, length - 1 :] == 0).all()  # the end token itself predicts nothing
        assert gradient[row, length - 2] > 0  # the end token is predicted
    assert (gradient[batch.answer_rows, batch.answer_columns] > 0).all()


def test_a_batch_without_answers_gives_zero_and_no_nan(batch):
    prompt = torch.tensor([8, 9, 10])
    empty = collate([(prompt, torch.zeros(0, dtype=torch.long), 3)] * 2)
    empty = replace(empty, first=empty.first[:0], letter_ids=empty.letter_ids[:0])
    student = ToyStudent().eval()
    _, loss = run(make_objective(), student(empty), make_teachers()(empty), empty)
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"choice_weight": 1.5}, "choice_weight"), ({"teacher_weights": (0.0,)}, "not all 0")],
)
def test_settings_without_meaning_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        OnlineObjective(vocabulary=10, **changes)


def test_teaching_needs_teachers(batch):
    student = ToyStudent().eval()(batch)
    with pytest.raises(ValueError, match="must be a teacher"):
        run(make_objective(), student, (), batch)
    with pytest.raises(ValueError, match="2 teacher weights for 1"):
        run(make_objective(teacher_weights=(1.0, 1.0)), student, make_teachers()(batch), batch)
