"""C18: packages that are missing, too old or broken; R14: folders that cannot be written; R10: engines left.

R21: a GPU that is hidden, absent, or there and not usable.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from looking import break_import, examine, list_wrong, look, unwritable_folder

from hkdcli.doctor import environment, gpu, kernels, machine
from hkdcli.inference import supervisor
from hkdcli.runs import PACKAGES

CPU = torch.device("cpu")


def test_the_environment_of_the_tests_is_sound() -> None:
    checks = examine(environment.examine_environment)
    assert not list_wrong(checks)
    assert set(PACKAGES) <= {name.removeprefix("env.") for name in checks}


def test_the_floors_are_those_of_our_own_metadata() -> None:
    floors = environment.read_floors()
    declared = [text for text in metadata.requires("hkd") or () if "extra" not in text]
    assert f"torch{floors['torch']}" in declared and f"transformers{floors['transformers']}" in declared
    assert "tokenizers" in floors  # through transformers
    assert "vllm" not in floors and list(environment.read_floors("vllm")) == ["vllm"]


def pretend_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Other versions than are installed; None: not installed."""
    real = metadata.version

    def version(package: str) -> str:
        found = versions[package] if package in versions else real(package)
        if found is None:
            raise metadata.PackageNotFoundError(package)
        return found

    monkeypatch.setattr(metadata, "version", version)


def test_c18_an_old_or_missing_package_fails_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_versions(monkeypatch, torch="2.9.1+cu126", bitsandbytes=None, scipy="1.0")
    checks = examine(environment.examine_environment)
    wrong = {"env.torch": "failed", "env.bitsandbytes": "failed", "env.packages": "failed"}
    assert list_wrong(checks) == wrong
    floor = environment.read_floors()["torch"]
    assert checks["env.torch"].found == f"torch 2.9.1+cu126 (wanted {floor})"
    assert checks["env.torch"].hint == f'pip install -U "torch{floor}"'
    assert checks["env.bitsandbytes"].found.startswith("bitsandbytes is not installed")
    assert "scipy 1.0" in checks["env.packages"].found and '"scipy>=' in checks["env.packages"].hint


def test_c18_a_missing_extra_is_told_and_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_versions(monkeypatch, pyarrow=None, num2words=None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    checks = examine(environment.examine_environment)
    assert not list_wrong(checks)
    for extra in ("parquet", "smolvlm", "vllm"):
        check = checks[f"env.extra.{extra}"]
        assert (check.status, check.hint) == ("skipped", f'pip install "hkd[{extra}]"')


def test_a_package_that_is_there_and_broken_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert look(environment.check_imports).status == "ok"
    break_import(monkeypatch, "bitsandbytes", OSError("libcudart.so.12: cannot open shared object file"))
    check = look(environment.check_imports)
    assert check.status == "failed" and "bitsandbytes cannot be imported: OSError: libcudart" in check.found
    assert check.hint == "pip install --force-reinstall bitsandbytes"


def test_an_old_python_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.platform, "python_version", lambda: "3.10.12")
    assert look(environment.check_python).status == "failed"


def test_without_metadata_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", nothing)
    monkeypatch.setattr(metadata, "metadata", nothing)
    checks = examine(environment.examine_environment)
    assert list_wrong(checks) == {"env.python": "warning"}
    assert checks["env.packages"].status == "skipped"


def test_the_token_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwx")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    check = look(environment.describe_hub)
    assert "a token is there" in check.found and "TRANSFORMERS_OFFLINE=1" in check.found
    assert "hf_" not in check.found
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "no token" in look(environment.describe_hub).found


def test_r14_a_folder_that_cannot_be_written_fails_and_nothing_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub.constants as constants

    with unwritable_folder() as folder:
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "home" / "hub"))
        cache, own = look(machine.check_cache), look(machine.check_folder, folder)
        assert cache.status == own.status == "failed"
        assert "cannot be written: Permission denied" in cache.found and "HF_HOME" in cache.hint
        assert list(folder.iterdir()) == []


def test_r14_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    check = look(machine.check_folder, tmp_path / "runs" / "x")
    assert check.status in ("ok", "warning") and "GiB free" in check.found
    assert list(tmp_path.iterdir()) == []


def test_little_space_and_memory_are_worth_a_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=2**20))
    assert look(machine.check_folder, tmp_path).status == "warning"
    memory = SimpleNamespace(available=2**30, total=2**36)
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: memory)
    assert look(machine.check_memory).status == "warning"


@pytest.mark.skipif(sys.platform != "linux", reason="the fake engine is killed as on Linux")
def test_r10_an_engine_whose_supervisor_was_killed_is_found_and_one_at_work_is_not() -> None:
    name = f"hkd-{secrets.token_hex(6)}"
    engine = [sys.executable, "-c", "import time; time.sleep(120)", "serve", "--served-model-name", name]
    guard = subprocess.Popen(
        [sys.executable, "-I", supervisor.__file__, str(os.getpid()), *engine], stdin=subprocess.PIPE
    )
    try:
        pid = await_engine(name, guard.pid)
        assert str(pid) not in look(machine.check_engines).found
        guard.kill()
        guard.wait()
        check = look(machine.check_engines)
        assert check.status == "warning" and str(pid) in check.hint.split()
    finally:
        guard.kill()
        guard.communicate()
        os.kill(pid, signal.SIGKILL)


def await_engine(name: str, guard: int) -> int:
    """Process id of the engine, once it runs below its supervisor."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in machine.psutil.Process(guard).children():
            if name in process.cmdline():
                return int(process.pid)
        time.sleep(0.02)
    raise AssertionError("the engine did not start")


# The GPU


def install_driver(monkeypatch: pytest.MonkeyPatch, folder: Path, *, works: bool = True) -> None:
    """A nvidia-smi that knows its driver, or fails as it does where there is none."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{'echo 550.54.15' if works else 'exit 9'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    install_driver(monkeypatch, tmp_path, works=False)
    return monkeypatch


def test_r21_a_machine_without_a_gpu_is_in_order(no_gpu: pytest.MonkeyPatch) -> None:
    assert look(gpu.check_gpu).status == "ok"


@pytest.mark.parametrize("value", ["", " ", "-1"])
def test_r21_a_gpu_that_is_hidden_is_told(no_gpu: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    no_gpu.setenv("CUDA_VISIBLE_DEVICES", value)
    assert look(gpu.check_gpu).status == "ok"  # nothing is hidden where there is no driver
    install_driver(no_gpu, tmp_path)
    check = look(gpu.check_gpu)
    assert check.status == "warning" and check.found.startswith("CUDA_VISIBLE_DEVICES is ")
    assert check.hint == "Unset CUDA_VISIBLE_DEVICES to use the GPU."


def test_r21_a_torch_for_cpus_beside_a_driver_fails(no_gpu: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_driver(no_gpu, tmp_path)
    no_gpu.setattr(torch.version, "cuda", None)
    check = look(gpu.check_gpu)
    assert check.status == "failed" and "driver 550.54.15" in check.found and "built for CPUs" in check.found


def test_r21_a_driver_that_is_too_old_fails_in_torch_s_words(
    no_gpu: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import warnings

    install_driver(no_gpu, tmp_path)
    said = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040)."
    no_gpu.setattr(torch.cuda, "is_available", lambda: bool(warnings.warn(said, stacklevel=1)))
    check = look(gpu.check_gpu)
    assert check.status == "failed" and "too old" in check.found and "12.8" in check.found


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, error: str = "") -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**30, 24 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(gpu, "_try_out", lambda device: error)


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch)
    check = look(gpu.check_gpu)
    assert check.status == "ok"
    assert check.found.startswith("Some GPU: 3.0 of 24.0 GiB free, compute capability 8.6, bfloat16")


def test_r21_a_gpu_that_does_not_compute_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, "no kernel image is available for execution on the device")
    check = look(gpu.check_gpu)
    assert check.status == "failed" and "no kernel image" in check.found


# bitsandbytes


@pytest.mark.parametrize("check", [kernels.check_nf4, kernels.check_int8])
def test_bitsandbytes_computes_what_the_formats_allow(check) -> None:
    assert look(check, CPU).status == "ok"


def test_wrong_kernels_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes.functional as functional

    dequantize, quantize = functional.dequantize_4bit, functional.int8_vectorwise_quant
    monkeypatch.setattr(functional, "dequantize_4bit", lambda *given: dequantize(*given) * 1.1)
    assert look(kernels.check_nf4, CPU).status == "failed"
    monkeypatch.setattr(functional, "dequantize_4bit", lambda *given: dequantize(*given) * float("nan"))
    assert look(kernels.check_nf4, CPU).status == "failed"

    def wrong(matrix: torch.Tensor) -> object:
        rows, scales, rest = quantize(matrix)
        return rows, scales * 1.05, rest

    monkeypatch.setattr(functional, "int8_vectorwise_quant", wrong)
    assert look(kernels.check_int8, CPU).status == "failed"


@pytest.mark.parametrize(
    ("check", "layer"), [(kernels.check_nf4, "Linear4bit"), (kernels.check_int8, "Linear8bitLt")]
)
def test_wrong_products_are_found(check, layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes.nn

    kind = getattr(bitsandbytes.nn, layer)
    real = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, inputs: real(self, inputs).roll(1, 0))
    assert look(check, CPU).status == "failed"


def test_m12_an_unsupported_device_fails_readably(monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes

    monkeypatch.setattr(bitsandbytes, "supported_torch_devices", {"cuda"})
    check = look(kernels.check_nf4, CPU)
    assert check.status == "failed" and "nf4 does not work on cpu" in check.found
