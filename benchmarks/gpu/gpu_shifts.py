"""What all orders of the choices cost against one: records per second and memory of a scorer."""

from __future__ import annotations

import statistics
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
    loaded = shapes.build(asking.model, asking.quantization, device)
    data = shapes.open_records(_TINY_RECORDS if shapes.tiny else _RECORDS)
    pictures = [data.images.load(example.image) for example in data.examples]
    scorer = Scorer(loaded)
    weights = read_allocated(device) or count_bytes(loaded.model)
    orders = {
        "one": [shifted_presentations(example, 1) for example in data.examples],
        "all": [shifted_presentations(example) for example in data.examples],
    }
    report: dict[str, Any] = {"records_at_once": len(pictures), "weights": weights}
    spent: dict[str, list[float]] = {}
    for name, shown in orders.items():

        def ask(shown: Any = shown) -> None:
            scorer.score(data.examples, pictures, shown)

        ask()
        peak = measure_peak(device, weights, ask)
        spent[name] = [take_seconds(device, ask) for _ in range(rounds)]
        seconds = statistics.median(spent[name]) / len(pictures)
        report[name] = {
            "orders": len(shown[0]),
            "seconds_per_record": seconds,
            "records_per_second": 1 / seconds,
            "peak": peak.allocated,
            "reserved": peak.reserved,
        }
        give_back(device)
    ratio = report["all"]["seconds_per_record"] / report["one"]["seconds_per_record"]
    return {**report, "all_over_one": ratio, "outcome": "measured"}
