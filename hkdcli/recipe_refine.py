"""The recipe of stage two: the same data, pyramid and training loop, and what is refined.

The levels above the last come ready and teach together; the last is the student, normally that of stage one.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from hkdcli.recipe import Divergence, Level, RunRecipe, TeacherCheck
from hkdcli.recipe_blocks import (
    Fraction,
    LoraTuning,
    PositiveFloat,
    PositiveInt,
    RecipePart,
    build_problem,
)

SNAPSHOT = "snapshot"  # the upper model that is the student as it was


PartWeight = Annotated[float, Field(ge=1e-6, le=1e6)]


class Response(Divergence):
    """The response part: the student's answer against what the upper models say together."""

    weight: PartWeight | None = None
    """Fixed weight of the part; null learns it, as exp(-s) with s from 0."""
    top_k: PositiveInt | None = 64
    """Keep each upper model's k likeliest tokens and the mass of all others; null keeps every token."""
    choice_weight: Fraction = 0.0
    """alpha: 0 compares answer tokens, 1 the choice of the first letter, all that other tokenizers share."""

    @field_validator("choice_weight")
    @classmethod
    def _check_top_k(cls, choice_weight: float, info: ValidationInfo) -> float:
        if choice_weight == 1.0 and info.data.get("top_k") is not None:
            raise build_problem("1 compares no tokens, so top_k does nothing; set it to null")
        return choice_weight


class Feature(RecipePart):
    """The feature part: directions of hidden states, student against the first level."""

    weight: PartWeight | None = None
    """Fixed weight of the part; null learns it, as exp(-s) with s from 0."""


class Relation(RecipePart):
    """The relation part: how alike the states of a record's tokens are, student against the first level."""

    weight: PartWeight | None = None
    """Fixed weight of the part; null learns it, as exp(-s) with s from 0."""


class MatchedStates(RecipePart):
    """Which hidden states feature and relation compare."""

    layer_map: Literal["relative", "last"] = "relative"
    """`relative`: layers at equal fractions of both depths; `last`: the last layer of each."""
    layers: Annotated[int, Field(ge=1, le=256)] = 4
    """How many layers `relative` matches; no more than the shallower model has."""
    grid: Annotated[int, Field(ge=1, le=64)] = 4
    """Cells to a side that the tokens of the picture are pooled to, in both models."""


class Refine(RecipePart):
    """What the student refines, and with whom."""

    signals: Literal["stored", "live"] = "stored"
    """`stored`: the upper models speak once, before training, and leave the device; `live`: at every step."""
    store: str | None = Field(default=None, min_length=1)
    """Folder of stored signals, which several runs may share; null is `signals` in the run folder."""
    snapshot: bool = False
    """Let the student's own snapshot, as it is when stage two begins, be one of the upper models."""
    kappa: Annotated[float, Field(ge=1e-3, le=1e6)] = 1.0
    """How softly the truth couples the upper models: small lets the one that is nearest to it speak alone."""
    min_truth: Fraction = 0.1
    """An example to whose truth no upper model gives this probability is learned from labels alone."""
    teacher_check: TeacherCheck | None = Field(default_factory=TeacherCheck)
    """Check of every upper model before it speaks; null checks nothing."""
    response: Response | None = Field(default_factory=Response)
    """The student's answer against the coupled answer; null leaves the part out."""
    feature: Feature | None = Field(default_factory=Feature)
    """Hidden states through a learned projection; null leaves the part out."""
    relation: Relation | None = Field(default_factory=Relation)
    """How alike the states of a record's tokens are; null leaves the part out."""
    states: MatchedStates = Field(default_factory=MatchedStates)
    """Which hidden states feature and relation compare."""
    projection_learning_rate: PositiveFloat = 1e-3
    """Peak learning rate of the projections, on the schedule of `train`."""
    weight_learning_rate: PositiveFloat = 1e-2
    """Peak learning rate of the learned weights of the parts, on the schedule of `train`."""


class RefineRecipe(RunRecipe):
    """A whole run of `hkd distill-refine`."""

    refine: Refine = Field(default_factory=Refine)
    """What the student refines, and with whom."""

    @field_validator("refine")
    @classmethod
    def _check_parts(cls, refine: Refine, info: ValidationInfo) -> Refine:
        if (refine.response, refine.feature, refine.relation) == (None, None, None):
            raise build_problem("response, feature and relation are all null: nothing would be refined")
        if refine.signals == "stored" and info.data.get("augment") is not None:
            raise build_problem(
                "signals are stored of records as they are, not of new variants (augment); use live, "
                "or make a dataset of variants first with hkd augment"
            )
        if len(info.data.get("pyramid", "??")) == 1 and not refine.snapshot:
            raise build_problem("there is no level above the student; name one, or give snapshot: true")
        return refine

    @property
    def teacher_check(self) -> TeacherCheck | None:
        """Check of every upper model; None: none."""
        return self.refine.teacher_check

    @field_validator("pyramid")
    @classmethod
    def _fill_in_train(cls, levels: tuple[Level, ...], info: ValidationInfo) -> tuple[Level, ...]:
        """The student is filled in as in stage one; the levels above it come ready."""
        *upper, student = levels
        if any(level.name == SNAPSHOT for level in levels):
            raise build_problem(f"no level can be called {SNAPSHOT}: that is the student as it was")
        for level in upper:
            if level.train is not None and "train" in level.model_fields_set:
                raise build_problem(
                    f"{level.name}: only the last level is trained in stage two; leave train out"
                )
            if level.weight != 1.0 or level.tuning != LoraTuning():
                raise build_problem(
                    f"{level.name}: weight and tuning say nothing of a level that teaches in stage two; "
                    "leave them out (the truth decides how much each is believed)"
                )
        ready = (level.model_copy(update={"train": None}) for level in upper)
        return (*ready, *super()._fill_in_train((student,), info))
