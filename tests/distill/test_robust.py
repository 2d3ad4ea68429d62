"""What goes wrong in the middle of a training: R02, R04, R05, R08, R09, R13 of the fault matrix."""

import json
import os
import signal
import time

import pytest
import torch
from toy import ToySource, ToyStudent, make_objective, make_settings, make_teachers
from toy_run import Listener, assert_same_weights, read_log, run

from hkdcli.checkpoints import find_latest_checkpoint
from hkdcli.distill.log import TrainLog
from hkdcli.distill.stepper import Stepper
from hkdcli.errors import HkdError, Interrupted, StoppedError


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("stop_at", [3, 4, 7])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_r05_a_signal_saves_and_r08_a_resume_ends_bit_for_bit_alike(tmp_path, stop_at, number, code):
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
    assert reporter.notes == [f"going on after step {stop_at} of 9"] and reporter.steps[0] == stop_at + 1
    assert result.step == 9
    assert_same_weights(resumed, expected)


def test_r08_log_lines_after_a_resume_equal_the_uninterrupted_ones(tmp_path):
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


def test_r08_a_resume_of_a_finished_training_only_loads(tmp_path):
    expected, first = run(tmp_path)
    source = ToySource()
    again, result = run(tmp_path, source=source, resume=True)
    assert source.loads == 0 and result.checkpoint == first.checkpoint
    assert_same_weights(again, expected)
    assert len(read_log(tmp_path)) == 9


def test_r04_a_damaged_checkpoint_is_passed_over(tmp_path):
    expected, result = run(tmp_path)
    weights = result.checkpoint / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    resumed, _ = run(tmp_path, resume=True)
    assert_same_weights(resumed, expected)


def test_r04_a_level_that_begins_anew_because_all_its_checkpoints_are_damaged_says_so(tmp_path):
    expected, _ = run(tmp_path)
    for weights in tmp_path.rglob("weights.safetensors"):
        weights.write_bytes(b"")
    reporter = Listener()
    resumed, _ = run(tmp_path, resume=True, reporter=reporter)
    assert any("every checkpoint is damaged" in text for text in reporter.warnings)
    assert_same_weights(resumed, expected)


def test_r05_a_second_interrupt_stops_at_once(tmp_path):
    def interrupt(load):
        if load == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match="stopped at once by SIGINT"):
        run(tmp_path, source=ToySource(on_load=interrupt))
    assert find_latest_checkpoint(tmp_path / "checkpoints").name == "step-000002"
    assert signal.getsignal(signal.SIGINT) is before


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
def test_r02_a_loss_that_is_no_number_never_reaches_the_weights(tmp_path, number):
    student = ToyStudent()
    stepper = Stepper(student, make_teachers(), Poisoned({1}, number), ToySource(), make_settings())
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    assert not stepper.take_step(0).finite
    assert all(torch.equal(tensor, before[name]) for name, tensor in student.state_dict().items())
    assert not stepper.state.optimizer.state
    assert stepper.take_step(1).finite
    assert all(torch.isfinite(tensor).all() for tensor in student.state_dict().values())


def test_r02_three_such_steps_in_a_row_end_the_training(tmp_path):
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


def test_r13_a_failing_log_warns_once_and_training_goes_on(tmp_path):
    reporter = Listener()
    (tmp_path / "occupied").mkdir()
    log = TrainLog(tmp_path / "occupied", reporter, tensorboard=tmp_path / "tensorboard")
    _, result = run(tmp_path / "run", reporter=reporter, log=log)
    assert result.step == 9
    assert len(reporter.warnings) == 1 and reporter.warnings[0].startswith("logging fails, training goes on")
    assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_r02_a_weight_that_is_no_number_gets_into_no_checkpoint(tmp_path, number):
    """A finite step may ruin the weights; here that happens right before step 6 is saved."""
    student = ToyStudent()

    def ruin():
        student.mix.weight_hh_l0.data[0, 0] = number
        return {}

    with pytest.raises(
        HkdError, match=r"step 6: 1 of 7 weights are not finite, such as student.mix"
    ) as caught:
        run(tmp_path, student=student, settings=make_settings(evaluate_every=6), evaluate=ruin)
    assert caught.value.exit_code == 1
    assert find_latest_checkpoint(tmp_path / "checkpoints").name == "step-000004"
    resumed, _ = run(tmp_path, resume=True)
    assert all(torch.isfinite(tensor).all() for tensor in resumed.state_dict().values())


def test_r09_a_foreign_checkpoint_is_neither_gone_on_from_nor_deleted(tmp_path):
    def begin(run_id, **changes):
        (tmp_path / "manifest.json").write_text(json.dumps({"run_id": run_id}))
        settings = make_settings(keep_checkpoints=1, evaluate_every=2, **changes)
        scores = iter([0.5, 0.9, 0.1, 0.1, 0.1, 0.1])
        return run(tmp_path, settings=settings, resume=True, evaluate=lambda: {"dev_micro_f1": next(scores)})

    begin("older run")
    foreign = {path: path.read_bytes() for path in tmp_path.glob("checkpoints/step-*/*")}
    _, result = begin("this run", max_steps=6)
    assert result.step == 6 and result.best_step == 4
    names = {path.name for path in (tmp_path / "checkpoints").glob("step-*")}
    assert {"step-000004", "step-000006", "step-000009"} < names
    aside = next(name for name in names if name.startswith("step-000004.other-run-"))
    for path, content in foreign.items():
        moved = path.parent.with_name(aside) if path.parent.name == "step-000004" else path.parent
        assert (moved / path.name).read_bytes() == content


def test_r13_tensorboard_that_cannot_be_opened_leaves_the_log(tmp_path):
    reporter = Listener()
    (tmp_path / "tensorboard").write_text("a file where a folder should be")
    log = TrainLog(tmp_path / "log.jsonl", reporter, tensorboard=tmp_path / "tensorboard")
    run(tmp_path, reporter=reporter, log=log)
    assert len(reporter.warnings) == 1 and len(read_log(tmp_path)) == 9


def test_r13_log_and_tensorboard_carry_the_same_figures(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TrainLog(tmp_path / "log.jsonl", Listener(), level="base", tensorboard=tmp_path / "tensorboard")
    run(
        tmp_path,
        log=log,
        settings=make_settings(max_steps=2, evaluate_every=1),
        evaluate=lambda: {"dev_micro_f1": 0.25},
    )
    events = EventAccumulator(str(tmp_path / "tensorboard" / "base"))
    events.Reload()
    wanted = {"loss", "cross_entropy", "choice", "token", "grad_norm", "learning_rate", "lambda", "seconds"}
    wanted |= {"tokens_per_s", "peak_memory_gib", "dev_micro_f1", "best_step", "best_dev_micro_f1"}
    assert set(events.Tags()["scalars"]) == wanted
    rows = read_log(tmp_path)
    for name in wanted:
        found = [event.value for event in events.Scalars(name)]
        assert found == pytest.approx([row[name] for row in rows if name in row], rel=1e-5), name
    assert 0.05 < rows[0]["peak_memory_gib"] < 100
