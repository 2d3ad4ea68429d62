"""Verdicts on single phrases: "B is visible. Only C is hallucinated." clears B and accuses C."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hkdcli.answers.chain import Line
from hkdcli.answers.choices import NONE_PHRASES, Vocabulary
from hkdcli.answers.clauses import Clause, find_named, split_clauses
from hkdcli.answers.english import INTRODUCING, NEGATIONS, RETRACTION, SUPPORT, is_doubted

_JOINT = re.compile(r"[\s,&\"']*+(?:and )?(?:the )?[\s\"'(\[]*")
_TRAILING = re.compile(
    r"(?:[\s,)\]\"']|\b(?:and|but|though|although|only|both|just|the|options?|choices?)(?=\W|$))+$"
)
_VERDICT = re.compile(
    r"[\s:=\-\u2013\u2014(\"',)>\u2192\u2705\u274c\u2713\u2717]*+"
    r"(?:(?:is|are|was|were|do|does|a|an|the|all|both|only|also|clearly|indeed|likely|probably|therefore"
    r"|thus|definitely|belongs?|to|appears?) )*+(?P<denied>(?:not|no|non|never)[ -])?"
    r"(?:(?:a|an|the|belong|to|be) )*+(?P<what>hallucinat\w*|visible|present|supported|shown|seen"
    r"|accurate|correct|fine|match(?:es)?|in the (?:image|picture))\b"
)
_OPPOSITE = re.compile(r" (?:is|are|do|does)(?: not)?$")
_NONE_BEFORE = re.compile(
    r"(?:^|[:,]|\b(?:is|are|contains?|has|see|find|found|there's|be|say|with)) ?[\"']?$"
)
_NONE_AFTER = re.compile(
    r"[\"']? ?(?:$|[,:]|(?:is |are |was |were )?(?:here|found|detected|present)?"
    r"(?:(?:is|are) (?:a )?hallucinat(?:ed|ions?))?"
    r"(?: ?in (?:the|this|its|that) (?:caption|text|description|response|answer|output|sentence))?$)"
)
_OTHERWISE = SUPPORT | {"false", "caption"}
_REFUTED = re.compile(r"[\s:\-\u2013\u2014(]*+(?:is )?(?:incorrect|wrong|false|not|no)\b")


def find_accused(vocabulary: Vocabulary, line: Line) -> set[str | None]:
    """The phrases that a text accuses; none where it speaks of one without accusing or clearing it."""
    found: dict[bool, set[str | None]] = {True: set(), False: set()}
    for clause in split_clauses(line.folded, find_named(vocabulary, line, marked=True)):
        if found[True] and RETRACTION.match(clause.text):
            return set()
        for ids, accused in () if clause.asks else _judge_clause(vocabulary, clause):
            if accused is None:
                return set()
            found[accused] |= ids
    accused_none = vocabulary.none_id in found[True] and len(found[True]) > 1
    return set() if accused_none or found[True] & found[False] else found[True]


def _judge_clause(vocabulary: Vocabulary, clause: Clause) -> Iterator[tuple[set[str | None], bool | None]]:
    """The choices that a clause names together, and whether they are accused; None where that is open."""
    named = [each for each in clause.named if clause.text[each[0] : each[1]] not in NONE_PHRASES]
    if clause.named and not named:
        yield {vocabulary.none_id}, _denies_hallucination(clause) or None
    lead = clause.text[: named[0][0]] if named else ""
    ids: set[str | None] = set()
    accused = None
    for place, (_, end, these) in enumerate(named):
        tail = clause.text[end : named[place + 1][0] if place + 1 < len(named) else None]
        ids |= these
        if place + 1 < len(named) and _JOINT.fullmatch(tail):
            continue
        if ids != {vocabulary.none_id} or not _REFUTED.match(tail):
            accused = _weigh(lead, tail, accused)
            yield ids, accused
        lead, ids = "", set()


def _denies_hallucination(clause: Clause) -> bool:
    start, end, _ = clause.named[0]
    before = _NONE_BEFORE.search(clause.text, max(0, start - 80), start)
    sure = before is not None and not is_doubted(clause.rest) and _NONE_AFTER.match(clause.text[end:])
    return len(clause.named) == 1 and bool(sure)


def _weigh(lead: str, tail: str, last: bool | None) -> bool | None:
    """What is said of what stands between two pieces of a clause; `last` was said of what precedes."""
    if len(tail) > 300:
        return None
    tail = _TRAILING.sub("", tail.replace("n't", " not"))
    introduced = _weigh_lead(lead)
    if not tail.strip(" :.,()\"'"):
        return introduced
    if last is not None and _OPPOSITE.match(tail):
        return not last
    match = _VERDICT.match(tail)
    rest = tail[match.end() :] if match else ""
    if match is None or is_doubted(rest) or is_doubted(lead) or _read_words(rest) & _OTHERWISE:
        return None
    if not _read_words(lead.rpartition(",")[2]) <= INTRODUCING:
        return None
    accuses = match["what"].startswith("hallucinat")
    if "hallucinat" in rest or (match["denied"] and match["what"] == "correct"):
        return None
    accused = accuses != bool(match["denied"])
    return accused if introduced in (None, accused) else None


def _weigh_lead(lead: str) -> bool | None:
    words = _read_words(lead.replace("n't", " not"))
    accuses, supports = "hallucinat" in lead, bool(words & SUPPORT)
    denied = bool(words & NEGATIONS)
    if accuses == supports or (supports and denied) or not words <= INTRODUCING:
        return None
    return accuses != denied


def _read_words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text))
