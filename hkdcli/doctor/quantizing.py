"""What quantization would hold in fewer bits, and how far a model's answers move when it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hkdcli.doctor.examination import Finding
from hkdcli.doctor.scoring import score
from hkdcli.inference.scored import ScoredRecord
from hkdcli.models.families import get_language_model, get_vision_parts
from hkdcli.models.loading import LoadedModel
from hkdcli.models.quantization import (
    Quantization,
    QuantizedParts,
    check_quantizable,
    describe_quantization,
    list_quantizable,
)
from hkdcli.scenes.source import load_scenes

RECORDS = 8
LEAST_AGREEMENT = 0.9

Load = Callable[[Quantization], LoadedModel]


def check_device(quantization: Quantization, device: torch.device) -> Finding:
    """Whether weights can be held this way on a device; before anything of the model is needed."""
    check_quantizable(quantization, device)
    return Finding(f"{quantization} works on {device.type}")


def describe_plan(model: Any, parts: QuantizedParts) -> Finding:
    """Say which layers quantization would take.

    Args:
        model: On the meta device.
        parts: What is to be quantized.

    Returns:
        How many linear layers of which part, and what is kept.
    """
    names = list_quantizable(model, parts)
    own = [get_language_model(model)[0], *get_vision_parts(model), "lm_head"]
    counts = {part: sum(name == part or name.startswith(f"{part}.") for name in names) for part in own}
    taken = ", ".join(f"{count} linear layers of {part}" for part, count in counts.items() if count)
    kept = ", ".join(part for part, count in counts.items() if not count)
    return Finding(f"nf4 or int8 would take {taken}; kept: {kept}")


def compare_answers(load: Load, quantization: Quantization) -> Finding:
    """Load a model both ways and compare what it says of a few drawn records.

    Args:
        load: Gives the model, held as it is told.
        quantization: How else it is held.

    Returns:
        How it is held, and how far its answers move.
    """
    data = load_scenes("test", size=RECORDS)
    plain = score(load("none"), data)
    loaded = load(quantization)
    rough = score(loaded, data)
    alike = sum(_best(one) == _best(other) for one, other in zip(plain, rough, strict=True)) / RECORDS
    moved = max(_move(one, other) for one, other in zip(plain, rough, strict=True))
    found = (
        f"{describe_quantization(loaded.model)}; answers {alike:.0%} of {RECORDS} drawn records as it does "
        f"unquantized, log-probabilities move by at most {moved:.2f}"
    )
    if not np.isfinite(moved):
        return Finding(found, "failed", "Use quantization: none, or the other one.")
    if alike < LEAST_AGREEMENT:
        return Finding(found, "warning", "Measure it on your records: hkd infer both ways, then hkd compare.")
    return Finding(found)


def _best(record: ScoredRecord) -> frozenset[str]:
    return record.answers[int(np.argmax(record.log_probs[0]))]


def _move(one: ScoredRecord, other: ScoredRecord) -> float:
    """Of answers that both have: a beam may find others."""
    places = {answer: place for place, answer in enumerate(other.answers)}
    return max(
        abs(float(one.log_probs[0, i] - other.log_probs[0, places[answer]]))
        for i, answer in enumerate(one.answers)
        if answer in places
    )
