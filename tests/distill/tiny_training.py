"""A whole training of a tiny real model, as a function and as a program that can be killed.

python tiny_training.py FOLDER STUDENT TEACHER
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny_records import DrawnImages, make_factuality, make_hallucination

from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.distill.objective import OnlineObjective
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.sources import DatasetSource
from hkdcli.distill.trainer import TrainSettings, train
from hkdcli.models.adapters import attach_lora
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model

PHRASES = (("red square",), ("red square", "left of"), ("red square", "left of", "small circle"))


def make_dataset():
    """Seven records whose answers have two to four tokens, with two to four choices."""
    records = [make_hallucination(f"h{i}", PHRASES[i % 3]) for i in range(4)]
    records += [make_factuality(f"f{i}", answer=frozenset("ABC"[i])) for i in range(3)]
    return Dataset("tiny", tuple(records), DrawnImages())


def make_source(loaded):
    return DatasetSource(make_dataset(), Collator(loaded.processor))


def make_settings(**changes):
    settings = {
        "max_steps": 16,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 3e-3,
        "warmup_steps": 3,
        "lambda_start": 0.5,
        "log_every": 1,
        "checkpoint_every": 4,
    }
    return TrainSettings(**{**settings, **changes})


def train_with_lora(folder, student, teacher, *, resume=False):
    """Train a fresh LoRA with dropout; returns the student."""
    torch.set_num_threads(1)
    loaded, taught_by = load_model(student, trainable=True), load_model(teacher)
    torch.manual_seed(1)
    model = AnswerModel(attach_lora(loaded.model, rank=4, alpha=8, dropout=0.1))
    signals = LiveTeachers([AnswerModel(taught_by.model)])
    objective = OnlineObjective(vocabulary=len(loaded.processor.tokenizer), temperature=2.0)
    train(model, signals, objective, make_source(loaded), make_settings(), Path(folder), resume=resume)
    return model


if __name__ == "__main__":
    train_with_lora(*sys.argv[1:4])
