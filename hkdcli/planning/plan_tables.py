"""A plan as a document for programs, and as tables and lines for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hkdcli.errors import MachineLimitError
from hkdcli.outcome import Outcome, Table
from hkdcli.planning.fitting import FittedPhase
from hkdcli.planning.planner import Plan
from hkdcli.planning.records import describe_lengths
from hkdcli.planning.room import GIB

_PARTS = ("teachers", "student", "trained", "gradients", "optimizer", "activations")


def describe_plan(plan: Plan) -> Outcome:
    """Describe a plan.

    Args:
        plan: of a recipe.

    Returns:
        With a verdict where it does not fit.
    """
    return Outcome(
        _build_document(plan),
        tables=[_tabulate_phases(plan), _tabulate_rest(plan)],
        text=_render_text(plan),
        verdict="" if plan.fits else _render_refusal(plan),
        verdict_code=0 if plan.fits else MachineLimitError.exit_code,
    )


def _build_document(plan: Plan) -> dict[str, Any]:
    return {
        "recipe": plan.recipe.name,
        "machine": {
            "name": plan.room.name,
            "device": plan.machine.device,
            "dtype": str(plan.machine.dtype).removeprefix("torch."),
            "usable_gib": _round(plan.room.usable),
            "assumed_overhead_gib": _round(plan.room.overhead),
            "assumed_waste": plan.room.slack,
        },
        "records": {name: asdict(lengths) for name, lengths in plan.lengths.items()},
        "records_made_up": plan.made_up,
        "levels_by_shape": list(plan.stood_in),
        "phases": [_describe_phase(each) for each in plan.phases],
        "disk_gib": {
            name: None if size is None else _round(size) for name, size in asdict(plan.disk).items()
        },
        "disk_is_enough": plan.disk.is_enough,
        "host_memory_gib": _round(plan.host),
        "seconds": plan.seconds,
        "fits": plan.fits,
        "change": None if plan.change is None else list(plan.change),
    }


def _describe_phase(each: FittedPhase) -> dict[str, Any]:
    return {
        "doing": each.phase.doing,
        "level": each.phase.level,
        "beside": list(each.phase.beside),
        "batch_size": each.phase.batch_size,
        "bytes": asdict(each.memory),
        "need_gib": _round(each.need),
        "fits": each.fits,
        "largest_batch_size": each.largest,
    }


def _tabulate_phases(plan: Plan) -> Table:
    rows = [_build_row(each) for each in plan.phases]
    header = ("phase", *_PARTS, "rest", "need", "fits", "micro-batch", "largest")
    return Table(
        f"Memory on {plan.room.name}, of which {_show(plan.room.usable)} GiB can be used", header, rows
    )


def _build_row(each: FittedPhase) -> list[str]:
    phase, memory = each.phase, asdict(each.memory)
    beside = f" beside {' and '.join(phase.beside)}" if phase.beside else ""
    return [
        f"{phase.doing} {phase.level}{beside}",
        *(_show(memory[part]) for part in _PARTS),
        _show(each.need - memory["peak"]),
        _show(each.need),
        "yes" if each.fits else "NO",
        str(phase.batch_size),
        str(each.largest) if each.largest else "none",
    ]


def _tabulate_rest(plan: Plan) -> Table:
    disk = plan.disk
    signals = "unknown: the records are made up" if disk.signals is None else f"{_show(disk.signals)} GiB"
    rows = [
        ("models to download", f"{_show(disk.download)} GiB of disk"),
        ("checkpoints", f"{_show(disk.checkpoints)} GiB of disk"),
        ("trained levels", f"{_show(disk.results)} GiB of disk"),
        ("stored signals", signals if disk.signals is None else f"{signals} of disk"),
        ("free disk at the run folder", f"{_show(disk.free)} GiB"),
        ("free disk in the hub's cache", f"{_show(disk.free_in_cache)} GiB"),
        ("main memory", f"{_show(plan.host)} GiB"),
        ("time to train", _render_time(plan.seconds)),
    ]
    return Table("Beside that", ("what", "how much"), rows)


def _render_text(plan: Plan) -> str:
    lines = [
        f"records: {describe_lengths(list(plan.lengths.values()))}" + (" (made up)" if plan.made_up else "")
    ]
    if plan.stood_in:
        lines.append(
            f"planned by shape, as they are not here: {', '.join(plan.stood_in)}; their text is counted in "
            "words, their image tokens are exact"
        )
    if not plan.disk.is_enough:
        lines.append("this machine's disk has no room for it: see below")
    return "\n".join(lines)


def _render_refusal(plan: Plan) -> str:
    worst = max((each for each in plan.phases if not each.fits), key=lambda each: each.need)
    what, need = f"{worst.phase.doing} {worst.phase.level}", _show(worst.need)
    said = f"it does not fit: {what} needs {need} GiB of {_show(plan.room.usable)}"
    if plan.change is None:
        return f"{said}; no change of this recipe makes it fit: choose smaller models"
    return f"{said}; this makes all of it fit: {' '.join(map(_quote, plan.change))}"


def _quote(change: str) -> str:
    return f"'{change}'" if " " in change or "{" in change else change


def _render_time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown until a step was measured"
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.0f} min"


def _show(size: int) -> str:
    gib = size / GIB
    return f"{gib:.1f}" if gib >= 1 else f"{gib:.2f}" if gib >= 0.01 or size == 0 else f"{gib:.4f}"


def _round(size: int) -> float:
    return float(f"{size / GIB:.5g}")
