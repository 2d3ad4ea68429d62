"""The whole plan of a recipe: phases against the room there is, disk, main memory, time, and a change."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hkdcli.errors import UsageError
from hkdcli.planning.costs import Disk, compute_disk, estimate_host_memory, estimate_seconds
from hkdcli.planning.fitting import FittedPhase, find_change, fit_phase
from hkdcli.planning.phases import Phase, list_phases
from hkdcli.planning.records import Lengths
from hkdcli.planning.room import Room, choose_room
from hkdcli.planning.staging import Machine, Planned, change_planned, open_planned
from hkdcli.recipe import RunRecipe
from hkdcli.recipe_file import read_recipe
from hkdcli.reporter import Reporter


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe takes.

    Attributes:
        recipe: as it is planned.
        machine: device and number type.
        room: the memory there is.
        lengths: of records, by level.
        made_up: whether the records are.
        stood_in: levels that were planned by their shapes alone.
        phases: in their order.
        disk: what goes to disk.
        host: bytes of main memory.
        seconds: of all trainings; None: no rate was measured.
        change: the smallest change that makes all fit; empty: all fits; None: none was found.
    """

    recipe: RunRecipe
    machine: Machine
    room: Room
    lengths: dict[str, Lengths]
    made_up: bool
    stood_in: tuple[str, ...]
    phases: tuple[FittedPhase, ...]
    disk: Disk
    host: int
    seconds: float | None
    change: tuple[str, ...] | None

    @property
    def fits(self) -> bool:
        """Whether every phase fits."""
        return all(phase.fits for phase in self.phases)


def make_plan(
    path: Path,
    kind: type[RunRecipe],
    overrides: Sequence[str],
    *,
    run: Path | None,
    gpu_gb: float | None,
    memory_gib: float | None,
    reporter: Reporter,
) -> Plan:
    """Plan a recipe; no weight is read and nothing is downloaded.

    Args:
        path: of the recipe.
        kind: what it is a recipe of.
        overrides: `key=value` changes to it.
        run: the run folder, for what a step took there before; None: runs/<name>.
        gpu_gb: plan for such a card; None: for what is here.
        memory_gib: plan for so much memory; None likewise.
        reporter: told about progress, and what had to be made up.

    Returns:
        The plan.

    Raises:
        UsageError: a card is named for a recipe that computes on the CPU.
    """
    recipe = read_recipe(path, kind, overrides)
    machine = choose_machine(recipe, named=gpu_gb is not None or memory_gib is not None)
    room = choose_room(machine.device, gpu_gb=gpu_gb, memory_gib=memory_gib)
    if gpu_gb is not None and machine.device == "cpu":
        raise UsageError(
            "--gpu names a card, and this recipe computes on the CPU (runtime.device: cpu)",
            hint="Add runtime.device=cuda, or give --memory-gib for main memory.",
        )
    folder = run or Path("runs") / recipe.name
    with tempfile.TemporaryDirectory(prefix="hkd-plan-") as work:
        planned = open_planned(recipe, machine, Path(work), reporter)
        fitted = _fit_all(planned, room, reporter)
        change = _Changer(path, kind, overrides, planned, Path(work), room).find(fitted)
        return Plan(
            recipe,
            machine,
            room,
            planned.lengths,
            planned.records is None,
            planned.stood_in,
            tuple(fitted),
            compute_disk(planned, fitted, folder),
            estimate_host_memory(planned, fitted, room),
            estimate_seconds(recipe, folder),
            change,
        )


def choose_machine(recipe: RunRecipe, *, named: bool) -> Machine:
    """Choose device and number type as a run would, on the machine that is planned for.

    Args:
        recipe: says what it wants; `auto` is a GPU where one is named or here.
        named: whether a machine with a GPU was named.

    Returns:
        The machine.
    """
    wanted = recipe.runtime
    gpu = wanted.device == "cuda" or (wanted.device == "auto" and (named or torch.cuda.is_available()))
    low = gpu if wanted.dtype == "auto" else wanted.dtype == "bfloat16"
    return Machine("cuda" if gpu else "cpu", torch.bfloat16 if low else torch.float32)


def _fit_all(planned: Planned[Any], room: Room, reporter: Reporter) -> list[FittedPhase]:
    phases, fitted = list_phases(planned), []
    reporter.start("planning", len(phases))
    try:
        for phase in phases:
            fitted.append(fit_phase(phase, room))
            reporter.advance(len(fitted))
    finally:
        reporter.finish()
    return fitted


@dataclass(frozen=True, slots=True)
class _Changer:
    """Looks for the smallest change that makes all phases of a recipe fit."""

    path: Path
    kind: type[RunRecipe]
    overrides: Sequence[str]
    planned: Planned[Any]
    work: Path
    room: Room

    def find(self, fitted: Sequence[FittedPhase]) -> tuple[str, ...] | None:
        """The changes, empty where all fits; None: none was found.

        A change for one phase is in force when the next one is looked at. Where a change makes phases that
        there were not, as stored signals do, they have to fit too.
        """
        changes: tuple[str, ...] = ()
        fit = {(each.phase.doing, each.phase.level) for each in fitted if each.fits}
        waiting = [each.phase for each in fitted if not each.fits]
        while waiting:
            phase = waiting[0]

            def replan(more: Sequence[str], phase: Phase = phase, before: tuple[str, ...] = changes) -> Phase:
                phases = self._replan((*before, *more))[1]
                return next(p for p in phases if (p.doing, p.level) == (phase.doing, phase.level))

            recipe = self._replan(changes)[0]
            found = find_change(recipe, phase, self.room, replan)
            if found is None:
                return None
            changes += found
            fit.add((phase.doing, phase.level))
            others = (p for p in self._replan(changes)[1] if (p.doing, p.level) not in fit)
            waiting = [p for p in others if not self.room.fits(p.measure(p.batch_size))]
        return changes

    def _replan(self, changes: Sequence[str]) -> tuple[RunRecipe, list[Phase]]:
        recipe = read_recipe(self.path, self.kind, [*self.overrides, *changes])
        return recipe, list_phases(change_planned(self.planned, recipe, self.work))
