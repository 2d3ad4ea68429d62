from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from hkdcli.errors import SetupError
from hkdcli.runtime import choose_runtime, set_seed


def test_cpu_is_float32_unless_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    runtime = choose_runtime()
    assert (runtime.device.type, runtime.dtype) == ("cpu", torch.float32)
    assert runtime.describe().startswith("CPU with ")
    assert runtime.describe().endswith("float32")
    assert choose_runtime("cpu", "bfloat16").dtype == torch.bfloat16


def test_r21_missing_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SetupError, match="no usable GPU"):
        choose_runtime("cuda")


def test_gpu_takes_bfloat16_where_it_has_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert choose_runtime().dtype == torch.bfloat16
    assert choose_runtime("cpu").dtype == torch.float32


def test_seed_repeats_every_generator():
    drawn = []
    for _ in range(2):
        set_seed(7)
        drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert drawn[0] == drawn[1]
