"""The pretrained pyramid that benchmarks/real/assemble.py makes, through hkd's own loader and scorer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_data import find_coco_bench, find_models, needs_coco_bench, needs_models

from hkdcli.data.datasets import load_dataset
from hkdcli.inference.scored import ScoredRecord
from hkdcli.inference.scoring import Scorer
from hkdcli.inference.shift import shifted_presentations
from hkdcli.models.families import get_language_model
from hkdcli.models.loading import LoadedModel, load_model
from hkdcli.models.quantization import list_quantized

pytestmark = [needs_coco_bench, needs_models, pytest.mark.slow]
LAYERS = {"large": 30, "medium": 12, "small": 6}


def score(loaded: LoadedModel, *, reuse_prefix: bool = True) -> list[ScoredRecord]:
    """Score the first record of each task, in every order of its choices."""
    sets = [load_dataset(find_coco_bench() / task) for task in ("task1.json", "task2.json")]
    examples = [dataset.examples[0] for dataset in sets]
    images = [dataset.images.load(dataset.examples[0].image) for dataset in sets]
    shown = [shifted_presentations(example, None) for example in examples]
    return Scorer(loaded, reuse_prefix=reuse_prefix).score(examples, images, shown)


@pytest.mark.parametrize("level", LAYERS)
def test_a_level_loads_and_reuses_its_prefix(level: str) -> None:
    loaded = load_model(find_models() / level)
    assert len(get_language_model(loaded.model)[1].layers) == LAYERS[level]
    for shared, whole in zip(score(loaded), score(loaded, reuse_prefix=False), strict=True):
        np.testing.assert_allclose(shared.log_probs, whole.log_probs, atol=1e-3)


def test_the_largest_is_quantized() -> None:
    loaded = load_model(find_models() / "large", quantization="nf4")
    assert len(list_quantized(loaded.model)) == 7 * LAYERS["large"]
    assert all(np.isfinite(record.log_probs).all() for record in score(loaded))


def test_the_levels_share_their_processor() -> None:
    def read(level: str) -> list[bytes]:
        folder: Path = find_models() / level
        names = ("tokenizer.json", "processor_config.json", "chat_template.jinja")
        return [(folder / name).read_bytes() for name in names]

    assert read("large") == read("medium") == read("small")
