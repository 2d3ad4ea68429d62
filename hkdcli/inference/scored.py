"""What every engine says about a record, and what an engine has to be for a judge to ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from hkdcli.data.collate import Collator
from hkdcli.data.examples import Example
from hkdcli.data.images import LoadedImage
from hkdcli.data.prompts import Presentation

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[np.float64]
Answers = tuple[frozenset[str], ...]


@dataclass(frozen=True, slots=True)
class ScoredRecord:
    """`log_probs` [presentations, N] of `answers`, sets of choice ids; `truncated`: the context was cut.

    `approximate`: a beam chose the answers, so that others, less likely, are left out.
    """

    log_probs: Array
    truncated: bool
    answers: Answers
    approximate: bool = False


class AnyScorer(Protocol):
    """What a judge asks: `Scorer`, or another engine in its place; see there."""

    collator: Collator
    prompt_hash: str
    fell_back: bool

    @property
    def device(self) -> torch.device:
        """Where the work of this process is done."""

    @property
    def weights_hash(self) -> str:
        """Tells models and engines apart whose numbers may differ."""

    def prepare(
        self,
        examples: Sequence[Example],
        images: Sequence[LoadedImage],
        presentations: Sequence[Sequence[Presentation]],
    ) -> Any:
        """What needs no model."""

    def score_prepared(self, prepared: Any) -> list[ScoredRecord]:
        """One result per record."""
