"""One step: models that learn from each other, teachers that read in their own way, too little memory."""

import pytest
import torch
from toy import ToySource, ToyStudent, make_objective, make_settings

from hkdcli.checkpoints import find_latest_checkpoint
from hkdcli.distill.objective import MutualObjective
from hkdcli.distill.order import Draw
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.stepper import Stepper
from hkdcli.distill.trainer import train
from hkdcli.errors import MachineLimitError
from hkdcli.reporter import SilentReporter


class Warned(SilentReporter):
    def __init__(self):
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


def collect_gradients(module):
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


# Mutual learning


def test_each_of_a_pair_has_the_gradient_of_learning_alone_from_the_other():
    """Detached on both sides: what the pair computes is two trainings, each with the other as its teacher."""
    batch = ToySource().load([Draw(0, index) for index in range(5)])
    student, upper = ToyStudent(1).eval(), ToyStudent(2, padding=0).eval()
    objective = make_objective(choice_weight=0.4)
    counts = objective.count(batch)
    pair = MutualObjective(objective)(student(batch), [upper(batch)], batch, 0.6)
    pair.combine(counts).backward()
    for learner, other in ((student, upper), (upper, student)):
        together = collect_gradients(learner)
        learner.zero_grad()
        alone = objective(learner(batch), [other(batch).detach()], batch, 0.6)
        alone.combine(counts).backward()
        for name, gradient in collect_gradients(learner).items():
            torch.testing.assert_close(together[name], gradient)
    names = {"cross_entropy", "choice", "token"}
    assert set(pair.parts) == names | {f"upper_{name}" for name in names}


def train_pair(folder, *, stop_at=None, resume=False, mutual=True):
    """Student, upper model and a further teacher; with dropout in the pair."""
    student, upper, apex = ToyStudent(1, dropout=0.2), ToyStudent(2, dropout=0.2), ToyStudent(3)
    objective = make_objective(teacher_weights=(0.5, 0.5))
    source = ToySource(on_load=None if stop_at is None else lambda count: _interrupt(count == stop_at))
    signals = LiveTeachers([upper, apex], mutual=mutual)
    objective = MutualObjective(objective) if mutual else objective
    train(student, signals, objective, source, make_settings(), folder, resume=resume)
    return student, upper, apex


class Interrupted(Exception):
    pass


def _interrupt(now):
    if now:
        raise Interrupted


def test_a_mutual_pair_learns_is_saved_and_resumes_bit_for_bit(tmp_path):
    whole = train_pair(tmp_path / "whole")
    before = ToyStudent(1), ToyStudent(2), ToyStudent(3)
    changed = [
        any(not torch.equal(a, b) for a, b in zip(x.parameters(), y.parameters(), strict=True))
        for x, y in zip(whole, before, strict=True)
    ]
    assert changed == [True, True, False]  # the further teacher stays as it is
    with pytest.raises(Interrupted):
        train_pair(tmp_path / "cut", stop_at=12)
    assert find_latest_checkpoint(tmp_path / "cut" / "checkpoints").name == "step-000004"
    again = train_pair(tmp_path / "cut", resume=True)
    for one, other in zip(again, whole, strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_without_mutual_the_upper_model_is_frozen(tmp_path):
    _, upper, _ = train_pair(tmp_path, mutual=False)
    assert not any(parameter.requires_grad for parameter in upper.parameters())
    for name, tensor in upper.state_dict().items():
        assert torch.equal(tensor, ToyStudent(2).state_dict()[name]), name


# Teachers that read in their own way


class OtherLetters(ToySource):
    """The same examples read by another tokenizer: other tokens for the same letters, longer answers."""

    def read(self, index):
        prompt, answer, choices = super().read(index)
        return prompt, torch.cat([answer[:1], answer]), choices


def test_a_teacher_that_reads_differently_is_compared_by_choice():
    draws = [Draw(0, index) for index in range(4)]
    source, own = ToySource(), OtherLetters()
    batch = source.load(draws)
    teacher = ToyStudent(7).eval()
    said = LiveTeachers([teacher], [own])(batch, draws)[0]
    there = own.load(draws)
    logits = teacher(there).logits[there.first]
    for example, letters in enumerate(there.letter_ids):
        real = letters[letters >= 0]
        torch.testing.assert_close(said.choices[example, : len(real)], logits[example, real])
    assert len(said.logits) > len(batch.answer_targets)  # its answer has other tokens
    parts = make_objective(choice_weight=1.0)(ToyStudent(1)(batch), [said], batch, 1.0).parts
    assert parts["choice"].total > 0 and "token" not in parts


def test_teachers_that_read_alike_are_prepared_for_once():
    draws, own = [Draw(0, index) for index in range(4)], OtherLetters()
    teachers = LiveTeachers([ToyStudent(7), ToyStudent(8), ToyStudent(9)], [own, None, own])
    said = teachers(ToySource().load(draws), draws)
    assert own.loads == 1 and [answer.choices is None for answer in said] == [False, True, False]


# Memory


class Hungry(ToyStudent):
    """Runs out of memory with more examples than it can take."""

    def __init__(self, limit, error=torch.OutOfMemoryError, **options):
        super().__init__(**options)
        self.limit, self.error = limit, error

    def forward(self, batch):
        if len(batch.ids) > self.limit:
            raise self.error("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return super().forward(batch)


def take_steps(student, *, size=8, reporter=None, steps=3):
    teachers = LiveTeachers([ToyStudent(9, padding=0)])
    settings = make_settings(micro_batch_size=size, gradient_accumulation_steps=1, max_steps=steps)
    stepper = Stepper(student, teachers, make_objective(), ToySource(), settings, reporter=reporter)
    return [stepper.take_step(step) for step in range(steps)], stepper


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
@pytest.mark.parametrize(("limit", "width", "times"), [(4, 4, 1), (3, 2, 2), (1, 1, 3)])
def test_r01_out_of_memory_halves_the_micro_batch_and_keeps_the_step(error, limit, width, times):
    reporter = Warned()
    expected, _ = take_steps(ToyStudent())
    found, stepper = take_steps(Hungry(limit, error), reporter=reporter)
    assert stepper.width == width and len(reporter.warnings) == times
    for one, other in zip(found, expected, strict=True):
        assert one.tokens == other.tokens
        assert one.grad_norm.item() == pytest.approx(other.grad_norm.item(), rel=1e-5)
        for name, loss in one.losses.items():
            assert loss.item() == pytest.approx(other.losses[name].item(), rel=1e-5), name


@pytest.mark.parametrize(("size", "limit"), [(8, 0), (32, 3)])
def test_r01_a_step_that_never_fits_ends_with_a_table(size, limit):
    with pytest.raises(
        MachineLimitError, match=f"step 1: out of memory with {max(1, size // 8)} exam"
    ) as info:
        take_steps(Hungry(limit), size=size)
    assert info.value.exit_code == 4 and "micro_batch_size" in info.value.hint
    for row in ("weights of the student", "weights of the teachers", "gradients", "optimizer"):
        assert row in info.value.message


def test_r01_memory_that_runs_out_in_the_optimizer_is_told_and_not_tried_again(monkeypatch):
    calls = []

    def step(self, closure=None):
        calls.append(1)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(MachineLimitError, match="out of memory in the optimizer") as info:
        take_steps(ToyStudent())
    assert len(calls) == 1 and "optimizer (two moments)" in info.value.message


def test_other_errors_are_not_taken_for_memory():
    class Broken(ToyStudent):
        def forward(self, batch):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        take_steps(Broken())
