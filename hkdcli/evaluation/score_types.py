"""The scores of the results document: their names, their ranges, and what each means."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict

Share = Annotated[float, Field(ge=0, le=1)] | None


def _text(text: str) -> Any:
    return Field(description=text)


ANSWERED = "answered or abstained from"


@with_config(ConfigDict(extra="forbid"))
class Scores(TypedDict):
    """Scores of one task, or of all records; null where a score is undefined."""

    micro_f1: Annotated[
        Share,
        _text(
            "2 TP / (2 TP + FP + FN) over all decisions; for factuality without missing, failed, "
            "invalid or abstained predictions this is the accuracy"
        ),
    ]
    micro_precision: Annotated[Share, _text("TP / (TP + FP) over all decisions")]
    micro_recall: Annotated[Share, _text("TP / (TP + FN) over all decisions")]
    macro_f1: Annotated[
        Share,
        _text(
            "unweighted mean of the F1 of the task's classes that occur in gold or predictions; over "
            "several tasks, the unweighted mean of theirs"
        ),
    ]
    exact_match: Annotated[
        Share, _text("share of records whose predicted set of choices equals the gold set")
    ]
    set_f1: Annotated[
        Share,
        _text(
            "2 M / (A + N) where whole sets are compared: M of N records match, A have a legal answer; "
            "equal to exact_match where every record has one"
        ),
    ]
    set_precision: Annotated[Share, _text("M / A: matching sets among the legal answers")]
    set_recall: Annotated[Share, _text("M / N: matching sets among all records, so exact_match")]
    hallucinated_f1: Annotated[
        Share,
        _text(
            "F1 over the choices other than 'No hallucination' alone, hallucinated_precision and "
            "hallucinated_recall likewise; null without hallucination records"
        ),
    ]
    hallucinated_precision: Annotated[Share, _text("see hallucinated_f1")]
    hallucinated_recall: Annotated[Share, _text("see hallucinated_f1")]
    yes_rate: Annotated[
        Share,
        _text(
            "share of the choices other than 'No hallucination' that were predicted to be hallucinated, over "
            "the records with a legal answer; above gold_yes_rate the model cries wolf, below it the model "
            "agrees too readily"
        ),
    ]
    gold_yes_rate: Annotated[Share, _text("share of the choices other than 'No hallucination' that are gold")]
    coverage: Annotated[
        Share,
        _text(
            "answered records / records; a record is answered where its row says ok, be the prediction "
            "legal or invalid"
        ),
    ]
    selective_exact_match: Annotated[Share, _text("exact_match among the answered records alone")]
    ece: Annotated[
        Share,
        _text(
            "expected calibration error of confidence, the posterior probability of the chosen answer, "
            "as a prediction of exact match: 15 bins of equal width over (0, 1], sum over bins of share "
            f"of records * |exact match - mean confidence|. Over the records that are {ANSWERED} and "
            "have a confidence (with_confidence of them): missing and failed ones have none. The chosen "
            "answer of an abstained record is the one of its posterior whose p is the confidence, or "
            "the most probable one where that is not exactly one; without a posterior it is unknown and "
            "left out"
        ),
    ]
    brier: Annotated[
        float | None,
        Field(
            ge=0,
            le=3,
            description="multi-class Brier score: mean over records of the sum over answers of "
            "(p(answer) - [answer is gold])^2, from 0 to 2; an answer that an approximate posterior "
            "lacks has p = 0, so a gold answer that it lacks adds 1. Over the records that are "
            f"{ANSWERED} and have a posterior (with_posterior of them)",
        ),
    ]
    aurc: Annotated[
        Share,
        _text(
            "area under the risk-coverage curve: mean over k = 1 ... n of the risk among the k most "
            "confident of the n records of ece, equal confidences as in risk_coverage; 0 is best"
        ),
    ]
    flip_rate: Annotated[
        Share,
        _text(
            "mean over the records shown in more than one order (with_shifts of them) of the share of "
            "orders whose own most probable answer is not that of the combined posterior; rows that do not "
            "say it are left out; null where there is no such record"
        ),
    ]
    all_agree_rate: Annotated[
        Share,
        _text(
            "share of the records shown in more than one order whose orders all have the same most "
            "probable answer; rows that do not say it are left out; null where there is no such record"
        ),
    ]
    all_orders_right: Annotated[
        Share,
        _text(
            f"share of all records whose orders agree and whose most probable answer is gold, {ANSWERED} "
            "(CircularEval of MMBench, arXiv 2307.06281); missing and failed records are not; null "
            "where no record was shown in more than one order"
        ),
    ]
    constant_micro_f1: Annotated[
        Share,
        _text(
            "micro_f1 of the constant answer that is best on this very data (constant_answer): always "
            "'No hallucination', every other choice, one letter, or one label; over several tasks, of "
            "the best constant answer of each"
        ),
    ]
