"""Memory, disks and folders; and engines that nobody waits for any more."""

from __future__ import annotations

import os
import re
from pathlib import Path

import psutil

from hkdcli.atomic import check_writable, measure_free
from hkdcli.doctor.examination import Examination, Finding
from hkdcli.inference import supervisor

_LITTLE_MEMORY_GIB, _LITTLE_DISK_GIB = 2.0, 2.0
_SERVED_NAME = re.compile(r"hkd-[0-9a-f]{12}")


def examine_machine(examination: Examination) -> None:
    """Check memory, the hub's cache, the current folder, and engines left behind.

    Args:
        examination: Told what was found.
    """
    examination.look("env.memory", check_memory)
    examination.look("env.cache", check_cache)
    examination.look("env.folder", check_folder, Path())
    examination.look("env.engines", check_engines)


def check_memory() -> Finding:
    """How much memory is free."""
    memory = psutil.virtual_memory()
    free, total = memory.available / 2**30, memory.total / 2**30
    found = f"{free:.1f} of {total:.1f} GiB free"
    if free < _LITTLE_MEMORY_GIB:
        return Finding(found, "warning", "Close other programs: even small models need a few GiB.")
    return Finding(found)


def check_cache() -> Finding:
    """Whether the hub's cache can be written, and how much space it has."""
    from huggingface_hub import constants

    hint = "Give HF_HOME a folder that can be written."
    return check_folder(Path(constants.HF_HUB_CACHE), hint)


def check_folder(folder: Path, hint: str = "Work in a folder that can be written.") -> Finding:
    """Whether something can be written into a folder, which need not exist yet, and how much space it has.

    A file without a name is written, so nothing is left, whatever happens.

    Args:
        folder: Where something would be written.
        hint: What to do where it cannot.

    Returns:
        How much space there is; where nothing can be written `check_writable` says so.
    """
    check_writable(folder, hint=hint)
    free = measure_free(folder) / 2**30
    found = f"{folder.absolute()}: can be written, {free:.1f} GiB free"
    if free < _LITTLE_DISK_GIB:
        return Finding(found, "warning", "Free some space: checkpoints and models need it.")
    return Finding(found)


def check_engines() -> Finding:
    """Look for vLLM servers that hkd started, and whose supervisor is gone.

    They are known by the name that hkd gives each server, which no other program uses.
    """
    left = [process.pid for process in psutil.process_iter() if _is_left_behind(process)]
    if not left:
        return Finding("no engine was left behind")
    pids = " ".join(map(str, left))
    return Finding(f"vLLM servers of hkd that nobody waits for: process {pids}", "warning", f"kill {pids}")


def _is_left_behind(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
        if not ("serve" in words and any(map(_SERVED_NAME.fullmatch, words))):
            return False
        if any(Path(word).name == Path(supervisor.__file__).name for word in words):
            return False  # the supervisor itself, which is told the engine's command
        parent = process.parent()
        above = parent.cmdline() if parent else []
    except (psutil.Error, OSError):
        return False
    mine = process.uids().real == os.getuid()
    return mine and not any(Path(word).name == Path(supervisor.__file__).name for word in above)
