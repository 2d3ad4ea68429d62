"""A first recipe for somebody's own records: the strongest known pyramid that fits, with its settings."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from hkdcli.errors import MachineLimitError, SetupError
from hkdcli.planning.fitting import find_largest
from hkdcli.planning.phases import list_phases
from hkdcli.planning.planner import choose_machine
from hkdcli.planning.room import GIB, Room, choose_room
from hkdcli.planning.staging import Machine, open_planned
from hkdcli.recipe import Recipe
from hkdcli.recipe_file import build_recipe
from hkdcli.reporter import Reporter

_STEP = 32  # examples of an optimizer step
_EPOCHS = 3
_MOST_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pyramid of known models, apex first: (name, hub id, quantization) of each level."""

    levels: tuple[tuple[str, str, str], ...]
    choice_only: bool = False  # the tokenizers differ

    def __str__(self) -> str:
        return " -> ".join(f"{name} in {held}" if held != "none" else name for name, _, held in self.levels)


_QWEN25, _QWEN3, _SMOL = (
    "Qwen/Qwen2.5-VL-{}-Instruct",
    "Qwen/Qwen3-VL-{}-Instruct",
    "HuggingFaceTB/SmolVLM{}-Instruct",
)

# Strongest first: by the size of the apex, then of the base.
CANDIDATES = (
    Candidate(
        (
            ("72b", _QWEN25.format("72B"), "nf4"),
            ("7b", _QWEN25.format("7B"), "none"),
            ("3b", _QWEN25.format("3B"), "none"),
        )
    ),
    Candidate((("32b", _QWEN3.format("32B"), "nf4"), ("8b", _QWEN3.format("8B"), "none"))),
    Candidate((("32b", _QWEN3.format("32B"), "nf4"), ("4b", _QWEN3.format("4B"), "none"))),
    Candidate((("8b", _QWEN3.format("8B"), "nf4"), ("4b", _QWEN3.format("4B"), "none"))),
    Candidate((("8b", _QWEN3.format("8B"), "nf4"), ("2b", _QWEN3.format("2B"), "none"))),
    Candidate((("4b", _QWEN3.format("4B"), "nf4"), ("2b", _QWEN3.format("2B"), "none"))),
    Candidate(
        (
            ("2b", _SMOL.format(""), "none"),
            ("500m", _SMOL.format("-500M"), "none"),
            ("256m", _SMOL.format("-256M"), "none"),
        ),
        choice_only=True,
    ),
    Candidate((("500m", _SMOL.format("-500M"), "none"), ("256m", _SMOL.format("-256M"), "none"))),
)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a recipe is for.

    Attributes:
        name: of the run.
        data: `train`, and `dev` and `test` where there are such files.
        images: folder of the images; None: beside the records.
        records: of the training file.
    """

    name: str
    data: Mapping[str, Path]
    images: Path | None
    records: int


@dataclass(frozen=True, slots=True)
class Started:
    """A recipe, and why it is this one.

    Attributes:
        text: YAML with comments.
        candidate: the pyramid.
        micro_batch_size: examples at once.
        need: bytes of the largest phase.
        room: of the machine.
        passed_over: stronger pyramids, with why.
    """

    text: str
    candidate: Candidate
    micro_batch_size: int
    need: int
    room: Room
    passed_over: tuple[tuple[str, str], ...]


def start_recipe(
    wishes: Wishes, *, gpu_gb: float | None, memory_gib: float | None, reporter: Reporter
) -> Started:
    """Choose the strongest pyramid that fits, and write its recipe.

    Args:
        wishes: what it is for.
        gpu_gb: the card, in GB; None: this machine.
        memory_gib: so much memory instead; None likewise.
        reporter: told what is tried.

    Returns:
        The recipe.

    Raises:
        MachineLimitError: not even the smallest one fits.
    """
    passed: list[tuple[str, str]] = []
    for candidate in CANDIDATES:
        reporter.note(f"trying {candidate}")
        recipe = build_recipe(render_recipe_text(wishes, candidate, 1, ""), Recipe)
        machine = choose_machine(recipe, named=gpu_gb is not None or memory_gib is not None)
        room = choose_room(machine.device, gpu_gb=gpu_gb, memory_gib=memory_gib)
        try:
            found = _fit(recipe, room, machine, reporter)
        except SetupError as error:  # a package that this family needs is not installed
            passed.append((str(candidate), f"{error.message} ({error.hint})"))
            continue
        if isinstance(found, str):
            passed.append((str(candidate), found))
            continue
        width, need = found
        text = render_recipe_text(wishes, candidate, width, f"{need / GIB:.1f} GiB on {room.name}")
        return Started(text, candidate, width, need, room, tuple(passed))
    tried = "\n".join(f"  {name}: {why}" for name, why in passed)
    raise MachineLimitError(f"no known pyramid fits:\n{tried}", hint="Plan for a larger card with --gpu GB.")


def _fit(recipe: Recipe, room: Room, machine: Machine, reporter: Reporter) -> tuple[int, int] | str:
    """How many examples at once fit in every phase, and what the largest needs; or why it does not fit."""
    widths, phases = [], []
    with tempfile.TemporaryDirectory(prefix="hkd-init-") as work:
        for phase in list_phases(open_planned(recipe, machine, Path(work), reporter)):
            largest = find_largest(phase, room, most=_MOST_AT_ONCE)
            if not largest:
                need = room.compute_need(phase.measure(1))
                return f"{phase.doing} {phase.level} needs {need / GIB:.1f} GiB of {room.usable / GIB:.1f}"
            widths.append(largest)
            phases.append(phase)
        width = max(size for size in (1, 2, 4, 8) if size <= min(widths))
        return width, max(room.compute_need(phase.measure(width)) for phase in phases)


def render_recipe_text(wishes: Wishes, candidate: Candidate, width: int, need: str) -> str:
    """Write a pyramid as a recipe with comments.

    Args:
        wishes: what it is for.
        candidate: the pyramid.
        width: examples at once.
        need: for people, what it needs.

    Returns:
        YAML; THIS_FILE stands for its own name.
    """
    steps = max(50, ceil(_EPOCHS * wishes.records / _STEP))
    return "\n".join(
        [*_render_head(wishes, candidate, need), *_render_body(wishes, candidate, width, steps), ""]
    )


def _render_head(wishes: Wishes, candidate: Candidate, need: str) -> Iterator[str]:
    yield f"# What it is: {candidate}, each level taught by the one above, on {wishes.records} records."
    yield f"# What it needs: {need}, as hkd plan counts it, and the models, which the first run downloads."
    yield "# Run it: hkd distill-online THIS_FILE"
    yield "#   Look at it first: hkd plan THIS_FILE; hkd doctor THIS_FILE. docs/recipes.md has every setting."


def _render_body(wishes: Wishes, candidate: Candidate, width: int, steps: int) -> Iterator[str]:
    yield f"name: {_quote(wishes.name)}"
    yield "data:"
    for split, file in wishes.data.items():
        images = "" if wishes.images is None else f", images: {_quote(str(wishes.images))}"
        yield f"  {split}: {{file: {_quote(str(file))}{images}}}"
    yield "pyramid:  # largest first; the last one is what you deploy"
    for place, (name, model, held) in enumerate(candidate.levels):
        quantized = "" if held == "none" else f", quantization: {held}"
        own = f", train: {{max_steps: {max(20, steps // 3)}, learning_rate: 5e-5}}" if place == 0 else ""
        if place == 0:
            yield "  # Tuned on your labels first; train: null uses it as it comes."
        yield f"  - {{name: {name}, model: {model}{quantized}{own}}}"
    yield "distill:"
    yield "  teachers: parent  # all: every level above teaches, where they fit together"
    if candidate.choice_only:
        yield "  choice_weight: 1.0  # the tokenizers differ, so only the choice of a letter is compared"
    yield "  lambda: {schedule: linear, start: 0.3, end: 0.7}  # from your labels towards the teacher"
    yield "train:"
    yield f"  max_steps: {steps}  # {_EPOCHS} times through your records"
    yield f"  micro_batch_size: {width}  # as many as fit at once"
    yield f"  gradient_accumulation_steps: {_STEP // width}  # {_STEP} examples in a step"
    yield "  learning_rate: 1e-4"
    yield f"  warmup_steps: {max(1, steps // 20)}"
    yield "  gradient_checkpointing: true  # activations are computed again: less memory, slower"
    yield f"  checkpoint_every: {max(10, steps // 10)}"
    yield from _render_watching(wishes.data, steps)


def _quote(text: str) -> str:
    """A string of YAML, which does not read two escapes as the one character that JSON means by them."""
    return json.dumps(text, ensure_ascii=False)


def _render_watching(data: Mapping[str, Path], steps: int) -> Iterator[str]:
    if "dev" in data:
        yield f"  evaluate_every: {max(10, steps // 8)}"
        yield "  early_stopping: 3  # evaluations without a better one"
    else:
        yield "  # evaluate_every and early_stopping need data.dev: records that are not learned from"
