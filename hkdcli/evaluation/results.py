"""The document that `hkd evaluate` writes: its types, and what every figure in it means.

`hkd schema results` prints these types as a JSON Schema, and each document carries the same texts as its
`definitions`. A change that a reader of older documents could trip over raises the first part of
`SCHEMA_VERSION`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

from hkdcli.evaluation.score_types import ANSWERED, Scores, Share
from hkdcli.evaluation.tally import MAX_CLASSES

MIN_IMAGES = 5  # of fewer nothing can be said by resampling them

SCHEMA_VERSION: Literal["1.0"] = "1.0"

_FORBID = ConfigDict(extra="forbid")


@with_config(_FORBID)
class IntervalOf(TypedDict):
    """Where the middle of the resamples lies."""

    low: float
    high: float
    half_width: Annotated[float, Field(ge=0, description="(high - low) / 2: what stands behind the ±")]


Intervals = dict[str, IntervalOf | None]
Figures = dict[str, int | float | None]


class Point(TypedDict):
    """A point of the risk-coverage curve."""

    coverage: float
    risk: float
    confidence: float


class ReliabilityBin(TypedDict):
    """Records of about equal confidence."""

    low: float
    high: float
    records: int
    confidence: Annotated[float, Field(description="mean confidence of its records")]
    exact_match: Annotated[float, Field(description="share of its records that are right")]


class SliceScores(TypedDict):
    """Scores of the records that share a value of `meta`."""

    micro_f1: Share
    exact_match: Share
    records: int
    images: int
    interval: Annotated[IntervalOf | None, Field(description="of micro_f1")]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScoredPart(_Block):
    """What is said of all records, and of those of each task."""

    metrics: Scores
    intervals: Intervals = Field(
        description="of every score made of counts: percentile bootstrap over images, all records of one "
        "drawn together, over the resamples in which the score is defined, reaching as much further into "
        "the tails as few images ask for (expanded percentiles of Hesterberg, arXiv 1411.5279); null where "
        "these resamples all agree, so that resampling says nothing, or are fewer than half, and of fewer "
        f"than {MIN_IMAGES} images; macro_f1 has none where a task has more than {MAX_CLASSES} classes. "
        "Images are told apart by the name that records give them"
    )
    counts: dict[str, int]
    risk_coverage: list[Point] = Field(
        description="over the records of ece: risk (1 - exact match of the chosen answers) among the "
        "ceil(coverage * records) most confident, and the confidence of the last of them; among records of "
        "equal confidence it is the mean over all their orders; [] where no record has a confidence"
    )
    calibration: list[ReliabilityBin] = Field(
        description="the bins of ece that hold a record; [] where no record has a confidence"
    )


class TaskResults(ScoredPart):
    """One task."""

    constant_answer: str = Field(description="the constant answer of constant_micro_f1")
    per_class: dict[str, Figures] = Field(
        description="precision, recall, F1 and support (gold decisions) of one class: the labels for "
        "factuality, 'No hallucination' and 'hallucinated choice' for hallucination"
    )
    confusion: dict[str, dict[str, int]] = Field(
        description="factuality: records by gold label, then by predicted label or 'no answer'; {} for "
        f"hallucination, whose answers are sets, and for more than {MAX_CLASSES} labels"
    )
    phenomena: dict[str, dict[str, Figures]] = Field(
        description="over the choices that the records tag so, without 'No hallucination': found_rate "
        "(recall) is the share of false (hallucinated) choices that were predicted, false_alarm_rate the "
        "share of true choices that were predicted; precision and f1 as everywhere"
    )
    slices: dict[str, dict[str, SliceScores]] = Field(
        description="the records that carry this value in their meta field"
    )


class Parsing(_Block):
    """How answers that came as text were read."""

    parser: Literal["strict", "lenient"] = Field(description="whose reading the scores are of")
    texts: int = Field(description="scored records whose prediction is a text")
    by_kind: dict[str, int] = Field(description="how the parser read them")
    strict_unparsed: int = Field(description="texts in which the strict parser finds no answer")
    lenient_unparsed: int = Field(description="texts in which the lenient parser finds no answer")
    strict_micro_f1: Share = Field(description="micro_f1 of the whole file as the strict parser reads it")
    lenient_micro_f1: Share = Field(description="micro_f1 of the whole file as the lenient parser reads it")


class GainOfTask(_Block):
    """What the blind control scores, and what the images add to that."""

    metrics: Scores
    gain: Figures = Field(description="score minus that of the control, of every score made of counts")
    gain_intervals: Intervals = Field(description="paired: both are resampled on the same images")


class Blind(GainOfTask):
    """The same model with every image blanked: what it reaches by text alone, and what the images add."""

    tasks: dict[str, GainOfTask]


class LeakFound(_Block):
    """What these records share with those that the model learned from."""

    leak_rate: float = Field(ge=0, le=1, description="share of the records whose id or pixels training saw")
    shared_ids: int = Field(description="records whose id training saw")
    shared_images: int = Field(description="records whose image has pixels that training saw")


class BootstrapUsed(_Block):
    """How the intervals were drawn."""

    resamples: int
    seed: int
    level: float
    images: int = Field(description="images that are drawn from; all records of one are drawn together")


class Results(ScoredPart):
    """The scores of a file of predictions: over all records, and per task; null is an undefined value."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    hkd_version: str
    tasks: dict[str, TaskResults]
    parsing: Parsing | None = None
    blind: Blind | None = None
    leak: LeakFound | None = None
    bootstrap: BootstrapUsed | None
    definitions: dict[str, str]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists and finite numbers, ready for `json.dumps(..., allow_nan=False)`."""
        return self.model_dump(mode="json")


GENERAL: Mapping[str, str] = {
    "decision": "every choice of every record, 'No hallucination' included, is one binary decision; a "
    "missing, failed, invalid or abstained prediction is the empty set, so each true choice is a false "
    "negative",
    "images": "different images of the records, by name",
    "missing": "records without a prediction row",
    "error": "records whose prediction row says status: error; a status that is none of ok, error and "
    "abstain means nothing",
    "abstained": "records whose prediction row says abstain; they count as the empty set, whatever it names",
    "approximate": f"records {ANSWERED} whose posterior is over a beam of answers alone",
    "with_confidence": f"records {ANSWERED} with a confidence whose answer is known",
    "with_posterior": f"records {ANSWERED} with a posterior",
    "with_shifts": f"records {ANSWERED} that were shown in more than one order",
    "invalid": "records whose prediction is no legal answer: unreadable (no list of choice ids), unparsed, "
    "refusal or conflict (a text without one clear answer), empty, unknown_choice, contradiction ('No "
    "hallucination' with others), several (more than one label)",
    "extra": "prediction rows that belong to no scored record; left out",
    "changed": "prediction rows whose record_hash says that the record asked something else; they are scored "
    "all the same",
    "unlabelled": "records without a gold answer; left out",
}


def describe_fields(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the name and description of each property of a JSON Schema that has one."""
    for name, field in fields.items():
        if text := field.get("description"):
            yield name, text


def _build_definitions() -> dict[str, str]:
    """The general words, then those of each score and block as the schema has them.

    What stands in a list or under a name of the data has its block before its own name: SliceScores.interval.
    """
    known = Results.model_json_schema()["$defs"]
    blocks = ("Scores", "TaskResults", "LeakFound", "GainOfTask", "Parsing")
    found = {name: text for block in blocks for name, text in describe_fields(known[block]["properties"])}
    for block in ("IntervalOf", "SliceScores", "ReliabilityBin", "BootstrapUsed"):
        found |= {f"{block}.{name}": text for name, text in describe_fields(known[block]["properties"])}
    return {**GENERAL, **found}


DEFINITIONS: Mapping[str, str] = _build_definitions()
