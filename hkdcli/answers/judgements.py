"""What is said of choices right behind them: "B is hallucinated" gives B, "B: visible" does not."""

from __future__ import annotations

import re
from collections.abc import Collection

from hkdcli.answers.chain import Line
from hkdcli.answers.choices import Vocabulary
from hkdcli.answers.english import DOUBTING, FOLLOWING, JUDGING, SUPPORT, is_doubted

_PREDICATE = re.compile(
    r" (?:is|are) (?:(?:a|an|the|my|all|both|therefore|thus|correct|right|best|final) )*+"
    r"(?P<what>hallucinat[a-z]*|answers?|choices?|options?|one)(?=$|[.,;:!)\n]| (?P<next>[a-z]+))"
    r"| (?:is|are) (?:therefore |thus )?(?:correct|right|best)(?=$|[.,;:!)\n]| (?P<then>[a-z]+))"
)
_TAIL = re.compile(
    r"(?P<gap>[ :=(\-\u2013\u2014]{1,6})"
    r"(?P<word>[a-z]+(?:'[a-z]+)?|\d|[\u2713\u2714\u2717\u2718\u2705\u274c])(?: (?P<after>\w+))?"
)
_REASON = re.compile(
    r",? (?:because|since|as) (?:they|it|these|both)\b|[ ).:,\-\u2013\u2014]{1,5}(?P<all>all of the above)"
)
_MARKS = ":)=\u2013\u2014-"
_PARTLY = re.compile(
    r"[ ,:(\-\u2013\u2014]{1,5}(?:but )?(?:only )?(?:partially|partly|mostly|somewhat|in part)\b"
)


def find_predicate(line: Line, end: int) -> str | None:
    """What is predicated of ids, without a retraction: "hallucinated", "answer", "" for correct."""
    match = _PREDICATE.match(line.folded, end)
    if match is None or (match["next"] or match["then"]) not in (None, "in", *FOLLOWING):
        return None
    return match["what"] or ""


def is_partly(folded: str, end: int) -> bool:
    """Whether what stands before a place is said to hold in part: "True (partially)"."""
    return _PARTLY.match(folded, end) is not None


def is_judged(vocabulary: Vocabulary, line: Line, ids: Collection[str], end: int) -> bool:
    """Whether what ends at a place is spoken about, not given: "Answer: B: visible", "B (no)"."""
    is_claim = vocabulary.task == "factuality"
    if is_claim and is_partly(line.folded, end):
        return True
    reason = _REASON.match(line.folded, end)
    if reason is not None:
        return reason["all"] is not None or _is_cleared(vocabulary, line, ids, end)
    tail = _TAIL.match(line.folded, end)
    if tail is None:
        return False
    word, gap = tail["word"], tail["gap"].strip()
    if word == "not" and tail["after"] and vocabulary.find_id(tail["after"]):
        return False  # "C (not B)"
    if word in ("is", "are") and not gap:
        what = find_predicate(line, end)
        return what is None or (what == "" and not is_claim)
    if not word.isascii() or word.isdigit() or word in (DOUBTING if is_claim else JUDGING):
        return True
    is_marked = bool(gap) or line.text[end - 1] in _MARKS
    return is_marked and _is_cleared(vocabulary, line, ids, tail.start("word"))


def _is_cleared(vocabulary: Vocabulary, line: Line, ids: Collection[str], start: int) -> bool:
    """Whether the sentence from a place on says of a phrase that nothing is wrong with it."""
    if vocabulary.task == "factuality" or vocabulary.none_id in ids:
        return False
    sentence = re.split(r"[.!?\n]", line.folded[start : start + 500], maxsplit=1)[0]
    accused = "hallucinat" in sentence
    judged = accused or bool(SUPPORT & set(re.findall(r"[a-z]+", sentence)))
    repeated = any(vocabulary.words_of(id_) in sentence for id_ in ids)
    return (judged or repeated) and accused == (is_doubted(sentence) or "false" in sentence)
