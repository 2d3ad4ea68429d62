"""What calibration has fitted for one task, as inference and calibration.json hold it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hkdcli.inference.decode import Decoding

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0

Share = Annotated[float, Field(ge=0, le=1)]


class CalibrationPart(BaseModel):
    """What every part of a calibration has in common: frozen, strict, no unknown keys, finite numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Half(CalibrationPart):
    """One half of the labelled records, most confident first.

    `confidence` is the tempered posterior probability of the decoded set, to nine significant digits (see
    `round_confidence`); `correct` says whether that set is the gold one.
    """

    confidence: tuple[Share, ...] = Field(min_length=1)
    correct: tuple[bool, ...]

    @model_validator(mode="after")
    def _check_lengths(self) -> Half:
        if len(self.confidence) != len(self.correct):
            raise ValueError("confidence and correct have different lengths")
        return self


class TaskFit(CalibrationPart):
    """What was fitted for one task, and how it does.

    `threshold` belongs to the decoding "threshold" alone. The figures are of the test half: nll is the mean
    negative log-likelihood of the gold set in nats, ece the expected calibration error of the confidence;
    "before" is without calibration (temperature 1, and map in place of a fitted threshold).
    """

    temperature: float = Field(ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)
    decoding: Decoding
    threshold: Share | None
    nll_before: float = Field(ge=0)
    nll_after: float = Field(ge=0)
    ece_before: Share
    ece_after: Share
    fit_half: Half
    test_half: Half

    @model_validator(mode="after")
    def _check_threshold(self) -> TaskFit:
        if (self.threshold is not None) != (self.decoding == "threshold"):
            raise ValueError("threshold and decoding do not go together")
        return self


def round_confidence(confidence: float) -> float:
    """A probability to nine significant digits, as files hold it: what is compared must be rounded alike."""
    return float(f"{confidence:.9g}")
