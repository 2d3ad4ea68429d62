"""The laws again on real model classes, and a training that is killed."""

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_training
import torch
from tiny_models import save_tiny_qwen

from hkdcli.distill.objective import OnlineObjective
from hkdcli.distill.order import Draw
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.trainer import train
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory):
    """A Qwen of the same tokenizer, other weights, another width and a head padded further."""
    folder = tmp_path_factory.mktemp("teacher")
    return save_tiny_qwen(folder, seed=5, hidden_size=64, vocab_size=512)


def load_pair(folder):
    loaded = load_model(folder, trainable=True)
    teacher = AnswerModel(copy.deepcopy(loaded.model))
    source = tiny_training.make_source(loaded)
    return AnswerModel(loaded.model), teacher, source, len(loaded.processor.tokenizer)


def draw_all(source):
    return source.load([Draw(0, index) for index in range(source.size)])


def test_accumulation_changes_neither_loss_nor_gradient(tiny_model, tmp_path):
    logs = {}
    for size, count in ((4, 1), (2, 2), (1, 4)):
        student, teacher, source, vocabulary = load_pair(tiny_model)
        for parameter in teacher.parameters():
            parameter.data.mul_(1.1)
        settings = tiny_training.make_settings(
            max_steps=2, micro_batch_size=size, gradient_accumulation_steps=count, checkpoint_every=None
        )
        folder = tmp_path / str(count)
        train(student, LiveTeachers([teacher]), OnlineObjective(vocabulary), source, settings, folder)
        logs[count] = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for count in (2, 4):
        for name in ("loss", "cross_entropy", "choice", "token", "grad_norm"):
            for found, expected in zip(logs[count], logs[1], strict=True):
                assert found[name] == pytest.approx(expected[name], rel=2e-4), name


def test_an_identical_teacher_teaches_nothing(tiny_model):
    student, teacher, source, vocabulary = load_pair(tiny_model)
    batch = draw_all(source)
    objective = OnlineObjective(vocabulary)
    parts = objective(student(batch), LiveTeachers([teacher])(batch), batch, 0.5).parts
    assert parts["choice"].total.item() == pytest.approx(0.0, abs=1e-6)
    assert parts["token"].total.item() == pytest.approx(0.0, abs=1e-5)
    assert parts["cross_entropy"].total.item() > 1.0


def test_gradients_reach_the_letter_and_stop_at_the_end_token(tiny_model):
    student, teacher, source, vocabulary = load_pair(tiny_model)
    batch = draw_all(source)
    states = []
    embeddings = student.model.get_input_embeddings()
    embeddings.register_forward_hook(
        lambda module, inputs, output: output.retain_grad() or states.append(output)
    )
    objective = OnlineObjective(vocabulary)
    parts = objective(student(batch), LiveTeachers([teacher])(batch), batch, 0.5)
    parts.combine(objective.count(batch)).backward()
    head = student.model.get_output_embeddings().weight.grad
    letters = batch.answer_targets[batch.first]
    assert (head[letters].norm(dim=-1) > 0).all()
    gradient = states[0].grad.norm(dim=-1)  # [B, L]
    lengths = batch.model_inputs["attention_mask"].sum(-1)
    for row, length in enumerate(lengths.tolist()):
        assert (gradient[row, length - 1 :] == 0).all()
        assert gradient[row, length - 2] > 0
        assert gradient[row, : length - 2].max() > 0


def test_heads_of_different_width_can_be_compared(tiny_qwen, teacher_folder):
    student, _, source, vocabulary = load_pair(tiny_qwen)
    wide = AnswerModel(load_model(teacher_folder).model)
    batch = draw_all(source)
    for one, other in ((student, wide), (wide, student)):
        parts = OnlineObjective(vocabulary)(one(batch), [other(batch)], batch, 0.5).parts
        assert parts["token"].total.item() > 0.0
    assert student(batch).logits.shape[1] != wide(batch).logits.shape[1]


def count_lines(path):
    return len(path.read_bytes().splitlines()) if path.exists() else 0


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_killed_training_resumes_to_the_same_weights(tiny_qwen, teacher_folder, tmp_path):
    """SIGKILL in the middle of a run, then a resume: all weights as without the kill, bit for bit."""
    expected = tiny_training.train_with_lora(tmp_path / "whole", tiny_qwen, teacher_folder)
    log = tmp_path / "cut/log.jsonl"
    program = [
        sys.executable,
        tiny_training.__file__,
        str(tmp_path / "cut"),
        str(tiny_qwen),
        str(teacher_folder),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(program, env=environment) as process:
        deadline = time.monotonic() + 120
        while count_lines(log) < 6 and time.monotonic() < deadline:
            assert process.poll() is None, "ended before it could be killed"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    steps = [json.loads(line)["step"] for line in log.read_bytes().splitlines()[:6]]
    assert steps == list(range(1, 7)) and count_lines(log) < 16
    resumed = tiny_training.train_with_lora(tmp_path / "cut", tiny_qwen, teacher_folder, resume=True)
    trained = {name for name, parameter in expected.named_parameters() if parameter.requires_grad}
    assert trained and all("lora" in name for name in trained)
    weights = expected.state_dict()
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 17))
    whole = [json.loads(line) for line in (tmp_path / "whole/log.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows] == [row["loss"] for row in whole]
