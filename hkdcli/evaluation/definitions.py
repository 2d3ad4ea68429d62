"""What every figure of metrics.json means; the definitions travel in the file itself."""

from __future__ import annotations

from collections.abc import Mapping

DEFINITIONS: Mapping[str, str] = {
    "decision": "every choice of every record, 'No hallucination' included, is one binary decision; "
    "a missing, failed, invalid or abstained prediction is the empty set, so each true choice is a false "
    "negative",
    "micro_precision": "TP / (TP + FP) over all decisions",
    "micro_recall": "TP / (TP + FN) over all decisions",
    "micro_f1": "2 TP / (2 TP + FP + FN) over all decisions; "
    "for factuality without missing, failed, invalid or abstained predictions this is the accuracy",
    "exact_match": "share of records whose predicted set of choices equals the gold set",
    "per_class": "precision, recall, F1 and support (gold decisions) of one class: "
    "the labels for factuality, 'No hallucination' and 'hallucinated choice' for hallucination",
    "macro_f1": "unweighted mean of the F1 of the task's classes that occur in gold or predictions; "
    "over several tasks, the unweighted mean of theirs",
    "hallucinated_f1": "F1 over the choices other than 'No hallucination' alone, "
    "hallucinated_precision and hallucinated_recall likewise; null without hallucination records",
    "constant_micro_f1": "micro_f1 of the constant answer that is best on this very data (constant_answer): "
    "always 'No hallucination', every other choice, one letter, or one label; "
    "over several tasks, of the best constant answer of each",
    "coverage": "answered records / records; a record is answered where its row says ok, be the prediction "
    "legal or invalid",
    "selective_exact_match": "exact_match among the answered records alone",
    "ece": "expected calibration error of confidence, the posterior probability of the chosen answer, as a "
    "prediction of exact match: 15 bins of equal width over (0, 1], "
    "sum over bins of share of records * |exact match - mean confidence|. Over the records that are answered "
    "or abstained from and have a confidence (with_confidence of them): missing and failed ones have none. "
    "The chosen answer of an abstained record is the one of its posterior whose p is the confidence, or the "
    "most probable one where that is not exactly one; without a posterior it is unknown and left out",
    "brier": "multi-class Brier score, from 0 to 2: mean over records of the sum over answers of "
    "(p(answer) - [answer is gold])^2; an answer that an approximate posterior lacks has p = 0, so a gold "
    "answer that it lacks adds 1. Over the records that are answered or abstained from and have a posterior "
    "(with_posterior of them)",
    "risk_coverage": "over the records of ece: risk (1 - exact match of the chosen answers) among the "
    "ceil(coverage * records) most confident, and the confidence of the last of them; among records of equal "
    "confidence it is the mean over all their orders; [] where no record has a confidence",
    "aurc": "area under the risk-coverage curve: mean over k = 1 ... n of the risk among the k most "
    "confident of the n records of ece, equal confidences as in risk_coverage; 0 is best",
    "flip_rate": "mean over the records shown in more than one order (with_shifts of them) of the share of "
    "orders whose own most probable answer is not that of the combined posterior; "
    "null where there is no such record",
    "all_agree_rate": "share of the records shown in more than one order whose orders all have the same most "
    "probable answer; null where there is no such record",
    "all_orders_right": "share of all records whose orders agree and whose most probable answer is gold, "
    "answered or abstained from (CircularEval of MMBench, arXiv 2307.06281); missing and failed records are "
    "not; null where no record was shown in more than one order",
    "phenomena": "over the choices that the records tag so, without 'No hallucination': "
    "found_rate is the share of false (hallucinated) choices that were predicted, "
    "false_alarm_rate the share of true choices that were predicted",
    "slices": "the records that carry this value in their meta field",
    "missing": "records without a prediction row",
    "error": "records whose prediction row has a status other than ok and abstain",
    "abstained": "records whose prediction row says abstain; they count as the empty set, whatever it names",
    "approximate": "records answered or abstained from whose posterior is over a beam of answers alone",
    "with_confidence": "records answered or abstained from with a confidence whose answer is known",
    "with_posterior": "records answered or abstained from with a posterior",
    "with_shifts": "records answered or abstained from that were shown in more than one order",
    "invalid": "records whose prediction is no legal answer: unreadable (no list of choice ids), empty, "
    "unknown_choice, contradiction ('No hallucination' with others), several (more than one label)",
    "extra": "prediction rows that belong to no scored record; left out",
    "unlabelled": "records without a gold answer; left out",
}
