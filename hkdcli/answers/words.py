"""Choices named by their own words or in sentences about them, and refusals to answer."""

from __future__ import annotations

import re

from hkdcli.answers.chain import Line
from hkdcli.answers.choices import Reading, Vocabulary, fold_text, fold_words
from hkdcli.answers.clauses import Clause, find_named
from hkdcli.answers.english import LEAD, SUPPORT
from hkdcli.answers.labels import find_labels
from hkdcli.answers.statements import UNPARSED
from hkdcli.answers.verdicts import find_accused

_ONLY_SEPARATORS = re.compile(r"(?:[\s,;.:&|+\"'()\[\]]|\band\b|\b\d{1,2}[.)])*+")
_REFUSAL = re.compile(
    r"\bi(?:'m| am) sorry\b|\bsorry, (?:but )?i\b|\bi apologi[sz]e\b|\bas an ai\b|\bunable to\b"
    r"|\bnot able to\b"
    r"|\bi (?:can't|cannot|can not|could not|couldn't|am unable|won't|do not have|don't have)\b"
    r"|\bno image (?:was|is|has been) (?:provided|given|attached)\b"
)


def read_words(vocabulary: Vocabulary, text: str) -> Reading:
    """Read the choices' own words, and verdicts on them: see `text.parse_text`.

    Args:
        vocabulary: Of the record.
        text: A cleaned text.

    Returns:
        How is words or unparsed.
    """
    whole = fold_words(text)
    if whole == vocabulary.caption:
        return UNPARSED
    is_claim = vocabulary.task == "factuality"
    line = Line(text.replace(":\n", ": "))
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


def is_refusal(text: str) -> bool:
    """Whether a cleaned text says that no answer can be given."""
    return _REFUSAL.search(fold_text(text)) is not None
