"""Scores of what prediction rows say beside their answers: confidence, posterior, and orders of the choices.

They are over the records whose row says ok or abstain and has what a score needs, except for the shares of
all records, where a record without it counts against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from hkdcli.evaluation.calibration import compute_brier, compute_calibration_error, compute_reliability
from hkdcli.evaluation.certainty import Certainty
from hkdcli.evaluation.counting import Scores, ratio
from hkdcli.evaluation.join import Table
from hkdcli.evaluation.results import ReliabilityBin
from hkdcli.evaluation.selective import Curve, compute_aurc, compute_risk_coverage

ORDER_SCORES = ("flip_rate", "all_agree_rate", "all_orders_right")


@dataclass(slots=True)
class Judged:
    """What the rows of some records say beside their answers, compared with gold; a list is one entry a row.

    Attributes:
        records: how many records there are, with rows or without.
        confidence: of the rows that have one and whose answer is known.
        right: whether the answer that such a row gives, or abstains from, is gold; an invalid one never is.
        brier: Brier score of each row with a posterior.
        flips: flip rate of each row that was shown in several orders and has one.
        agreed: whether all orders agreed, of each such row that says so.
        approximate: rows whose posterior is over a beam.
        shifted: rows that were shown in several orders.
        orders_right: rows whose orders agree and whose most probable answer is gold.
        orders_known: whether a row of several orders says enough for `orders_right`.
    """

    records: int = 0
    confidence: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    brier: list[float] = field(default_factory=list)
    flips: list[float] = field(default_factory=list)
    agreed: list[bool] = field(default_factory=list)
    approximate: int = 0
    shifted: int = 0
    orders_right: int = 0
    orders_known: bool = False


def judge_rows(table: Table) -> Judged:
    """Compare each row that is neither missing nor failed with the gold answer."""
    judged = Judged(records=len(table.records))
    for example, row, matched in zip(table.records, table.rows, table.matched.tolist(), strict=True):
        if row is None:
            continue
        gold, certainty = example.answer or frozenset(), row.certainty
        right = _judge_chosen(certainty, gold) if row.abstained else matched
        if certainty.confidence is not None and right is not None:
            judged.confidence.append(certainty.confidence)
            judged.right.append(right)
        if certainty.posterior is not None:
            judged.brier.append(compute_brier(certainty.posterior, gold))
        judged.approximate += certainty.approximate
        _judge_orders(judged, certainty, gold)
    return judged


def pool(parts: Sequence[Judged]) -> Judged:
    """All rows of several tasks together."""
    whole = Judged()
    for part in parts:
        whole.records += part.records
        whole.confidence += part.confidence
        whole.right += part.right
        whole.brier += part.brier
        whole.flips += part.flips
        whole.agreed += part.agreed
        whole.approximate += part.approximate
        whole.shifted += part.shifted
        whole.orders_right += part.orders_right
        whole.orders_known |= part.orders_known
    return whole


def count_judged(judged: Judged) -> dict[str, int]:
    """Count the rows that each kind of score is over, and those whose posterior is approximate."""
    return {
        "approximate": judged.approximate,
        "with_confidence": len(judged.confidence),
        "with_posterior": len(judged.brier),
        "with_shifts": judged.shifted,
    }


def score_judged(judged: Judged) -> Scores:
    """Compute calibration and agreement of orders; None where no row has what a score needs."""
    confidence, right = np.array(judged.confidence, np.float64), np.array(judged.right, np.bool_)
    return {
        "ece": compute_calibration_error(confidence, right),
        "brier": fmean(judged.brier) if judged.brier else None,
        "aurc": compute_aurc(confidence, right),
        "flip_rate": fmean(judged.flips) if judged.flips else None,
        "all_agree_rate": ratio(sum(judged.agreed), len(judged.agreed)),
        "all_orders_right": ratio(judged.orders_right, judged.records) if judged.orders_known else None,
    }


def build_curve(judged: Judged) -> Curve:
    """Build the risk-coverage curve of the rows with a confidence."""
    return compute_risk_coverage(np.array(judged.confidence, np.float64), np.array(judged.right, np.bool_))


def build_reliability(judged: Judged) -> list[ReliabilityBin]:
    """Build the reliability diagram of the rows with a confidence."""
    return compute_reliability(np.array(judged.confidence, np.float64), np.array(judged.right, np.bool_))


def _judge_chosen(certainty: Certainty, gold: frozenset[str]) -> bool | None:
    """Whether the answer that a row abstains from is gold; None where nobody can say which one that is."""
    return None if certainty.chosen is None else certainty.chosen == gold


def _judge_orders(judged: Judged, certainty: Certainty, gold: frozenset[str]) -> None:
    # A record with a single order to show counts here too: that one agrees with itself.
    if certainty.all_agree is True and certainty.most_probable == gold:
        judged.orders_right += 1
    if (certainty.shifts or 0) <= 1:
        return
    judged.shifted += 1
    if certainty.flip_rate is not None:
        judged.flips.append(certainty.flip_rate)
    if certainty.all_agree is not None:
        judged.agreed.append(certainty.all_agree)
        judged.orders_known |= certainty.posterior is not None
