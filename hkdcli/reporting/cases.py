"""The wrong records of an evaluation as cases to look at, the most confident errors first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import fsum
from typing import Literal

from hkdcli.data.records import Example
from hkdcli.evaluation.certainty import Certainty
from hkdcli.evaluation.join import Table
from hkdcli.evaluation.predictions import Prediction

Decision = Literal["TP", "FP", "FN", "TN"]
Kind = Literal["missed", "false alarm", "wrong label", "no answer"]
KINDS: tuple[Kind, ...] = ("missed", "false alarm", "wrong label", "no answer")

_TEXTS = (
    ("question", "question"),
    ("caption question", "caption_question"),
    ("caption", "caption"),
    ("claim", "claim"),
    ("context", "context"),
)
_DECISIONS: Mapping[tuple[bool, bool], Decision] = {
    (True, True): "TP",
    (False, True): "FP",
    (True, False): "FN",
    (False, False): "TN",
}


@dataclass(frozen=True, slots=True)
class CaseChoice:
    """A choice and what became of it.

    Attributes:
        id: as the record writes it.
        text: of the choice.
        decision: gold against prediction, as it is scored.
        probability: sum over the answers of the posterior that hold it; None without a posterior.
        tags: what the record's `meta` says of this choice, by key.
    """

    id: str
    text: str
    decision: Decision
    probability: float | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CaseAnswer:
    """A row of a posterior: choice ids in the record's order, their probability, whether they are gold."""

    ids: tuple[str, ...]
    probability: float
    is_gold: bool


@dataclass(frozen=True, slots=True)
class Case:
    """A wrong record.

    Attributes:
        example: the record.
        choices: in the record's order.
        fault: why its prediction is scored as the empty set, as in `Table.faults`; "" where it is not.
        said: the choice ids that its row names, sorted; None where there are none to read.
        text: the answer in the model's own words, where it came as text.
        confidence: of the answer; None where the row has none.
        posterior: the most probable first; empty where the row has none.
        slices: what its `meta` says of the whole record, by key.
        kinds: what is wrong, in the order of `KINDS`; at least one.
    """

    example: Example
    choices: tuple[CaseChoice, ...]
    fault: str
    said: tuple[str, ...] | None
    text: str | None
    confidence: float | None
    posterior: tuple[CaseAnswer, ...]
    slices: Mapping[str, str]
    kinds: tuple[Kind, ...]

    @property
    def id(self) -> str:
        """The record's id."""
        return self.example.id

    @property
    def task(self) -> str:
        """The record's task."""
        return self.example.task

    @property
    def image(self) -> str:
        """What the record calls its image."""
        return self.example.image

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """(name, text) of each text that the record has, and of the answer where it came as text."""
        named = ((name, getattr(self.example, attribute)) for name, attribute in _TEXTS)
        own = [] if self.text is None else [("answer", self.text)]
        return tuple((name, text) for name, text in (*named, *own) if text)


@dataclass(frozen=True, slots=True)
class Gallery:
    """Cases, and how many wrong records there are in all."""

    cases: tuple[Case, ...]
    total: int


def build_cases(tables: Mapping[str, Table], limit: int) -> Gallery:
    """Take the wrong records of all tasks: those with a fault or with any wrong decision.

    The most confident come first, and last those that give no answer or no confidence; of equals the tasks in
    turn, each in the order of its table.

    Args:
        tables: by task.
        limit: cases at most, 0 or more.

    Returns:
        The cases and how many records are wrong.
    """
    wrong = sorted(
        (-_rank(table.rows[index]), index, task)
        for task, table in tables.items()
        for index in (~table.matched).nonzero()[0].tolist()
    )
    return Gallery(tuple(_build_case(tables[task], index) for _, index, task in wrong[:limit]), len(wrong))


def _rank(row: Prediction | None) -> float:
    """The confidence of the answer that a row gives; below all where it gives none."""
    confidence = _get_certainty(row).confidence
    return -1.0 if confidence is None or row is None or row.abstained else confidence


def _get_certainty(row: Prediction | None) -> Certainty:
    return Certainty() if row is None else row.certainty


def _build_case(table: Table, index: int) -> Case:
    example, row, fault = table.records[index], table.rows[index], table.faults[index]
    certainty = _get_certainty(row)
    choices = tuple(_build_choices(table, index, certainty))
    return Case(
        example=example,
        choices=choices,
        fault=fault,
        said=tuple(sorted(row.choices)) if row is not None and row.choices is not None else None,
        text=None if row is None else row.text,
        confidence=certainty.confidence,
        posterior=_build_posterior(example, certainty),
        slices={str(key): value for key, value in example.meta.items() if isinstance(value, str)},
        kinds=("no answer",) if fault else tuple(_find_kinds(example, choices)),
    )


def _build_choices(table: Table, index: int, certainty: Certainty) -> Iterator[CaseChoice]:
    example = table.records[index]
    tags = {str(key): value for key, value in example.meta.items() if isinstance(value, Mapping)}
    start, end = table.record.searchsorted([index, index + 1]).tolist()
    for choice, gold, predicted in zip(
        example.choices, table.gold[start:end].tolist(), table.predicted[start:end].tolist(), strict=True
    ):
        yield CaseChoice(
            choice.id,
            choice.text,
            _DECISIONS[gold, predicted],
            _compute_marginal(certainty, choice.id),
            {key: tag[choice.id] for key, tag in tags.items() if isinstance(tag.get(choice.id), str)},
        )


def _compute_marginal(certainty: Certainty, choice: str) -> float | None:
    if certainty.posterior is None:
        return None
    return min(1.0, fsum(p for answer, p in certainty.posterior if choice in answer))


def _build_posterior(example: Example, certainty: Certainty) -> tuple[CaseAnswer, ...]:
    """Rows by falling probability; ids in the record's order, those that it does not have last."""
    places = {choice.id: place for place, choice in enumerate(example.choices)}
    rows = [
        CaseAnswer(
            tuple(sorted(answer, key=lambda each: (places.get(each, len(places)), each))),
            p,
            answer == example.answer,
        )
        for answer, p in certainty.posterior or ()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.probability, row.ids)))


def _find_kinds(example: Example, choices: tuple[CaseChoice, ...]) -> Iterator[Kind]:
    """What is wrong with an answer: "No hallucination" itself is neither missed nor a false alarm."""
    if example.task == "factuality":
        yield "wrong label"
        return
    found = {choice.decision for choice in choices if choice.id != example.none_id}
    if "FN" in found:
        yield "missed"
    if "FP" in found:
        yield "false alarm"
