"""The log of a training: log.jsonl of the run, and TensorBoard beside it.

A log is worth less than the training that it is about: when it cannot be written, that is said once and
the training goes on.
"""

from __future__ import annotations

import json
import math
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from hkdcli.atomic import write_atomic
from hkdcli.ranks import find_place
from hkdcli.reporter import Reporter


class TrainLog:
    """Lines of figures per step; one file serves every level of a run. Nothing is opened before `begin`.

    Args:
        path: log.jsonl of the run.
        reporter: told when logging fails.
        level: which level of the pyramid the lines are about.
        tensorboard: folder for TensorBoard; None: none.
    """

    def __init__(
        self, path: Path, reporter: Reporter, *, level: str = "", tensorboard: Path | None = None
    ) -> None:
        self.path = path
        self.level = level
        self._reporter = reporter
        self._tensorboard = tensorboard
        self._writer: Any = None
        self._warned = False

    def begin(self, step: int) -> None:
        """Forget what this level logged past `step`: those steps were lost, and will be logged again.

        Args:
            step: optimizer steps that the resumed checkpoint has done; 0 for a fresh start.
        """
        self._guard(lambda: self._truncate(step))
        self._guard(lambda: self._open_tensorboard(step))

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Append a line; a figure that is not finite becomes null and is named in `not_finite`.

        Args:
            step: optimizer steps done.
            figures: by name.
        """
        line: dict[str, Any] = {"level": self.level} if self.level else {}
        line |= {"step": step} | {key: _round(value) for key, value in figures.items()}
        wrong = {key: str(value) for key, value in figures.items() if not math.isfinite(value)}
        if wrong:
            line["not_finite"] = wrong
        self._guard(lambda: self._append(json.dumps(line, allow_nan=False)))
        self._guard(lambda: self._add_scalars(step, figures))

    def close(self) -> None:
        """Flush and close what is open."""
        if self._writer is not None:
            self._guard(self._writer.close)
            self._writer = None

    def _guard(self, action: Callable[[], None]) -> None:
        if not find_place().is_main:
            return
        try:
            action()
        except Exception as error:  # any failure of any logger: none may end a training
            if not self._warned:
                self._reporter.warn(f"logging fails, training goes on: {error}")
            self._warned = True

    def _truncate(self, step: int) -> None:
        if not self.path.exists():
            return
        # A crash may have cut the last line short; such a tail is dropped.
        lines = self.path.read_bytes().split(b"\n")
        kept = [line for line in lines if self._is_kept(line, step)]
        write_atomic(self.path, b"".join(line + b"\n" for line in kept))

    def _is_kept(self, line: bytes, step: int) -> bool:
        try:
            row = json.loads(line)
            return bool(row.get("level", "") != self.level or row["step"] <= step)
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            return False

    def _append(self, line: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _open_tensorboard(self, step: int) -> None:
        if self._tensorboard is not None:
            from torch.utils.tensorboard import SummaryWriter

            folder = self._tensorboard / self.level
            self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def _add_scalars(self, step: int, figures: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)


def measure_peak_memory_gib(device: torch.device) -> float:
    """Measure the most memory that this process has held so far.

    Args:
        device: CUDA: what torch has held on this GPU; CPU: the resident memory of the process.

    Returns:
        GiB.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def _round(value: float) -> float | None:
    """Seven digits, which is what float32 has; None for what JSON cannot hold."""
    if isinstance(value, int):
        return value
    return float(f"{value:.7g}") if math.isfinite(value) else None
