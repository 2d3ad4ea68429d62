"""A whole training of the toy, and what can be seen of it."""

import json

import torch
from toy import ToySource, ToyStudent, make_objective, make_settings, make_teachers

from hkdcli.distill.trainer import train
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
