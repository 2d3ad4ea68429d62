"""The loop on a toy: what a step computes, what is logged and kept."""

import pytest
import torch
from toy import ToyStudent, make_objective, make_settings, make_teachers
from toy_run import Listener, read_log, run

from hkdcli.checkpoints import find_latest_checkpoint
from hkdcli.distill.log import TrainLog
from hkdcli.errors import ModelError
from hkdcli.reporter import SilentReporter


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def test_r09_rotation_keeps_as_many_as_asked(tmp_path):
    run(tmp_path, settings=make_settings(keep_checkpoints=1))
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-000009"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path)
    other = ToyStudent()
    other.tower.requires_grad_(True)
    with pytest.raises(ModelError, match="tensors differ from this model's, such as student.tower"):
        run(tmp_path, student=other, resume=True)


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
