"""Plans of models with few layers: the same words on the screen in a tenth of the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from hkdcli.planning import fitting, known_models, staging, starting
from hkdcli.planning.records import make_up_records


@contextmanager
def of_few_layers() -> Iterator[pytest.MonkeyPatch]:
    """Known models with two layers of the language model and the first of the vision tower."""
    known = known_models.list_known_models()
    cut = {name: replace(model, shape=cut_shape(model.shape)) for name, model in known.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "list_known_models", lambda: cut)
        yield patch


def of_few_records(patch: pytest.MonkeyPatch) -> None:
    """One record is made up where there are none, and few batch sizes are tried."""
    patch.setattr(fitting, "_PROBE", 2)
    patch.setattr(staging, "make_up_records", lambda: make_up_records(1))


def with_one_candidate(patch: pytest.MonkeyPatch) -> None:
    """`hkd init` has one small pyramid of two levels to choose from."""
    patch.setattr(
        starting, "CANDIDATES", [each for each in starting.CANDIDATES if str(each).startswith("4b")]
    )


def cut_shape(shape: dict[str, Any]) -> dict[str, Any]:
    vision = dict(shape["vision_config"])
    for name in ("depth", "num_hidden_layers"):
        if name in vision and "deepstack_visual_indexes" not in vision:
            vision[name] = 2
    return {**shape, "text_config": {**shape["text_config"], "num_hidden_layers": 2}, "vision_config": vision}
