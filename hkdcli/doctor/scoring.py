"""Whether a shared prefix gives the numbers of whole passes here, on the bundled tiny model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hkdcli.data.datasets import Dataset
from hkdcli.doctor.examination import Finding
from hkdcli.inference.scored import ScoredRecord
from hkdcli.inference.scoring import Scorer
from hkdcli.inference.shift import shifted_presentations
from hkdcli.models.loading import LoadedModel, load_model
from hkdcli.scenes.source import load_scenes

TOLERANCE = 5e-4  # of a log-probability, in float32
RECORDS = 4


def check_scoring(device: torch.device) -> Finding:
    """Score drawn records in all orders, with the prefix computed once and with whole passes.

    Args:
        device: Where; in float32.

    Returns:
        The largest difference of a log-probability, as a failure where it is more than is tolerated.
    """
    loaded, data = load_model("scenes:small", device=device), load_scenes("test", size=RECORDS)
    shared, whole = (score(loaded, data, reuse_prefix=reuse, shifted=True) for reuse in (True, False))
    off = max(
        float(np.abs(one.log_probs - other.log_probs).max()) for one, other in zip(shared, whole, strict=True)
    )
    found = (
        f"{device.type}: log-probabilities off by {off:.1e} (at most {TOLERANCE:g}) where prefixes are shared"
    )
    if off <= TOLERANCE:  # NaN is not
        return Finding(found)
    return Finding(found, "failed", "Predictions here would be wrong. Reinstall torch and transformers.")


def score(
    loaded: LoadedModel, data: Dataset, *, reuse_prefix: bool = True, shifted: bool = False
) -> Sequence[ScoredRecord]:
    """Score all records of a small dataset at once.

    Args:
        loaded: The model.
        data: The records.
        reuse_prefix: As of `Scorer`.
        shifted: In every cyclic order of the choices; else in their own order.

    Returns:
        One for each record.
    """
    shown = [shifted_presentations(example, None if shifted else 1) for example in data.examples]
    images = [data.images.load(example.image) for example in data.examples]
    return Scorer(loaded, reuse_prefix=reuse_prefix).score(data.examples, images, shown)
