"""The document that `hkd compare` writes: its types, and what every figure in it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from hkdcli.evaluation.results import BootstrapUsed, IntervalOf, describe_fields
from hkdcli.evaluation.score_types import Share

SCHEMA_VERSION: Literal["1.0"] = "1.0"

Change = Literal["fixed", "broken", "other"]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Difference(_Block):
    """One score of two systems on the same records."""

    a: Share
    b: Share
    difference: float | None = Field(ge=-1, le=1, description="b - a")
    interval: IntervalOf | None = Field(
        description="expanded percentile interval of the difference, both resampled on the same images; "
        "null where all resamples agree, or fewer than half of them define both scores: then p_value and "
        "smallest_detectable are null as well"
    )
    p_value: float | None = Field(
        ge=0,
        le=1,
        description="two-sided, of no difference: twice the smaller share of resampled differences on either "
        "side of zero, those at zero on both and the file itself included, among the resamples that define "
        "both scores: 2 (1 + tail) / (1 + resamples), so never below 2 / (1 + resamples)",
    )
    smallest_detectable: float | None = Field(
        ge=0,
        description="the true difference that a comparison of this size finds at p < 0.05 in 80 % of the "
        "cases: 2.80 standard deviations of the resampled differences; null where they do not vary",
    )

    @property
    def loss(self) -> float:
        """By how much b is below a; 0 where nothing says so."""
        return max(0.0, -(self.difference or 0.0))


class McNemar(_Block):
    """Exact match of the same records by two systems, those apart where one of them is right."""

    only_a: int = Field(description="records that a alone has right")
    only_b: int = Field(description="records that b alone has right")
    p_value: float = Field(
        ge=0,
        le=1,
        description="two-sided exact test over images: if neither system were better, each image's only_b - "
        "only_a would have either sign by chance; p is the share of all choices of signs whose sum is as far "
        "from 0. With one record an image this is McNemar's exact test",
    )


class Flips(_Block):
    """How many records of a part changed."""

    records: int
    fixed: int = Field(description="a wrong, b right")
    broken: int = Field(description="a right, b wrong")
    other: int = Field(description="both wrong, but not the same answer")


class ChangedRecord(_Block):
    """A record that the two systems do not answer alike."""

    id: str
    task: str
    image: str
    change: Change
    gold: list[str]
    a: list[str] | None = Field(description="the answer; null where there is none that is legal")
    b: list[str] | None


class ComparedPart(_Block):
    """What is said of all records, and of those of each task."""

    scores: dict[str, Difference]
    mcnemar: McNemar
    flips: Flips


class TaskComparison(ComparedPart):
    """One task."""

    slices: dict[str, dict[str, Flips]] = Field(description="flips among the records with this meta value")


class Comparison(ComparedPart):
    """Two systems on the same records; b is compared with a."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    hkd_version: str
    tasks: dict[str, TaskComparison]
    changed: list[ChangedRecord] = Field(description="every record that is not answered alike, in data order")
    counts: dict[Literal["a", "b"], dict[str, int]]
    bootstrap: BootstrapUsed
    definitions: dict[str, str]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and finite numbers, ready for `json.dumps(..., allow_nan=False)`."""
        return self.model_dump(mode="json")


def _build_definitions() -> dict[str, str]:
    """The words of each block as the schema has them."""
    schema = Comparison.model_json_schema()
    blocks = {**schema["$defs"], "Comparison": schema}
    return {
        f"{block}.{name}": text
        for block, found in blocks.items()
        for name, text in describe_fields(found.get("properties", {}))
    }


DEFINITIONS: Mapping[str, str] = _build_definitions()
