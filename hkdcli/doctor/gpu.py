"""The GPU: what there is, whether it computes, and if there is none, why."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings
from typing import TYPE_CHECKING

from hkdcli.doctor.examination import Finding

if TYPE_CHECKING:
    import torch

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def check_gpu() -> Finding:
    """Say which GPUs can be used, or why none can.

    Returns:
        Failed where there is a GPU that torch cannot use; a warning where one is hidden.
    """
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        return explain_no_gpu([str(each.message) for each in said])
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    failed = [f"cuda:{device.index}: {error}" for device in devices if (error := _try_out(device))]
    found = (
        "; ".join(map(_describe, devices))
        + f"; driver {_read_driver() or 'unknown'}, CUDA {torch.version.cuda}"
    )
    if failed:
        hint = "Install a torch build for this GPU: see https://pytorch.org/get-started/locally/."
        return Finding("; ".join([found, *failed]), "failed", hint)
    return Finding(found)


def explain_no_gpu(said: list[str] | None = None) -> Finding:
    """Say why torch sees no GPU.

    Args:
        said: What torch warned of when it was asked.

    Returns:
        Ok where the machine has none; else a warning or a failure with what to change.
    """
    import torch

    driver, visible = _read_driver(), os.environ.get(_VISIBLE)
    if visible is not None and visible.strip() in ("", "-1"):
        shown = f"{_VISIBLE} is {'empty' if not visible.strip() else visible.strip()}, so no GPU is visible"
        hint = f"Unset {_VISIBLE} to use the GPU." if driver else ""
        return Finding(shown, "warning" if driver else "ok", hint)
    if driver is None:
        return Finding("no GPU: nvidia-smi finds no driver; the CPU is used")
    if torch.version.cuda is None:
        hint = "Install a torch build with CUDA: see https://pytorch.org/get-started/locally/."
        return Finding(
            f"driver {driver} is there, but torch {torch.__version__} is built for CPUs", "failed", hint
        )
    why = said[0] if said else "torch does not say why"
    hint = (
        "Update the driver, or install a torch build for it; a device that is held exclusively shows so too."
    )
    built = f"torch {torch.__version__} (CUDA {torch.version.cuda})"
    return Finding(f"driver {driver} is there, but {built} cannot use it: {why}", "failed", hint)


def _describe(device: torch.device) -> str:
    import torch

    free, total = (size / 2**30 for size in torch.cuda.mem_get_info(device))
    major, minor = torch.cuda.get_device_capability(device)
    brain = "bfloat16" if torch.cuda.is_bf16_supported() else "no bfloat16"
    name = torch.cuda.get_device_name(device)
    return f"{name}: {free:.1f} of {total:.1f} GiB free, compute capability {major}.{minor}, {brain}"


def _try_out(device: torch.device) -> str:
    """What goes wrong when the GPU multiplies a matrix; empty where nothing does."""
    import torch

    try:
        square = torch.ones(64, 64, device=device)
        return "" if float((square @ square)[0, 0]) == 64.0 else "computes nonsense"
    except RuntimeError as error:  # no kernel for this GPU, no memory, a device that was lost
        return str(error).splitlines()[0]


def _read_driver() -> str | None:
    """The driver's version as nvidia-smi says it; None where there is no nvidia-smi, or no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        asked = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = asked.stdout.split()
    return lines[0] if asked.returncode == 0 and lines else None
