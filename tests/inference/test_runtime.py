from __future__ import annotations

import ctypes
import platform

import pytest
import torch

from hkdcli.errors import SetupError
from hkdcli.runtime import choose_runtime, keep_freed_memory


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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone can be told")
def test_glibc_is_told_to_keep_what_is_freed():
    assert keep_freed_memory()


def test_where_there_is_no_glibc_nobody_is_told(monkeypatch):
    def fail(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert not keep_freed_memory()
    assert choose_runtime("cpu").device.type == "cpu"
