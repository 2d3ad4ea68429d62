"""A lesson planned without memory, then taken for real: memory, seconds, tokens and operations of a step."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from device_figures import Peak, give_back, measure_peak, ran_out, read_allocated, take_seconds
from flops import compute_share, count_flops
from gpu_cases import BuiltLesson, Lesson, Shapes, build_lesson
from torch import Tensor

from hkdcli.data.batches import Batch
from hkdcli.distill.order import Draw
from hkdcli.distill.sources import BatchSource
from hkdcli.distill.stepper import Stepper
from hkdcli.models.answers import AnswerModel
from hkdcli.planning.lesson import HollowSource, TrainingMemory, list_all, rehearse_training

_WARM_UP = 2
_PARTS = ("weights", "gradients", "optimizer", "activations", "peak")


def plan_lesson(lesson: Lesson, shapes: Shapes, widths: Sequence[int]) -> dict[int, TrainingMemory]:
    """What the plan says of a lesson, by examples at once."""
    built = build_lesson(lesson, shapes, max(widths), None)
    source, planned = HollowSource(built.source, 1), {}
    for width in widths:
        source.size = width
        planned[width] = rehearse_training(
            built.student,
            built.teachers,
            built.objective,
            source,
            built.choose_settings(width),
            bf16=shapes.machine.bf16,
        )
    AcceleratorState._reset_state(reset_partial_state=True)  # it would keep the precision of the rehearsal
    return planned


class TimedSource:
    """A source that knows how long reading took, and what came from numpy.

    Args:
        source: of the batches.
    """

    def __init__(self, source: BatchSource) -> None:
        self.source, self.size = source, source.size
        self.seconds, self.float_bytes = 0.0, 0

    def list_ids(self, draws: Sequence[Draw]) -> list[str]:
        """The ids of the examples drawn."""
        return self.source.list_ids(draws)

    def load(self, draws: Sequence[Draw]) -> Batch:
        """The examples drawn; `float_bytes` are those of the last ones."""
        started = time.perf_counter()
        batch = self.source.load(draws)
        self.seconds += time.perf_counter() - started
        floats = [v for v in batch.model_inputs.values() if isinstance(v, Tensor) and v.is_floating_point()]
        self.float_bytes = sum(value.nbytes for value in floats)
        return batch


class LessonBench:
    """The models of a lesson on their device, measured with one number of examples at once after another.

    Args:
        lesson: who learns from whom.
        shapes: where the models come from.
        records: how many there are to learn from.
        device: where it runs.
    """

    def __init__(self, lesson: Lesson, shapes: Shapes, records: int, device: torch.device) -> None:
        self.device, self.bf16 = device, shapes.machine.bf16
        self.built: BuiltLesson = build_lesson(lesson, shapes, records, device)
        give_back(device)
        everything = list_all([self.built.student], self.built.teachers)
        self.weights = read_allocated(device) or sum(tensor.nbytes for tensor in everything)

    def measure(self, width: int, steps: int, peak_tflops: float | None) -> dict[str, Any]:
        """Take steps and measure them.

        Args:
            width: examples at once, and in a step.
            steps: how many are timed.
            peak_tflops: of the card; None: it is not known.

        Returns:
            The figures. `MemoryError` where the micro-batch had to shrink, `MachineLimitError` where that did
            not help, `ValueError` where a loss is not finite.
        """
        source = TimedSource(self.built.source)
        stepper = self._build_stepper(source, width)
        gradients = _note_gradients(stepper)
        take = _Taker(stepper, width)
        for _ in range(_WARM_UP):
            take()
        moments = sum(t.nbytes for t in _list_moments(stepper) if t.device.type == self.device.type)
        peak = measure_peak(self.device, self.weights + moments, take)
        if self.device.type == "cpu":
            peak = Peak(peak.allocated + source.float_bytes, None)
        return {
            "measured": _split(peak, self.weights, sum(gradients.values()), moments),
            **self._time(take, source, steps, peak_tflops),
        }

    def _time(
        self, take: _Taker, source: TimedSource, steps: int, peak_tflops: float | None
    ) -> dict[str, Any]:
        source.seconds = 0.0
        seconds = [take_seconds(self.device, take) for _ in range(steps)]
        reading, middle = source.seconds / steps, statistics.median(seconds)
        tokens, flops = take.tokens * (2 if self.built.taught else 1), _try_to_count(take)
        return {
            "seconds_per_step": middle,
            "spread": [min(seconds), max(seconds)],
            "reading_seconds_per_step": reading,
            "tokens_per_step": tokens,
            "tokens_per_second": tokens / middle,
            "flops_per_step": flops,
            "share_of_peak": compute_share(flops, middle, peak_tflops),
        }

    def clean_up(self) -> None:
        """Let go of what a measurement left: gradients, and pieces in the allocator."""
        for parameter in self.built.student.parameters():
            parameter.grad = None
        give_back(self.device)

    def _build_stepper(self, source: TimedSource, width: int) -> Stepper:
        accelerator = Accelerator(
            cpu=self.device.type == "cpu", mixed_precision="bf16" if self.bf16 else "no"
        )
        built = self.built
        settings = built.choose_settings(width)
        student = AnswerModel(built.student.model)  # another each time: it is wrapped for its precision
        return Stepper(student, built.teachers, built.objective, source, settings, accelerator)


class _Taker:
    """Takes one step after the other."""

    def __init__(self, stepper: Stepper, width: int) -> None:
        self.stepper, self.width, self.step, self.tokens = stepper, width, 0, 0

    def __call__(self) -> None:
        outcome = self.stepper.take_step(self.step)
        if self.stepper.width < self.width:
            raise MemoryError(f"{self.width} examples at once had to become {self.stepper.width}")
        if not outcome.finite:
            raise ValueError(f"step {self.step + 1}: its loss or gradient is not finite")
        self.step, self.tokens = self.step + 1, outcome.tokens


def measure_widths(
    bench: Callable[[], LessonBench],
    planned: Mapping[int, TrainingMemory],
    fits: Callable[[TrainingMemory], bool],
    steps: int,
    peak_tflops: float | None,
) -> list[dict[str, Any]]:
    """Measure every number of examples at once that fits by the plan.

    Args:
        bench: puts the models on the device; called where anything fits.
        planned: the plan, by examples at once.
        fits: whether there is room for it.
        steps: how many are timed.
        peak_tflops: of the card, if it is known.

    Returns:
        A report for each, with its `outcome`: measured, does not fit, out of memory.
    """
    reports: list[dict[str, Any]] = []
    built: LessonBench | None = None
    for width, memory in planned.items():
        report: dict[str, Any] = {"examples_at_once": width, "planned": _describe_plan(memory)}
        try:
            if fits(memory):
                built = built or bench()
                report |= built.measure(width, steps, peak_tflops)
            outcome = "measured" if fits(memory) else "does not fit"
        except Exception as error:
            if not ran_out(error):
                raise
            outcome = "out of memory"
        if outcome == "measured":
            report["ratios"] = {name: report["planned"][name] / report["measured"][name] for name in _PARTS}
        reports.append(report | {"outcome": outcome})
        print(f"  {width} at once, {memory.peak / 2**30:.1f} GiB planned: {outcome}", file=sys.stderr)
        if built is not None:
            built.clean_up()
    return reports


def _try_to_count(take: Callable[[], None]) -> int | None:
    """Operations of a step; None where torch's counter cannot do with a kernel of the device."""
    try:
        return count_flops(take)
    except (RuntimeError, TypeError, AssertionError) as error:
        print(f"operations are not counted: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def _describe_plan(memory: TrainingMemory) -> dict[str, int]:
    parts = asdict(memory)
    return {
        "weights": parts.pop("teachers") + parts.pop("student") + parts.pop("trained"),
        **parts,
    }


def _split(peak: Peak, weights: int, gradients: int, optimizer: int) -> dict[str, int | None]:
    known = {"weights": weights, "gradients": gradients, "optimizer": optimizer}
    activations = peak.allocated - sum(known.values())
    return {**known, "activations": activations, "peak": peak.allocated, "reserved": peak.reserved}


def _note_gradients(stepper: Stepper) -> dict[int, int]:
    """Bytes of every gradient that was made, filled as steps are taken."""
    made: dict[int, int] = {}
    for parameter in stepper.parameters:
        parameter.register_post_accumulate_grad_hook(
            lambda parameter: made.update({id(parameter): parameter.grad.nbytes})
        )
    return made


def _list_moments(stepper: Stepper) -> list[Tensor]:
    states = stepper.optimizer.optimizer.state.values()
    return [value for state in states for value in state.values() if isinstance(value, Tensor)]
