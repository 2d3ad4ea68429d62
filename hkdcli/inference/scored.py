"""What every engine says about a record, and what an engine has to be for a judge to ask it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


class AnyScorer(ABC):
    """An engine that scores records: a model in this process (`Scorer`), or one beside it.

    Attributes:
        collator: of the model's processor.
        prompt_hash: of the form of its prompts.
        device: where the work of this process is done.
        fell_back: whether a prefix could not be reused so far, and whole passes took its place.
    """

    collator: Collator
    prompt_hash: str
    device: torch.device
    fell_back = False

    @property
    @abstractmethod
    def weights_hash(self) -> str:
        """Tells models and engines apart whose numbers may differ."""

    @abstractmethod
    def prepare(
        self,
        examples: Sequence[Example],
        images: Sequence[LoadedImage],
        presentations: Sequence[Sequence[Presentation]],
    ) -> Any:
        """The part of `score` that needs no model, so that another process can do it; it can be pickled."""

    @abstractmethod
    def score_prepared(self, prepared: Any) -> list[ScoredRecord]:
        """The rest of `score`."""

    def score(
        self,
        examples: Sequence[Example],
        images: Sequence[LoadedImage],
        presentations: Sequence[Sequence[Presentation]],
    ) -> list[ScoredRecord]:
        """Score the legal answers of each record under each of its presentations.

        Args:
            examples: R records, at least one.
            images: one per record; records of one image may share the work on it.
            presentations: for each record the orders in which to show its choices, at least one.

        Returns:
            One result per record. `DataError` where one cannot be asked or scored, with a row that says why;
            `ModelError` where the model gives NaN; `MachineLimitError` where memory runs out, or an engine
            beside this process is lost for good.
        """
        return self.score_prepared(self.prepare(examples, images, presentations))
