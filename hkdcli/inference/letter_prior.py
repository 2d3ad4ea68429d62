"""A model's preference for letters, estimated once and divided out of one order (PriDe, arXiv 2309.03882).

If log p_s(Y) = evidence(Y) + sum of b[letter] over the choices of Y - log Z_s, then over a full cycle of
shifts each choice alone passes each letter once: evidence and log Z_s give every letter the same mean, and
what differs between letters is b. A record then needs one order instead of n.

PriDe is about single answers. For sets this is our additive reading, and approximate: b counts once for each
choice of the answer, and its mean over letters, which no shift can tell from a liking for large answers,
stays with the evidence.

Dimensions: S presentations, N answers, C choices, n choices of a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hkdcli.data.prompts import LETTERS, Presentation
from hkdcli.errors import BadRow, DataError, UsageError
from hkdcli.inference.decode import Answer, Array


@dataclass(frozen=True, slots=True, eq=False)
class CycledRecord:
    """One record asked under a full cycle: `log_probs` [n, N] of `answers`, a row per presentation.

    A row may lack its normalisation.
    """

    answers: Sequence[Answer]
    log_probs: npt.ArrayLike
    presentations: Sequence[Presentation]


def estimate_letter_prior(records: Iterable[CycledRecord]) -> dict[int, Array]:
    """Estimate how much a model likes each letter, from records of one task; no labels are needed.

    log prior[l] = mean over records and shifts of log p_s({the choice shown at l}), minus its mean over l

    A record that tells nothing finite is left out: a beam that lacks a choice alone, or a probability of 0.

    Args:
        records: of one task, each under all n shifts of `shifted_presentations` with "both".

    Returns:
        For each number of choices n that occurs, log priors [n] of the first n letters, with mean 0. A
        `UsageError` where a record's choices do not all pass all letters.
    """
    found: dict[int, list[Array]] = {}
    for record in records:
        liked = _read_letters(record)
        if liked is not None and np.isfinite(liked).all():
            found.setdefault(len(liked), []).append(liked - liked.mean())
    return {count: np.mean(rows, axis=0) for count, rows in sorted(found.items())}


def remove_letter_prior(
    answers: Sequence[Answer],
    log_probs: npt.ArrayLike,
    presentations: Sequence[Presentation],
    prior: Mapping[int, npt.ArrayLike],
) -> Array:
    """Divide the letter prior out: log p_s(Y) minus the log priors of the letters that show Y's choices.

    Args:
        answers: the N answers.
        log_probs: [S, N].
        presentations: the S orders that the record was asked under.
        prior: of the record's task, as `estimate_letter_prior` gives it.

    Returns:
        Log scores [S, N]; normalised by whoever combines them.

    Raises:
        DataError: the prior was not estimated for so many choices (`choices.no_prior`).
    """
    count = len(presentations[0])
    if count not in prior:
        known = ", ".join(map(str, sorted(prior))) or "none"
        detail = f"no letter prior for {count} choices, only for {known}"
        hint = "calibrate on records with as many choices, or ask with --shift instead of a prior"
        raise DataError("a letter prior is missing", [BadRow("choices.no_prior", "", "", detail, hint)])
    liked = np.asarray(prior[count], dtype=np.float64)
    names = [choice_id for _, choice_id in presentations[0]]
    holds = np.array([[name in answer for name in names] for answer in answers], dtype=np.float64)
    letters = np.array([_find_letters(shown, names) for shown in presentations])
    cleaned: Array = np.asarray(log_probs, dtype=np.float64) - liked[letters] @ holds.T
    return cleaned


def _read_letters(record: CycledRecord) -> Array | None:
    """Mean over shifts of the log probability of what each letter shows, [n]; None where a beam lacks one."""
    names = [choice_id for _, choice_id in record.presentations[0]]
    letters = np.array([_find_letters(shown, names) for shown in record.presentations])  # [S, C]
    cycle = np.tile(np.arange(len(names))[:, None], len(names))
    if not np.array_equal(np.sort(letters, axis=0), cycle):
        raise UsageError(
            "a letter prior needs every choice under every letter once",
            hint="Ask under a full cycle of shifts in which every choice moves.",
        )
    places = {answer: index for index, answer in enumerate(record.answers)}
    alone = [frozenset({name}) for name in names]
    if not places.keys() >= set(alone):
        return None
    logs = np.asarray(record.log_probs, dtype=np.float64)[:, [places[each] for each in alone]]  # [S, C]
    return np.take_along_axis(logs, np.argsort(letters, axis=1), axis=1).mean(axis=0)


def _find_letters(shown: Presentation, names: Sequence[str]) -> list[int]:
    """The place in the alphabet of the letter that shows each choice, in the order of `names`."""
    place = {choice_id: LETTERS.index(letter) for letter, choice_id in shown}
    return [place[name] for name in names]
