"""What all orders of the choices cost against one: records per second and memory of a scorer."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from device_figures import give_back, measure_peak, read_allocated, take_seconds
from gpu_cases import Asking, Shapes

from hkdcli.inference.scoring import Scorer
from hkdcli.inference.shift import shifted_presentations
from hkdcli.planning.hollow import count_bytes

_RECORDS, _TINY_RECORDS = 8, 2  # at once


def measure_asking(asking: Asking, shapes: Shapes, rounds: int, device: torch.device) -> dict[str, Any]:
    """Ask records in one order and in all, in turn.

    Args:
        asking: the model.
        shapes: where it comes from.
        rounds: how often each is timed, after a first time.
        device: where it runs.

    Returns:
        Seconds and records per second of both, and how many times as long all orders take.
    """
    scorer = Scorer(shapes.build(asking.model, asking.quantization, device))
    data = shapes.open_records(_TINY_RECORDS if shapes.tiny else _RECORDS)
    pictures = [data.images.load(example.image) for example in data.examples]
    weights = read_allocated(device) or count_bytes(scorer.model)
    orders = {
        "one": [shifted_presentations(example, 1) for example in data.examples],
        "all": [shifted_presentations(example) for example in data.examples],
    }
    report: dict[str, Any] = {"records_at_once": len(pictures), "weights": weights}
    for name, shown in orders.items():
        ask = partial(scorer.score, data.examples, pictures, shown)
        report[name] = {"orders": len(shown[0]), **_measure(ask, len(pictures), weights, rounds, device)}
    ratio = report["all"]["seconds_per_record"] / report["one"]["seconds_per_record"]
    return {**report, "all_over_one": ratio, "outcome": "measured"}


def _measure(
    ask: Callable[[], Any], records: int, weights: int, rounds: int, device: torch.device
) -> dict[str, Any]:
    ask()
    peak = measure_peak(device, weights, ask)
    seconds = statistics.median(take_seconds(device, ask) for _ in range(rounds)) / records
    give_back(device)
    return {
        "seconds_per_record": seconds,
        "records_per_second": 1 / seconds,
        "peak": peak.allocated,
        "reserved": peak.reserved,
    }
