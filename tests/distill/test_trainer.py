"""The loop on a toy: what a step computes, and what survives interruptions."""

import json
import os
import signal
import time

import pytest
import torch
from toy import ToySource, ToyStudent, make_objective, make_settings, make_teachers

from hkdcli.checkpoints import find_latest_checkpoint
from hkdcli.distill.log import TrainLog
from hkdcli.distill.stepper import Stepper
from hkdcli.distill.trainer import train
from hkdcli.errors import HkdError, Interrupted, ModelError, StoppedError
from hkdcli.reporter import SilentReporter


class Listener(SilentReporter):
    def __init__(self):
        self.warnings, self.notes, self.steps = [], [], []

    def warn(self, text):
        self.warnings.append(text)

    def note(self, text):
        self.notes.append(text)

    def advance(self, done, **figures):
        self.steps.append(done)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(folder, *, student=None, source=None, objective=None, reporter=None, signals=None, **options):
    settings = options.pop("settings", None) or make_settings()
    student = student or ToyStudent(dropout=0.2)
    result = train(
        student,
        signals or make_teachers(),
        objective or make_objective(),
        source or ToySource(),
        settings,
        folder,
        reporter,
        **options,
    )
    return student, result


def read_log(folder, *, timeless=False):
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    hidden = ("seconds", "tokens_per_s", "peak_memory_gib") if timeless else ()
    return [{key: value for key, value in row.items() if key not in hidden} for row in rows]


def assert_same_weights(one, other):
    expected = other.state_dict()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_training_learns_and_leaves_a_log(tmp_path):
    settings = make_settings(max_steps=60, log_every=20, lambda_end=0.3)
    reporter = Listener()
    _, result = run(tmp_path, settings=settings, reporter=reporter)
    rows = read_log(tmp_path)
    assert [row["step"] for row in rows] == [1, 20, 40, 60]
    assert rows[-1]["cross_entropy"] < 0.7 * rows[0]["cross_entropy"]
    expected = {"step", "loss", "cross_entropy", "choice", "token", "grad_norm", "learning_rate", "lambda"}
    assert all(set(row) == expected | {"tokens_per_s", "seconds", "peak_memory_gib"} for row in rows)
    assert reporter.steps == list(range(1, 61))
    assert result.step == 60 and result.figures["loss"] == pytest.approx(rows[-1]["loss"], rel=1e-6)
    assert result.checkpoint == find_latest_checkpoint(tmp_path / "checkpoints")
    assert result.checkpoint.name == "step-000060"


@pytest.mark.parametrize(("size", "count"), [(4, 2), (2, 4), (1, 8)])
def test_accumulation_changes_neither_loss_nor_gradient(tmp_path, size, count):
    """Answers are ragged and examples differ in choices, so that any mean of means would show."""

    def collect(micro_batch_size, micro_batches):
        folder = tmp_path / f"{micro_batch_size}"
        settings = make_settings(
            max_steps=4,
            micro_batch_size=micro_batch_size,
            gradient_accumulation_steps=micro_batches,
            max_grad_norm=None,
            checkpoint_every=None,
        )
        student, _ = run(folder, student=ToyStudent(), settings=settings)
        return student, read_log(folder)

    (whole, expected), (cut, found) = collect(8, 1), collect(size, count)
    for row, other in zip(found, expected, strict=True):
        for name in ("loss", "cross_entropy", "choice", "token", "grad_norm"):
            assert row[name] == pytest.approx(other[name], rel=1e-5), name
    for name, tensor in cut.state_dict().items():
        torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_frozen_parts_stay_in_evaluation_and_out_of_checkpoints(tmp_path):
    student = ToyStudent(dropout=0.2)
    before = {name: tensor.clone() for name, tensor in student.tower.state_dict().items()}
    modes = []
    student.tower.register_forward_hook(
        lambda module, *_: modes.append(any(m.training for m in module.modules()))
    )
    student.dropout.register_forward_hook(lambda module, *_: modes.append(not module.training))
    _, result = run(
        tmp_path,
        student=student,
        settings=make_settings(max_steps=2, evaluate_every=1),
        evaluate=lambda: {"dev/micro_f1": float(student.training)},
    )
    assert modes and not any(modes)
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.tower.state_dict().items())
    from safetensors.torch import load_file

    saved = load_file(result.checkpoint / "weights.safetensors")
    assert saved and not any("tower" in name for name in saved)
    assert {path.suffix for path in result.checkpoint.iterdir()} == {".safetensors", ".json"}
    assert [row["dev/micro_f1"] for row in read_log(tmp_path) if "dev/micro_f1" in row] == [0.0, 0.0]


def test_teachers_are_not_asked_while_lambda_is_zero(tmp_path):
    asked = []
    teachers = make_teachers()

    def count(batch, draws):
        asked.append(batch)
        return teachers(batch, draws)

    settings = make_settings(max_steps=4, lambda_start=0.0, lambda_end=0.5, gradient_accumulation_steps=1)
    run(tmp_path, signals=count, settings=settings)
    assert len(asked) == 3  # lambda is 0 at the first step alone
    assert "token" not in read_log(tmp_path)[0]


def test_teachers_stay_as_they_are(tmp_path):
    teachers = make_teachers()
    before = {name: tensor.clone() for name, tensor in teachers.teachers[0].state_dict().items()}
    run(tmp_path, signals=teachers)
    assert all(torch.equal(t, before[name]) for name, t in teachers.teachers[0].state_dict().items())


@pytest.mark.parametrize("stop_at", [3, 4, 7])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_a_resume_ends_bit_for_bit_alike(tmp_path, stop_at, number, code):
    expected, _ = run(tmp_path / "whole")

    def interrupt(load):
        if load == 2 * stop_at:  # inside of step `stop_at`: two micro-batches a step
            os.kill(os.getpid(), number)

    with pytest.raises(StoppedError, match=f"stopped after step {stop_at}") as caught:
        run(tmp_path / "cut", source=ToySource(on_load=interrupt))
    assert caught.value.exit_code == code
    reporter, student = Listener(), ToyStudent(dropout=0.2)
    for parameter in student.parameters():
        parameter.data += parameter.requires_grad  # nothing of a fresh student may be left
    resumed, result = run(tmp_path / "cut", student=student, reporter=reporter, resume=True)
    assert reporter.notes == [f"going on after step {stop_at} of 9"] and reporter.steps[0] == stop_at
    assert result.step == 9
    assert_same_weights(resumed, expected)


def test_log_lines_after_a_resume_equal_the_uninterrupted_ones(tmp_path):
    expected, _ = run(tmp_path / "whole")

    def crash(load):
        if load == 2 * 6:
            raise KeyboardInterrupt  # as a kill would: nothing is saved, the log is ahead of the checkpoint

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", source=ToySource(on_load=crash))
    assert read_log(tmp_path / "cut")[-1]["step"] == 5
    with (tmp_path / "cut/log.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')  # a line cut short
    resumed, _ = run(tmp_path / "cut", resume=True)
    assert_same_weights(resumed, expected)
    assert read_log(tmp_path / "cut", timeless=True) == read_log(tmp_path / "whole", timeless=True)


def test_a_resume_of_a_finished_training_only_loads(tmp_path):
    expected, first = run(tmp_path)
    source = ToySource()
    again, result = run(tmp_path, source=source, resume=True)
    assert source.loads == 0 and result.checkpoint == first.checkpoint
    assert_same_weights(again, expected)
    assert len(read_log(tmp_path)) == 9


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    expected, result = run(tmp_path)
    weights = result.checkpoint / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    resumed, _ = run(tmp_path, resume=True)
    assert_same_weights(resumed, expected)


def test_rotation_keeps_as_many_as_asked(tmp_path):
    run(tmp_path, settings=make_settings(keep_checkpoints=1))
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-000009"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path)
    other = ToyStudent()
    other.tower.requires_grad_(True)
    with pytest.raises(ModelError, match="tensors differ from this model's, such as student.tower"):
        run(tmp_path, student=other, resume=True)


def test_a_second_interrupt_stops_at_once(tmp_path):
    def interrupt(load):
        if load == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    with pytest.raises(Interrupted, match="stopped at once by SIGINT"):
        run(tmp_path, source=ToySource(on_load=interrupt))
    assert find_latest_checkpoint(tmp_path / "checkpoints").name == "step-000002"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Poisoned:
    """An objective whose loss is multiplied by a number in the steps given."""

    def __init__(self, steps, number):
        self.inner, self.steps, self.number, self.calls = make_objective(), steps, number, 0

    def count(self, batch):
        return self.inner.count(batch)

    def __call__(self, student, teachers, batch, lambda_t):
        step = self.calls // 2 + 1
        self.calls += 1
        parts = self.inner(student, teachers, batch, lambda_t)
        if step in self.steps:
            part = parts.parts["cross_entropy"]
            parts.parts["cross_entropy"] = type(part)(part.total * self.number, part.unit, part.weight)
        return parts


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_never_reaches_the_weights(tmp_path, number):
    student = ToyStudent()
    stepper = Stepper(student, make_teachers(), Poisoned({1}, number), ToySource(), make_settings())
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    assert not stepper.take_step(0).finite
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
    assert not stepper.state.optimizer.state
    assert stepper.take_step(1).finite
    assert all(torch.isfinite(tensor).all() for tensor in student.state_dict().values())


def test_three_such_steps_in_a_row_end_the_training(tmp_path):
    reporter = Listener()
    with pytest.raises(HkdError, match="not finite 3 steps in a row") as caught:
        run(tmp_path, objective=Poisoned({2, 5, 6, 7}, float("nan")), reporter=reporter)
    assert caught.value.exit_code == 1
    assert len(reporter.warnings) == 4
    assert find_latest_checkpoint(tmp_path / "checkpoints").name == "step-000006"  # saved with good weights
    rows = read_log(tmp_path)
    assert [row["step"] for row in rows if "not_finite" in row] == [2, 5, 6, 7]
    assert rows[1]["loss"] is None and rows[1]["not_finite"]["loss"] == "nan"
    resumed, result = run(tmp_path, resume=True)
    assert all(torch.isfinite(tensor).all() for tensor in resumed.state_dict().values())


def test_a_failing_log_warns_once_and_training_goes_on(tmp_path):
    reporter = Listener()
    (tmp_path / "occupied").mkdir()
    log = TrainLog(tmp_path / "occupied", reporter, tensorboard=tmp_path / "tensorboard")
    _, result = run(tmp_path / "run", reporter=reporter, log=log)
    assert result.step == 9
    assert len(reporter.warnings) == 1 and reporter.warnings[0].startswith("logging fails, training goes on")
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_levels_share_a_log(tmp_path):
    path = tmp_path / "log.jsonl"
    for level in ("apex", "base"):
        log = TrainLog(path, SilentReporter(), level=level)
        run(tmp_path / level, settings=make_settings(max_steps=2), log=log)
    run(
        tmp_path / "again",
        settings=make_settings(max_steps=1),
        log=TrainLog(path, SilentReporter(), level="base"),
    )
    assert [(row["level"], row["step"]) for row in read_log(tmp_path)] == [
        ("apex", 1),
        ("apex", 2),
        ("base", 1),
    ]


def test_an_objective_with_parameters_is_trained_and_resumed(tmp_path):
    class Weighted(torch.nn.Module):
        """Learned uncertainty weights, as stage two has them."""

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.zeros(1))
            self.inner = make_objective()

        def count(self, batch):
            return self.inner.count(batch)

        def forward(self, student, teachers, batch, lambda_t):
            parts = self.inner(student, teachers, batch, lambda_t)
            part = parts.parts["token"]
            parts.parts["token"] = type(part)(
                part.total * torch.exp(-self.scale).sum(), part.unit, part.weight
            )
            return parts

    objective, resumed = Weighted(), Weighted()
    run(tmp_path, objective=objective)
    assert objective.scale.item() != 0.0
    run(tmp_path, objective=resumed, resume=True)
    assert resumed.scale.item() == objective.scale.item()


def test_a_student_with_nothing_to_train_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no trainable parameter"):
        run(tmp_path, student=ToyStudent().requires_grad_(False))
