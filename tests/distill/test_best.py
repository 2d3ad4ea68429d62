"""Which weights a training ends with, when it stops early, and that being watched changes nothing."""

import itertools
import json
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch
from toy import ToySource, ToyStudent, make_settings, make_teachers
from toy_run import Listener, assert_same_weights, read_log, run

from hkdcli.checkpoints import find_latest_checkpoint
from hkdcli.distill.checkpoint import Progress, load_weights
from hkdcli.distill.watch import compare


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Exam:
    """Scores that jump about, yet follow from every bit of the student; disturbs what it can on its way."""

    def __init__(self, student):
        self.student, self.scores = student, []

    def __call__(self):
        assert not any(module.training for module in self.student.modules())
        self.student.train()
        torch.rand(3)
        total = sum(p.detach().double().sum().item() for p in self.student.parameters())
        self.scores.append(1e6 * abs(total) % 1)
        return {"dev_micro_f1": self.scores[-1], "dev_exact_match": None}


class Script:
    """Gives what it is told, evaluation by evaluation."""

    def __init__(self, *scores):
        self.scores = list(scores)

    def __call__(self):
        return {"dev_micro_f1": self.scores.pop(0)}


@cache
def find_seed():
    """The first whose best comes neither first nor last, and early enough for the training to stop early.

    The scores follow from the last bits of the weights, which are not those of another kind of processor.
    """
    for seed in itertools.count():
        with tempfile.TemporaryDirectory() as folder:
            scores = sit_exams(Path(folder) / "whole", seed=seed)[2]
            stops = sit_exams(Path(folder) / "stops", seed=seed, early_stopping=2)[1].step < 11
        if stops and 0 < scores.index(max(scores)) < 4:
            return seed


def sit_exams(folder, *, source=None, reporter=None, resume=False, student=None, seed=None, **changes):
    fixed = {"max_steps": 11, "evaluate_every": 2, "keep_checkpoints": 1}
    settings = make_settings(**{**fixed, "seed": find_seed() if seed is None else seed, **changes})
    student = student or ToyStudent(dropout=0.2)
    exam = Exam(student)
    _, result = run(
        folder,
        student=student,
        settings=settings,
        evaluate=exam,
        source=source,
        reporter=reporter,
        resume=resume,
    )
    return student, result, exam.scores


def list_steps(folder):
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


def list_evaluations(folder):
    return [row for row in read_log(folder) if "loss" not in row]


def test_a_training_ends_with_the_weights_of_its_best_evaluation(tmp_path):
    reporter = Listener()
    student, result, scores = sit_exams(tmp_path, reporter=reporter)
    best = 2 * (scores.index(max(scores)) + 1)
    assert 2 < best < 10 and result.step == 11  # neither the first nor the last, or this shows little
    assert (result.best_step, result.best_dev_micro_f1) == (best, max(scores))
    assert not student.training
    assert result.checkpoint.name == f"step-{best:06d}" and list_steps(tmp_path) == [best, 11]
    saved, last = ToyStudent(), ToyStudent()
    load_weights(result.checkpoint, {"student": saved})
    load_weights(find_latest_checkpoint(tmp_path / "checkpoints"), {"student": last})
    assert torch.equal(student.head.weight, saved.head.weight)
    assert not torch.equal(student.head.weight, last.head.weight)
    assert reporter.notes == [f"the weights of step {best} are taken: dev micro-F1 {max(scores):.4f}"]


def test_the_last_step_is_evaluated_and_the_log_names_the_best_so_far(tmp_path):
    _, _, scores = sit_exams(tmp_path)
    rows = list_evaluations(tmp_path)
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 11]
    for row, score, so_far in zip(rows, scores, (scores[: n + 1] for n in range(6)), strict=True):
        assert row["dev_micro_f1"] == pytest.approx(score, rel=1e-6)
        assert row["best_dev_micro_f1"] == pytest.approx(max(so_far), rel=1e-6)
        assert row["best_step"] == min(11, 2 * (so_far.index(max(so_far)) + 1))
        assert "dev_exact_match" not in row


def test_without_keep_best_the_last_weights_stay(tmp_path):
    student, result, scores = sit_exams(tmp_path, keep_best=False)
    assert len(scores) == 5  # nobody needs to know how the last step does
    assert result.checkpoint.name == "step-000011" and list_steps(tmp_path) == [11]
    assert result.best_dev_micro_f1 == max(scores)
    saved = ToyStudent()
    load_weights(result.checkpoint, {"student": saved})
    assert torch.equal(student.head.weight, saved.head.weight)


def test_being_evaluated_changes_nothing(tmp_path):
    """The exam draws random numbers, puts the student in training mode, and takes place after every step."""
    watched, _, _ = sit_exams(tmp_path / "watched", evaluate_every=1, keep_best=False)
    alone, _, _ = sit_exams(tmp_path / "alone", evaluate_every=None, keep_best=False)
    assert_same_weights(watched, alone)


@pytest.mark.gpu
def test_being_evaluated_leaves_the_random_state_of_the_gpu(tmp_path):
    """Sums on a GPU differ in their last bits: random states are compared, micro-batch by micro-batch."""

    def collect(folder, evaluate_every):
        states = []
        source = ToySource(on_load=lambda load: states.append(torch.cuda.get_rng_state()))
        settings = make_settings(max_steps=3, evaluate_every=evaluate_every, keep_best=False)
        run(
            folder,
            student=ToyStudent(dropout=0.2).cuda(),
            signals=make_teachers().cuda(),
            source=source,
            settings=settings,
            evaluate=lambda: {"dev_micro_f1": torch.rand(3, device="cuda").mean().item()},
        )
        total = torch.cuda.get_device_properties(0).total_memory / 2**30
        assert all(0 < row["peak_memory_gib"] < total for row in read_log(folder) if "loss" in row)
        return torch.stack(states)

    watched = collect(tmp_path / "watched", 1)
    assert torch.equal(watched, collect(tmp_path / "alone", None))
    assert not torch.equal(watched[0], watched[-1])  # dropout has drawn


@pytest.mark.parametrize("killed_in", range(2, 12))
@pytest.mark.parametrize("early_stopping", [None, 2])
def test_r08_a_resume_has_the_same_best_and_stops_at_the_same_step(tmp_path, killed_in, early_stopping):
    whole, expected, _ = sit_exams(tmp_path / "whole", early_stopping=early_stopping)
    assert (expected.step < 11) == (early_stopping is not None)

    def kill(load):
        if load == 2 * killed_in:
            raise KeyboardInterrupt  # as a kill would: nothing more is saved

    changes = {"early_stopping": early_stopping, "checkpoint_every": 3}
    try:
        sit_exams(tmp_path / "cut", source=ToySource(on_load=kill), **changes)
    except KeyboardInterrupt:
        student, result, _ = sit_exams(tmp_path / "cut", resume=True, **changes)
        assert_same_weights(student, whole)
        assert (result.step, result.best_step) == (expected.step, expected.best_step)
        assert result.best_dev_micro_f1 == expected.best_dev_micro_f1
        assert read_log(tmp_path / "cut", timeless=True) == read_log(tmp_path / "whole", timeless=True)
    else:
        assert killed_in > expected.step


def test_early_stopping_is_said_once_and_a_resume_only_loads(tmp_path):
    reporter, again = Listener(), Listener()
    student, result, scores = sit_exams(tmp_path, early_stopping=2, reporter=reporter)
    assert result.step < 11 and len(scores) == result.step / 2 == result.best_step / 2 + 2
    said = f"stopping early after step {result.step}: 2 evaluations in a row without a better dev micro-F1"
    assert [said in note for note in reporter.notes] == [True, False]
    source, fresh = ToySource(), ToyStudent(seed=5)
    loaded, second, _ = sit_exams(
        tmp_path, early_stopping=2, resume=True, source=source, student=fresh, reporter=again
    )
    assert source.loads == 0
    assert torch.equal(loaded.head.weight, student.head.weight)
    assert (second.step, second.best_step, second.checkpoint) == (
        result.step,
        result.best_step,
        result.checkpoint,
    )
    assert again.notes[0] == f"training has ended already, after step {result.step}"


def test_a_best_that_comes_just_in_time_starts_the_count_anew(tmp_path):
    script = Script(0.5, 0.4, 0.6, 0.6, 0.1)
    settings = make_settings(max_steps=30, evaluate_every=1, early_stopping=2)
    _, result = run(tmp_path, settings=settings, evaluate=script)
    assert (result.step, result.best_step, result.best_dev_micro_f1) == (5, 3, 0.6)  # the first of equals


@pytest.mark.parametrize("undefined", [None, float("nan")])
def test_an_undefined_score_is_no_better_than_any(tmp_path, undefined):
    scores = [undefined, 0.0, undefined, -1.0, undefined]
    settings = make_settings(max_steps=5, evaluate_every=1)
    student, result = run(tmp_path / "some", settings=settings, evaluate=Script(*scores))
    assert (result.best_step, result.best_dev_micro_f1) == (2, 0.0)
    _, result = run(tmp_path / "none", settings=settings, evaluate=Script(*[undefined] * 5))
    assert result.best_step is None and result.checkpoint.name == "step-000005"
    _, result = run(tmp_path / "absent", settings=settings, evaluate=lambda: {"dev_loss": 1.0})
    assert result.best_step is None and result.checkpoint.name == "step-000005"


def test_a_tie_is_not_better():
    progress = compare(Progress(step=1), 0.25)
    assert progress == Progress(step=1, best_step=1, best_dev_micro_f1=0.25)
    assert compare(progress, 0.25).evaluations_since == 1


def test_progress_is_written_to_the_last_bit(tmp_path):
    settings = make_settings(max_steps=2, evaluate_every=1)
    run(tmp_path, settings=settings, evaluate=Script(1 / 3, 0.1))
    latest = find_latest_checkpoint(tmp_path / "checkpoints")
    written = json.loads((latest / "progress.json").read_text())
    del written["seconds"]
    assert written == {"step": 2, "best_step": 1, "best_dev_micro_f1": 1 / 3, "evaluations_since": 1}


def test_a_best_whose_checkpoint_is_damaged_is_chosen_anew(tmp_path):
    reporter = Listener()
    _, result, _ = sit_exams(tmp_path)
    (result.checkpoint / "weights.safetensors").write_bytes(b"")
    _, second, _ = sit_exams(tmp_path, resume=True, reporter=reporter)
    assert second.best_step is None and second.checkpoint.name == "step-000011"
    assert len(reporter.warnings) == 1 and f"of step {result.best_step}, is damaged" in reporter.warnings[0]
