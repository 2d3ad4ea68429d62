"""Choices named by their own words or in sentences about them, and refusals to answer."""

from __future__ import annotations

import re

from hkdcli.answers.chain import Line
from hkdcli.answers.choices import Reading, Vocabulary, fold_text, fold_words
from hkdcli.answers.clauses import Clause, find_named, split_clauses
from hkdcli.answers.english import CONDITIONS, LEAD, OPEN, RETRACTION, SUPPORT
from hkdcli.answers.judgements import is_partly
from hkdcli.answers.statements import UNPARSED
from hkdcli.answers.verdicts import find_accused

_ONLY_SEPARATORS = re.compile(r"(?:[\s,;.:&|+\"'()\[\]]|\band\b|\b\d{1,2}[.)])*+")
_NOT_ANY = re.compile(
    r"\b(?:do|does)(?:n't| not) (?:see|contain|have|find|include|show) any(?= hallucination)"
)
_REFUSAL = re.compile(
    r"\bi(?:'m| am) sorry\b|\bsorry, (?:but )?i\b|\bi apologi[sz]e\b|\bas an ai\b|\bunable to\b"
    r"|\bnot able to\b"
    r"|\bi (?:can't|cannot|can not|could not|couldn't|am unable|won't|do not have|don't have)\b"
    r"|\bno image (?:was|is|has been) (?:provided|given|attached)\b"
)
_SUBJECT = (
    r"(?:it(?:'s| is)|this(?: is)?|(?:the )?factuality of (?:the|this) claim is"
    r"|(?:(?:the|this|that|given|provided|above) )*+(?:claim|statement)(?: itself| as a whole)?"
    r"(?: that .*|:? ?[\"'(]{1,2}this[.\"')]{1,3})?"
    r"(?: is(?: best)?:?| as| (?:should|can) be(?= [a-z]+ed )| (?:appears|seems)(?: to be)?| (?:to|must) be"
    r"| remains)|(?:this |which )?mak(?:es|ing) (?:it|(?:the|this) claim))"
)
_BEFORE = re.compile(
    r"(?:(?:^|[,;\u2013\u2014]|\b(?:so|therefore|thus|hence)\b|\b(?:conclusion|verdict|answer|output|result):)"
    r"[ \"'(]*(?:(?:and|but|so|therefore|thus|hence|overall|no|yes)\b,? )*+"
    r"(?:(?:i(?:'d| would)? (?:think|believe|say|conclude|rate|classify|label|find)|we (?:can )?conclude) )?"
    r"(?:that )?"
    + _SUBJECT
    + r"(?: (?:therefore|thus|hence|clearly|indeed|in fact|definitely|completely|factually|likely|probably"
    r"|only|(?:labeled|classified|considered|deemed|rated)(?: as)?))*+"
    r"|^[ \"'(]*(?:(?:so|therefore|thus|hence|overall|no|yes)\b[,:]? )*+)[ :\"'(]*$"
)
_AFTER = re.compile(
    r"[\"')]* ?(?:$|that this$|[,:(\u2013\u2014-][ \"'\u2013\u2014-]*(?P<next>\w*)"
    r"|(?:because|since|as(?! to)|based|according to (?!the context)|given|due|rather than)\b)"
)


def read_words(vocabulary: Vocabulary, text: str) -> Reading:
    """Read the choices' own words, and what is said of choices: see `text.parse_text`."""
    whole = fold_words(text)
    if whole == vocabulary.caption:
        return UNPARSED
    is_claim = vocabulary.task == "factuality"
    line = Line(_NOT_ANY.sub("has no", text.replace(":\n", ": ")))
    found = {vocabulary.words[whole]} if whole in vocabulary.words else _find_listed(vocabulary, line)
    if not found:
        found = (find_labels if is_claim else find_accused)(vocabulary, line)
    ids = frozenset(id_ for id_ in found if id_ is not None)
    if len(ids) < len(found) or not ids or (is_claim and len(ids) > 1) or vocabulary.repeats_all(ids):
        return UNPARSED
    return Reading(ids, "words")


def _find_listed(vocabulary: Vocabulary, line: Line) -> set[str | None]:
    """What a text lists that is choices' words and what parts them, or one sentence that leads up to them."""
    named = tuple(find_named(vocabulary, line, marked=False))
    if not named:
        return set()
    whole = Clause(line.folded, False, named)
    before, behind = line.folded[: named[-1][0]], line.folded[named[-1][1] :]
    leads = set(re.findall(r"[a-z']+", whole.rest)) <= LEAD - SUPPORT | {"a", "an"}
    if not _ONLY_SEPARATORS.fullmatch(whole.rest) and not (
        leads and _ONLY_SEPARATORS.fullmatch(behind) and not re.search(r"[.!?\n]", before)
    ):
        return set()
    return {id_ for _, _, ids in named for id_ in ids}


def find_labels(vocabulary: Vocabulary, line: Line) -> set[str | None]:
    """The labels that clauses of a text give as the answer; those that they deny or doubt are passed over."""
    found: set[str | None] = set()
    line = Line(line.folded.replace(vocabulary.caption, "this") if vocabulary.caption else line.folded)
    for clause in split_clauses(line.folded, find_named(vocabulary, line, marked=False)):
        if RETRACTION.match(clause.text):
            found.clear()
        starts = {start for start, _, _ in clause.named}
        for start, end, ids in () if clause.asks else clause.named:
            if _is_given(clause.text, start, end, starts):
                found |= ids
    return found


def _is_given(clause: str, start: int, end: int, starts: set[int]) -> bool:
    after = _AFTER.match(clause, end)
    if after is None or after["next"] in OPEN or CONDITIONS & {*clause[:40].split()[:1]}:
        return False
    if after.start("next") in starts or is_partly(clause, end):
        return False  # "true, false or not verifiable"
    return _BEFORE.search(clause, max(0, start - 300), start) is not None


def is_refusal(text: str) -> bool:
    """Whether a cleaned text says that no answer can be given."""
    return _REFUSAL.search(fold_text(text)) is not None
