"""Scores of a results document, each with what it is to be read beside: interval, controls, direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hkdcli.reporting.words import METRICS, SILENT_COUNTS, Better

CARDS = ("micro_f1", "exact_match", "hallucinated_f1", "ece")
_MARKS = ("constant_micro_f1",)
"""Figures that are no score of their own but a mark beside one."""


_NOT_ASKED: Mapping[str, Any] = {"metrics": {}, "gain": {}, "gain_intervals": {}}


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap interval."""

    low: float
    high: float
    half_width: float


@dataclass(frozen=True, slots=True)
class Score:
    """A metric and its surroundings; None is what is undefined or was not asked for.

    Attributes:
        name: as in the results.
        better: "higher", "lower", or "" where that is unknown.
        value: the metric.
        interval: of the value.
        constant: what the best constant answer reaches.
        blind: what the blind control reaches.
        gain: of the value over the blind control; scores that are not made of counts have none.
        gain_interval: of the gain, over paired resamples.
    """

    name: str
    better: Better
    value: float | None
    interval: Interval | None = None
    constant: float | None = None
    blind: float | None = None
    gain: float | None = None
    gain_interval: Interval | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """A count of the results.

    Attributes:
        name: as in the results.
        value: the count.
        parts: what it is made of, by name.
        is_silent: whether it counts records that are scored as the empty set.
    """

    name: str
    value: int
    parts: tuple[tuple[str, int], ...]
    is_silent: bool

    @property
    def is_record(self) -> bool:
        """Whether it counts scored records, or those of them that are wrong without an answer."""
        return self.is_silent or self.name == "records"


def parse_interval(value: Mapping[str, float] | None) -> Interval | None:
    """An interval of the results; None for null."""
    return None if value is None else Interval(value["low"], value["high"], value["half_width"])


def list_scores(block: Mapping[str, Any], blind: Mapping[str, Any] | None) -> list[Score]:
    """Every metric of a block of the results, known ones first and in their order.

    Args:
        block: the results, or those of one task.
        blind: the same part of the blind control; None where it was not asked for.

    Returns:
        One score per metric, undefined ones included.
    """
    metrics = block["metrics"]
    names = [name for name in METRICS if name in metrics]
    names += [name for name in metrics if name not in METRICS and name not in _MARKS]
    return [_build_score(name, block, blind or _NOT_ASKED) for name in names]


def _build_score(name: str, block: Mapping[str, Any], blind: Mapping[str, Any]) -> Score:
    return Score(
        name=name,
        better=METRICS[name][1] if name in METRICS else "",
        value=block["metrics"][name],
        interval=parse_interval(block["intervals"].get(name)),
        constant=block["metrics"].get("constant_micro_f1") if name == "micro_f1" else None,
        blind=blind["metrics"].get(name),
        gain=blind["gain"].get(name),
        gain_interval=parse_interval(blind["gain_intervals"].get(name)),
    )


def find_blind(results: Mapping[str, Any], task: str | None = None) -> Mapping[str, Any] | None:
    """The blind control of all records, or of one task; None where it was not asked for."""
    blind: Mapping[str, Any] | None = results["blind"]
    return blind if blind is None or task is None else blind["tasks"].get(task)


def list_counts(counts: Mapping[str, int]) -> list[Count]:
    """Counts in the order of the results; a dotted one is a part of the one before its dot."""
    return [
        Count(
            name,
            value,
            tuple((key.partition(".")[2], n) for key, n in counts.items() if key.startswith(f"{name}.")),
            name in SILENT_COUNTS,
        )
        for name, value in counts.items()
        if "." not in name
    ]
