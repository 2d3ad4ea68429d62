"""The recipe of `hkd augment`: which records, how many variants of each, and how they are made."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hkdcli.recipe_blocks import Augment, DataSource, Fraction, PositiveInt, RecipePart


class AugmentRecipe(RecipePart):
    """A whole dataset of variants."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of every variant: the same seed gives the same bytes."""
    data: DataSource
    """The records to make variants of."""
    on_bad: Literal["error", "skip"] = "error"
    """What an unusable record does: stop, or be left out and counted."""
    max_bad: Fraction = 0.01
    """Largest share of unusable records that `on_bad: skip` accepts."""
    strict: bool = False
    """Refuse records whose correct_answer and correct_choice disagree; otherwise they are warned of."""
    copies: PositiveInt = 1
    """Variants of each record, beside the record as it is."""
    balance: bool = False
    """Give the rarer classes more of the variants, so that the classes come out even."""
    augment: Augment = Field(default_factory=Augment)
    """How variants are made."""
