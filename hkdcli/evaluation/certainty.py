"""How sure a prediction row is: the optional fields of predictions.jsonl beside the answer, read strictly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import fsum, isclose
from typing import Any

MAX_TOTAL = 1.001  # other tools round each probability

Distribution = tuple[tuple[frozenset[str], float], ...]


@dataclass(frozen=True, slots=True)
class Certainty:
    """What a row says beside its answer; None where it says nothing.

    Attributes:
        confidence: posterior probability of the answer that the decoder chose, in [0, 1]; an abstained row
            has one too.
        posterior: sets of choice ids, all different, each with its probability; an answer that is not among
            them has probability 0.
        flip_rate: share of the shown orders whose own most probable answer is not that of the posterior.
        all_agree: whether all shown orders have the same most probable answer.
        shifts: how many orders of the choices were shown, at least 1.
        approximate: the posterior is over a beam of answers, not over all.
    """

    confidence: float | None = None
    posterior: Distribution | None = None
    flip_rate: float | None = None
    all_agree: bool | None = None
    shifts: int | None = None
    approximate: bool = False

    @property
    def most_probable(self) -> frozenset[str] | None:
        """The answer with the highest probability, of equals the first; None without a posterior."""
        if self.posterior is None:
            return None
        return max(self.posterior, key=lambda pair: pair[1])[0]

    @property
    def chosen(self) -> frozenset[str] | None:
        """The answer that the confidence belongs to, for a row that gives none itself.

        That is the one answer whose probability is the confidence; where there is not exactly one such, the
        most probable answer. None without a posterior.
        """
        if self.posterior is None or self.confidence is None:
            return self.most_probable
        close = [answer for answer, p in self.posterior if isclose(p, self.confidence, rel_tol=1e-8)]
        return close[0] if len(close) == 1 else self.most_probable


def parse_certainty(row: Mapping[str, Any]) -> Certainty:
    """Take the fields that a row has, null or absent ones being None; `find_malformed` has found none."""
    posterior = row.get("posterior") or None
    return Certainty(
        confidence=row.get("confidence"),
        posterior=posterior and tuple((frozenset(item["answer"]), float(item["p"])) for item in posterior),
        flip_rate=row.get("flip_rate"),
        all_agree=row.get("all_agree"),
        shifts=row.get("shifts"),
        approximate=row.get("approximate") or False,
    )


def find_malformed(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name each field that is neither absent nor null nor what it must be, and say what that is.

    Args:
        row: one row of predictions.

    Yields:
        tuple[str, str]: the field and what is wrong with it.
    """
    for name, (is_right, what) in FIELDS.items():
        if row.get(name) is not None and not is_right(row[name]):
            yield name, f"{name} is not {what}"


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_posterior(value: object) -> bool:
    if not isinstance(value, list) or not all(_is_answer(item) for item in value):
        return False
    distinct = len({frozenset(item["answer"]) for item in value}) == len(value)
    return distinct and fsum(item["p"] for item in value) <= MAX_TOTAL


def _is_answer(item: object) -> bool:
    if not isinstance(item, dict) or not isinstance(item.get("answer"), list):
        return False
    return all(isinstance(choice, str) for choice in item["answer"]) and _is_share(item.get("p"))


FIELDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "confidence": (_is_share, "a number from 0 to 1"),
    "posterior": (
        _is_posterior,
        'a list of {"answer": [ids], "p": number from 0 to 1}, every answer once, all together at most 1',
    ),
    "flip_rate": (_is_share, "a number from 0 to 1"),
    "all_agree": (_is_flag, "true or false"),
    "shifts": (_is_count, "a whole number, 1 or more"),
    "approximate": (_is_flag, "true or false"),
}
