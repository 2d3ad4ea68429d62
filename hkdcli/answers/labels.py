"""Labels that a text about a claim gives by their words: "Based on the image, the claim is false: ..."."""

from __future__ import annotations

import re

from hkdcli.answers.chain import Line
from hkdcli.answers.choices import Vocabulary
from hkdcli.answers.clauses import find_named, split_clauses
from hkdcli.answers.english import CONDITIONS, OPEN, RETRACTION
from hkdcli.answers.judgements import is_partly

_SUBJECT = (
    r"(?:it(?:'s| is)|this(?: is)?|(?:the )?factuality of (?:the|this) claim is"
    r"|(?:(?:the|this|that|given|provided|above) )*+(?:claim|statement)(?: itself| as a whole)?"
    r"(?: that .*|:? ?[\"'(].*)?(?: is(?: best)?:?| as| (?:should|can) be| (?:appears|seems)(?: to be)?))"
)
_BEFORE = re.compile(
    r"(?:(?:^|[,:;\u2013\u2014]|\b(?:so|therefore|thus|hence)\b)[ \"'(]*"
    r"(?:(?:and|but|so|therefore|thus|hence|overall|no|yes)\b,? )*+"
    r"(?:(?:i(?:'d| would)? (?:think|believe|say|conclude|rate|classify|label)|we can conclude) )?(?:that )?"
    + _SUBJECT
    + r"(?: (?:therefore|thus|hence|clearly|indeed|definitely|completely|factually|likely|probably|labeled"
    r"|classified|considered|deemed|rated|as|only))*+"
    r"|^[ \"'(]*(?:(?:so|therefore|thus|hence|overall|no|yes)\b[,:]? )*+)[ :\"'(]*$"
)
_AFTER = re.compile(
    r"[\"')]* ?(?:$|[,:(\u2013\u2014-][ \"'\u2013\u2014-]*(?P<next>\w*)"
    r"|(?:because|since|as(?! to)|based|according to (?!the context)|given|due|rather than)\b)"
)
_WORD = re.compile(r"\w+")


def find_labels(vocabulary: Vocabulary, line: Line) -> set[str | None]:
    """The labels that clauses of a text give as the answer; those that they deny or doubt are passed over."""
    found: set[str | None] = set()
    for clause in split_clauses(line.folded, find_named(vocabulary, line, marked=False)):
        if RETRACTION.match(clause.text):
            found.clear()
        for start, end, ids in () if clause.asks else clause.named:
            if _is_given(clause.text, start, end):
                found |= ids
    return found


def _is_given(clause: str, start: int, end: int) -> bool:
    first = _WORD.search(clause)
    after = _AFTER.match(clause, end)
    if after is None or after["next"] in OPEN or (first is not None and first[0] in CONDITIONS):
        return False
    return _BEFORE.search(clause, max(0, start - 300), start) is not None and not is_partly(clause, end)
