"""Choices named by their own words, and refusals to answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hkdcli.answers.chain import is_boundary
from hkdcli.answers.choices import NONE_PHRASES, Reading, Vocabulary, fold_text, fold_words
from hkdcli.answers.english import LACKING, LEAD, SUPPORT, is_doubted
from hkdcli.answers.judgements import is_partly
from hkdcli.answers.statements import UNPARSED

_CLAUSE_END = re.compile(r"[.!?;](?=\s|$)|\n|\b(?:because|since|while|whereas)\b")
_ONLY_SEPARATORS = re.compile(r"(?:[\s,;.:&|+\"'()\[\]]|\band\b|\b\d{1,2}[.)])*+")
_NONE_BEFORE = re.compile(
    r"(?:^|[:,]|\b(?:is|are|contains?|has|see|find|found|there's|be|say|with)) ?[\"']?$"
)
_NONE_AFTER = re.compile(
    r"[\"']? ?(?:$|[,:]|(?:is |are |was |were )?(?:here|found|detected|present)?"
    r"(?: ?in (?:the|this|its|that) (?:caption|text|description|response|answer|output|sentence))?$)"
)
_LABEL_BEFORE = re.compile(
    r"(?:^|[:,(\"']|\b(?:is|are|as|be|was|say|with|answer|label|verdict|claim|statement))"
    r"(?: (?:therefore|thus|hence|clearly|indeed|definitely|completely|factually))?[ :\"'(]*$"
)
_LABEL_AFTER = re.compile(
    r"[\"')]* ?(?:$|[,:(\u2013\u2014-]|(?:because|since|as|based|according|given|due)\b)"
)
_REQUIRED = re.compile(r"\bfor\b.* to be[ \"']*$")
_CORRECTION = re.compile(r"[ \"']*(?:however|but|although|actually|wait|that said)\b")
_REFUSAL = re.compile(
    r"\bi(?:'m| am) sorry\b|\bsorry, (?:but )?i\b|\bi apologi[sz]e\b|\bas an ai\b|\bunable to\b"
    r"|\bnot able to\b"
    r"|\bi (?:can't|cannot|can not|could not|couldn't|am unable|won't|do not have|don't have)\b"
    r"|\bno image (?:was|is|has been) (?:provided|given|attached)\b"
)


@dataclass(frozen=True, slots=True)
class _Clause:
    """A folded clause and the choices' words in it: (start, end, id), from its own beginning."""

    text: str
    asks: bool
    first: bool
    named: tuple[tuple[int, int, str | None], ...]

    @property
    def is_bare(self) -> bool:
        """Whether it begins the text and is one choice's words and nothing else."""
        return self.first and len(self.named) == 1 and not self.rest.strip(" \"'()")

    @property
    def rest(self) -> str:
        """The clause without the choices' words."""
        pieces, place = [], 0
        for start, end, _ in self.named:
            pieces.append(self.text[place:start])
            place = end
        return " ".join([*pieces, self.text[place:]])


def read_words(vocabulary: Vocabulary, text: str) -> Reading | None:
    """Read the choices' own words: see `text.parse_text`.

    Args:
        vocabulary: Of the record.
        text: A cleaned text.

    Returns:
        How is words or unparsed; None where no choice is named.
    """
    whole = fold_words(text)
    if whole == vocabulary.caption:
        return UNPARSED
    folded = fold_text(text).replace(":\n", ": ")
    named = [(0, len(folded), vocabulary.words[whole])] if whole in vocabulary.words else []
    named = named or _find_named(vocabulary, folded.replace("\n", " "))
    if not named:
        return None
    listed = _is_list(_Clause(folded, False, True, tuple(named)))
    clauses = [clause for clause in _split_clauses(folded, named) if clause.named and not clause.asks]
    if not listed and vocabulary.task == "factuality" and clauses and clauses[0].is_bare:
        # A label and its explanation, in which other labels may be denied, but not given after a "however".
        clauses = [
            clauses[0],
            *(each for each in clauses[1:] if _CORRECTION.match(each.text) or _is_answer(vocabulary, each)),
        ]
    elif not listed and not all(_is_answer(vocabulary, clause) for clause in clauses):
        return UNPARSED
    counted = named if listed else [each for clause in clauses for each in clause.named]
    found = {id_ for _, _, id_ in counted}
    ids = frozenset(id_ for id_ in found if id_ is not None)
    several = len(ids) > 1 and not listed and (vocabulary.task == "factuality" or vocabulary.none_id in ids)
    if not ids or len(ids) < len(found) or several or vocabulary.repeats_all(ids):
        return UNPARSED
    return Reading(ids, "words")


def _is_list(whole: _Clause) -> bool:
    """Whether a text is choices' words and what parts them, or one sentence that leads up to them."""
    if _ONLY_SEPARATORS.fullmatch(whole.rest):
        return True
    ends = _ONLY_SEPARATORS.fullmatch(whole.text[whole.named[-1][1] :])
    leads = set(re.findall(r"[a-z']+", whole.rest)) <= LEAD - SUPPORT | {"a", "an"}
    return bool(ends) and leads and not re.search(r"[.!?\n]", whole.text[: whole.named[-1][0]])


def is_refusal(text: str) -> bool:
    """Whether a cleaned text says that no answer can be given."""
    return _REFUSAL.search(fold_text(text)) is not None


def _find_named(vocabulary: Vocabulary, folded: str) -> list[tuple[int, int, str | None]]:
    """Where the choices' words stand, longest first, none over another, in order of place."""
    taken = bytearray(len(folded))
    found = []
    for words, id_ in vocabulary.words.items():
        if words == "none":  # in a sentence it denies something
            continue
        start = folded.find(words)
        while start >= 0:
            end = start + len(words)
            if is_boundary(folded, start) and is_boundary(folded, end) and not any(taken[start:end]):
                taken[start:end] = b"\1" * len(words)
                found.append((start, end, id_))
            start = folded.find(words, end)
    return sorted(found, key=lambda span: span[:2])


def _split_clauses(folded: str, named: list[tuple[int, int, str | None]]) -> Iterator[_Clause]:
    """Cut a text where a clause ends outside of the choices' words."""
    start, place = 0, 0
    for match in (*_CLAUSE_END.finditer(folded), None):
        end = match.start() if match else len(folded)
        inside = []
        while place < len(named) and named[place][0] < end:
            inside.append(named[place])
            place += 1
        if inside and inside[-1][1] > end:
            place -= len(inside)
            continue
        yield _Clause(
            folded[start:end],
            match is not None and match[0] == "?",
            start == 0,
            tuple((first - start, last - start, id_) for first, last, id_ in inside),
        )
        start = match.end() if match else end


def _is_answer(vocabulary: Vocabulary, clause: _Clause) -> bool:
    """Whether a clause of prose gives what it names as the answer, beyond doubt."""
    if is_doubted(clause.rest):
        return False
    if vocabulary.task == "factuality":
        return not LACKING & set(re.findall(r"[a-z]+", clause.rest)) and all(
            _LABEL_BEFORE.search(clause.text, *_span_before(start))
            and _LABEL_AFTER.match(clause.text[end:])
            and not is_partly(clause.text, end)
            and not _REQUIRED.search(clause.text, *_span_before(start))
            for start, end, _ in clause.named
        )
    if any(id_ == vocabulary.none_id for _, _, id_ in clause.named):
        return len(clause.named) == 1 and _denies_hallucination(clause)
    return "hallucinat" in clause.rest and not set(clause.rest.split()) & SUPPORT


def _denies_hallucination(clause: _Clause) -> bool:
    start, end, _ = clause.named[0]
    known = clause.text[start:end] in NONE_PHRASES
    before = _NONE_BEFORE.search(clause.text, *_span_before(start))
    return known and bool(before and _NONE_AFTER.match(clause.text[end:]))


def _span_before(start: int) -> tuple[int, int]:
    """Where to search for what ends at a place: nearby, since a long run of quotes would take long."""
    return max(0, start - 80), start
