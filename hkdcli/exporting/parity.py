"""Does the exported model answer as its source does? The same records are asked of both.

Dimensions: N legal answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import Example
from hkdcli.data.images import ImageError, LoadedImage
from hkdcli.data.prompts import build_legal_answers, identity_presentation
from hkdcli.errors import BadRow, DataError, GateError
from hkdcli.inference.decode import Answer, build_posterior, decode_map
from hkdcli.inference.scoring import Scorer
from hkdcli.reporter import Reporter

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two log-probabilities x, y of an answer may be apart: |x - y| <= absolute + relative |x|."""

    absolute: float
    relative: float = 0.0

    def __str__(self) -> str:
        return f"{self.absolute:g}" + (f" + {self.relative:g} |log p|" if self.relative else "")


# Seen on 32 records of the embedded world, as the largest |x - y| / (1 + |x|): merging in float32 2e-6;
# rounding the merged weights to float16 0.005, to bfloat16 0.02; bfloat16 throughout 0.03; an adapter on
# int8 0.04, and on nf4 0.9 (with one answer of 32 another), against the adapter merged into whole weights.
TOLERANCES = {
    "float32": Tolerance(1e-3),
    "float16": Tolerance(0.02, 0.02),
    "bfloat16": Tolerance(0.1, 0.1),
    "int8": Tolerance(0.1, 0.1),
    "nf4": Tolerance(0.5, 0.5),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A record, and what the source answers: `log_probs` [N] of `build_legal_answers`."""

    example: Example
    image: LoadedImage
    log_probs: Array


@dataclass(frozen=True, slots=True)
class Parity:
    """What a passed check has seen; `largest_difference` is of an answer's log-probability."""

    data: str
    records: int
    skipped: int
    tolerance: Tolerance
    largest_difference: float


def choose_tolerance(*held: str) -> Tolerance:
    """The tolerance of the coarsest of the number types and quantizations that are involved."""
    return max((TOLERANCES[name] for name in held), key=lambda found: found.absolute)


def ask_source(
    scorer: Scorer, dataset: Dataset, count: int, reporter: Reporter
) -> tuple[list[Asked], list[BadRow]]:
    """Ask the first records that can be asked.

    Args:
        scorer: the source.
        dataset: what to ask.
        count: how many records, at least 1.
        reporter: told of progress.

    Returns:
        Up to `count` records with the source's answers; those on the way that have no readable image or make
        no prompt.

    Raises:
        DataError: no record can be asked.
    """
    asked: list[Asked] = []
    skipped: list[BadRow] = []
    reporter.start("ask the source", min(count, len(dataset.examples)))
    try:
        for example in dataset.examples:
            if len(asked) == count:
                break
            try:
                image = dataset.images.load(example.image)
                asked.append(Asked(example, image, _score(scorer, example, image)))
            except ImageError as error:
                skipped.append(error.row)
            except DataError as error:
                skipped += error.rows or [BadRow("record.refused", example.id, dataset.name, str(error))]
            reporter.advance(len(asked))
    finally:
        reporter.finish()  # after an interrupt too: a bar leaves the terminal as it was
    if not asked:
        raise DataError(
            f"{dataset.name}: none of its {len(dataset.examples)} records can be asked, so the exported "
            "model cannot be checked",
            skipped,
            hint="Give other records with --data.",
        )
    return asked, skipped


def compare_answers(scorer: Scorer, asked: Sequence[Asked], tolerance: Tolerance, hint: str) -> float:
    """Ask the exported model the same, and compare.

    Args:
        scorer: the exported model.
        asked: what the source answered, at least one record.
        tolerance: of log-probabilities.
        hint: what to do where they differ.

    Returns:
        The largest difference of log-probabilities.

    Raises:
        GateError: a prediction differs, or a log-probability by more than the tolerance.
    """
    changed: list[str] = []
    largest, beyond = 0.0, 0
    for record in asked:
        found = _score(scorer, record.example, record.image)
        difference = np.abs(found - record.log_probs)
        largest = max(largest, float(difference.max()))
        allowed = tolerance.absolute + tolerance.relative * np.abs(record.log_probs)
        beyond += not (difference <= allowed).all()  # NaN is beyond
        if _predict(record.example, found) != _predict(record.example, record.log_probs):
            changed.append(record.example.id)
    if changed or beyond:
        named = f" ({', '.join(changed[:3])})" if changed else ""
        raise GateError(
            f"the exported model does not answer as its source: of {len(asked)} records {len(changed)} have "
            f"another prediction{named}, {beyond} a log-probability beyond the tolerance of {tolerance}; the "
            f"largest difference is {largest:.3g}. Nothing was exported",
            hint=hint,
        )
    return largest


def _score(scorer: Scorer, example: Example, image: LoadedImage) -> Array:
    """Alone, so that one that cannot be asked spoils no others; never by a beam, which may find others."""
    build_legal_answers(example)
    return scorer.score([example], [image], [[identity_presentation(example)]])[0].log_probs[0]


def _predict(example: Example, log_probs: Array) -> Answer:
    return decode_map(build_posterior(build_legal_answers(example), log_probs))
