"""What every figure of metrics.json means; the definitions travel in the file itself."""

from __future__ import annotations

from collections.abc import Mapping

DEFINITIONS: Mapping[str, str] = {
    "decision": "every choice of every record, 'No hallucination' included, is one binary decision; "
    "a missing, failed or invalid prediction is the empty set, so each true choice is a false negative",
    "micro_precision": "TP / (TP + FP) over all decisions",
    "micro_recall": "TP / (TP + FN) over all decisions",
    "micro_f1": "2 TP / (2 TP + FP + FN) over all decisions; "
    "for factuality without missing, failed or invalid predictions this is the accuracy",
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
    "phenomena": "over the choices that the records tag so, without 'No hallucination': "
    "found_rate is the share of false (hallucinated) choices that were predicted, "
    "false_alarm_rate the share of true choices that were predicted",
    "slices": "the records that carry this value in their meta field",
    "missing": "records without a prediction row",
    "error": "records whose prediction row has a status other than ok",
    "invalid": "records whose prediction is no legal answer: unreadable (no list of choice ids), empty, "
    "unknown_choice, contradiction ('No hallucination' with others), several (more than one label)",
    "extra": "prediction rows that belong to no scored record; left out",
    "unlabelled": "records without a gold answer; left out",
}
