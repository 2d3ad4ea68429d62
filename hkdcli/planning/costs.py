"""What a run takes beside device memory: disk, host memory, and time where a rate was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hkdcli.atomic import measure_free
from hkdcli.models.folders import find_local_folder
from hkdcli.models.hub import find_cache
from hkdcli.models.loading import read_config
from hkdcli.planning.fitting import FittedPhase
from hkdcli.planning.hollow import build_from_config, count_bytes
from hkdcli.planning.room import Room
from hkdcli.planning.staging import Planned

if TYPE_CHECKING:
    from hkdcli.recipe import RunRecipe

# Repositories on the hub are cut into files of at most about 5 GB, and one at a time is read.
_USUAL_SHARD = 5 * 10**9


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes that a run puts on disk.

    Attributes:
        download: models that are not here yet, in bfloat16.
        checkpoints: of the level that has the largest, with the one that is being written.
        results: trained levels, adapters or whole models.
        signals: what upper models say of every record; None: how many records is not known.
        free: where the run folder will be.
        free_in_cache: where the hub's models are kept.
    """

    download: int
    checkpoints: int
    results: int
    signals: int | None
    free: int
    free_in_cache: int

    @property
    def is_enough(self) -> bool:
        """Whether all of it finds room on this machine."""
        run = self.checkpoints + self.results + (self.signals or 0)
        return run <= self.free and self.download <= self.free_in_cache


def compute_disk(planned: Planned[Any], fitted: Sequence[FittedPhase], run: Path) -> Disk:
    """Compute what a run puts on disk.

    Args:
        planned: the run.
        fitted: its phases.
        run: the run folder, which need not be there.

    Returns:
        Bytes.
    """
    trained = [each for each in fitted if each.phase.doing == "train"]
    levels = {level.name: level for level in planned.stage.recipe.pyramid}
    kept = []
    for each in trained:
        train = levels[each.phase.level].train
        assert train is not None
        copies = train.keep_checkpoints + 1 + (train.evaluate_every is not None and train.keep_best)
        kept.append(copies * (each.memory.trained + each.memory.optimizer))
    return Disk(
        download=sum(_weigh_download(planned, name) for name in planned.stood_in),
        checkpoints=sum(kept),
        results=sum(each.memory.trained for each in trained),
        signals=_weigh_signals(planned),
        free=measure_free(run),
        free_in_cache=measure_free(find_cache()),
    )


def estimate_host_memory(planned: Planned[Any], fitted: Sequence[FittedPhase], room: Room) -> int:
    """Bytes of main memory: of the process, and of the file of weights that is being read.

    Args:
        planned: the run.
        fitted: its phases; where a CPU computes, main memory is where they are.
        room: what else a phase takes there.

    Returns:
        Bytes.
    """
    if planned.machine.device == "cpu":
        return max(room.compute_need(each.memory) for each in fitted)
    return planned.process + max(
        _weigh_largest_file(planned, level) for level in planned.stage.recipe.pyramid
    )


def read_seconds_per_step(run: Path, level: str) -> float | None:
    """What a step of a level took in this run folder before.

    Args:
        run: the run folder.
        level: its name.

    Returns:
        Seconds, over all steps that were logged; None: nothing was measured.
    """
    try:
        lines = (run / "log.jsonl").read_bytes().split(b"\n")
        rows = [json.loads(line) for line in lines if line.strip()]
        rows = [row for row in rows if row.get("level") == level and "seconds" in row]
        seconds = float(rows[-1]["seconds"] / rows[-1]["step"])
    except (OSError, ValueError, RecursionError, AttributeError, LookupError, TypeError, ArithmeticError):
        return None
    return seconds if math.isfinite(seconds) else None


def estimate_seconds(recipe: RunRecipe, run: Path) -> float | None:
    """Seconds for all trainings of a recipe, where a step of each was measured in its run folder."""
    trained = [level for level in recipe.pyramid if level.train is not None]
    rates = [read_seconds_per_step(run, level.name) for level in trained]
    if any(rate is None for rate in rates):
        return None
    steps = [level.train.max_steps for level in trained if level.train is not None]
    return sum(rate * count for rate, count in zip(rates, steps, strict=True) if rate is not None)


def _weigh_download(planned: Planned[Any], name: str) -> int:
    level = next(level for level in planned.stage.recipe.pyramid if level.name == name)
    hollow = build_from_config(read_config(Path(level.model)), dtype=torch.bfloat16)
    return count_bytes(hollow)


def _weigh_largest_file(planned: Planned[Any], level: Any) -> int:
    if level.name in planned.stood_in:
        return _USUAL_SHARD
    folder = find_local_folder(level.model)
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")] if folder else []
    return max(sizes, default=_USUAL_SHARD)


def _weigh_signals(planned: Planned[Any]) -> int | None:
    if not planned.signal_bytes:
        return 0
    return None if planned.records is None else planned.records * sum(planned.signal_bytes.values())
