"""Scores of what prediction rows say beside their answers: confidence, posterior, and orders of the choices.

They are over the records whose row says ok or abstain and has what a score needs, except for the shares of
all records, where a record without it counts against them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from hkdcli.evaluation.calibration import Bools, Floats, compute_brier, compute_calibration_error
from hkdcli.evaluation.certainty import Certainty
from hkdcli.evaluation.counting import Scores, ratio
from hkdcli.evaluation.join import Table
from hkdcli.evaluation.selective import Curve, compute_aurc, compute_risk_coverage

ORDER_SCORES = ("flip_rate", "all_agree_rate", "all_orders_right")


@dataclass(frozen=True, slots=True)
class Judged:
    """A record with a row that says ok or abstain.

    Attributes:
        gold: the gold answer.
        certainty: what the row says beside its answer.
        abstained: whether it says abstain.
        right: whether the answer that it gives, or abstains from, is gold; an invalid one never is. None
            where nobody can say which answer it abstains from.
    """

    gold: frozenset[str]
    certainty: Certainty
    abstained: bool
    right: bool | None


def judge_rows(table: Table) -> list[Judged]:
    """Compare each row that is neither missing nor failed with the gold answer."""
    judged = []
    for example, row, matched in zip(table.records, table.rows, table.matched, strict=True):
        if row is None:
            continue
        gold, right = example.answer or frozenset(), bool(matched)
        if row.abstained:
            judged.append(Judged(gold, row.certainty, True, _judge_chosen(row.certainty, gold)))
        else:
            judged.append(Judged(gold, row.certainty, False, right))
    return judged


def count_judged(judged: Sequence[Judged]) -> dict[str, int]:
    """Count the rows that each kind of score is over, and those whose posterior is approximate."""
    return {
        "approximate": sum(row.certainty.approximate for row in judged),
        "with_confidence": len(_collect_confidence(judged)[0]),
        "with_posterior": sum(row.certainty.posterior is not None for row in judged),
        "with_shifts": len(_select_shifted(judged)),
    }


def score_judged(judged: Sequence[Judged], records: int) -> Scores:
    """Compute coverage, calibration and agreement of orders.

    Args:
        judged: the rows.
        records: how many records there are, at least as many.

    Returns:
        The scores that `DEFINITIONS` defines; None where no row has what one needs.
    """
    answered = [row for row in judged if not row.abstained]
    confidence, right = _collect_confidence(judged)
    posteriors = [
        (row.certainty.posterior, row.gold) for row in judged if row.certainty.posterior is not None
    ]
    return {
        "coverage": ratio(len(answered), records),
        "selective_exact_match": ratio(sum(row.right is True for row in answered), len(answered)),
        "ece": compute_calibration_error(confidence, right),
        "brier": compute_brier([posterior for posterior, _ in posteriors], [gold for _, gold in posteriors]),
        "aurc": compute_aurc(confidence, right),
        **_score_orders(judged, records),
    }


def build_curve(judged: Sequence[Judged]) -> Curve:
    """Build the risk-coverage curve of the rows with a confidence."""
    return compute_risk_coverage(*_collect_confidence(judged))


def _judge_chosen(certainty: Certainty, gold: frozenset[str]) -> bool | None:
    return None if certainty.chosen is None else certainty.chosen == gold


def _collect_confidence(judged: Sequence[Judged]) -> tuple[Floats, Bools]:
    """Confidence and whether it was right, [N] each, of the rows where both are known."""
    pairs = [
        (row.certainty.confidence, row.right)
        for row in judged
        if row.certainty.confidence is not None and row.right is not None
    ]
    return np.array([c for c, _ in pairs], np.float64), np.array([right for _, right in pairs], np.bool_)


def _select_shifted(judged: Sequence[Judged]) -> list[Judged]:
    return [row for row in judged if (row.certainty.shifts or 0) > 1]


def _score_orders(judged: Sequence[Judged], records: int) -> Scores:
    shifted = [row.certainty for row in _select_shifted(judged)]
    flips = [one.flip_rate for one in shifted if one.flip_rate is not None]
    agreed = [one.all_agree for one in shifted if one.all_agree is not None]
    known = any(one.all_agree is not None and one.posterior is not None for one in shifted)
    # A record with a single order to show is in here too: that one agrees with itself.
    right = sum(row.certainty.all_agree is True and row.certainty.most_probable == row.gold for row in judged)
    return {
        "flip_rate": fmean(flips) if flips else None,
        "all_agree_rate": ratio(sum(agreed), len(agreed)),
        "all_orders_right": ratio(right, records) if known else None,
    }
