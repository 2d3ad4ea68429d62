"""Words and numbers as people read them, the same on the page and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Better = Literal["higher", "lower", ""]

UNDEFINED = "–"
METRICS: Mapping[str, tuple[str, Better]] = {
    "micro_f1": ("micro-F1", "higher"),
    "micro_precision": ("micro precision", "higher"),
    "micro_recall": ("micro recall", "higher"),
    "macro_f1": ("macro-F1", "higher"),
    "exact_match": ("exact match", "higher"),
    "set_f1": ("whole sets, F1", "higher"),
    "set_precision": ("whole sets, precision", "higher"),
    "set_recall": ("whole sets, recall", "higher"),
    "hallucinated_f1": ("hallucinated choices, F1", "higher"),
    "hallucinated_precision": ("hallucinated choices, precision", "higher"),
    "hallucinated_recall": ("hallucinated choices, recall", "higher"),
    "coverage": ("coverage", "higher"),
    "selective_exact_match": ("exact match where answered", "higher"),
    "all_agree_rate": ("all orders agree", "higher"),
    "all_orders_right": ("all orders right", "higher"),
    "ece": ("calibration error (ECE)", "lower"),
    "brier": ("Brier score", "lower"),
    "aurc": ("area under risk-coverage", "lower"),
    "flip_rate": ("flip rate between orders", "lower"),
    "yes_rate": ("choices called hallucinated", ""),
    "gold_yes_rate": ("choices that are hallucinated", ""),
}
"""Words for a metric, and which way it gets better, in the order in which they are shown."""
FAULTS: Mapping[str, str] = {
    "missing": "no prediction for this record",
    "error": "the prediction failed",
    "abstained": "abstained",
    "invalid.unreadable": "unreadable: no list of choice ids",
    "invalid.unparsed": "no answer can be read from its text",
    "invalid.refusal": "a refusal",
    "invalid.conflict": "a text that gives different answers",
    "invalid.empty": "an empty answer",
    "invalid.unknown_choice": "names a choice that the record does not have",
    "invalid.contradiction": "“No hallucination” together with other choices",
    "invalid.several": "more than one label",
}
SILENT_COUNTS = ("missing", "error", "abstained", "invalid")
"""Records that are scored as the empty set; shown even where they are 0."""

# Control characters but tab and line feed, halves of surrogate pairs, and non-characters: what a page cannot
# hold, or a parser would change.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def clean_text(text: str) -> str:
    """The text with U+FFFD for each character that neither HTML nor UTF-8 can carry as it is."""
    return _UNFIT.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def name_metric(name: str) -> str:
    """Words for a metric; an unknown one keeps its name."""
    return METRICS[name][0] if name in METRICS else name


def name_fault(fault: str) -> str:
    """Words for a fault; an unknown one keeps its name."""
    return FAULTS.get(fault, fault)


def render_number(value: float | None) -> str:
    """A count with separators, any other number with three decimals, "–" for an undefined one."""
    if value is None:
        return UNDEFINED
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def render_change(value: float | None) -> str:
    """A difference with its sign and three decimals, "–" for an undefined one."""
    return UNDEFINED if value is None else f"{value:+.3f}"
