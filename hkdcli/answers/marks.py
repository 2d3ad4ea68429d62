"""Marked ids in a text: statements of an answer, lists of choices, and sentences about "option B"."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hkdcli.answers.chain import Chain, Line, read_chain
from hkdcli.answers.choices import Reading, Vocabulary
from hkdcli.answers.english import LEAD
from hkdcli.answers.judgements import find_predicate, judges
from hkdcli.answers.statements import CONFLICT, UNPARSED, find_statements, is_settled

_MENTION = re.compile(r"^(?=[(\[\"']{0,3}\w)|\b(?=(?:options?|choices?) )", re.MULTILINE)
_OPTION = re.compile(r"(?:the )?(?:(?:correct|right|best|hallucinated) )?(?:options?|choices?|letters?)\b")


@dataclass(frozen=True, slots=True)
class _Mention:
    """One chain outside of statements; `reading` says what it names if it stands alone.

    `gives`: it is the whole answer by itself; `accuses`: it is called hallucinated.
    """

    reading: Reading
    gives: bool = False
    accuses: bool = False


def read_marked(vocabulary: Vocabulary, text: str) -> Reading | None:
    """Read ids by their marks: see `text.parse_text`.

    Args:
        vocabulary: Of the record.
        text: A cleaned text.

    Returns:
        How is marked or words (of a statement), conflict or unparsed; None where nothing is marked.
    """
    line = Line(text)
    statements = list(find_statements(vocabulary, line))
    if statements:
        finals = [reading for is_final, reading in statements if is_final]
        return finals[-1] if finals else statements[-1][1]
    mentions = _find_mentions(vocabulary, line)
    if len(mentions) <= 1:
        return mentions[0].reading if mentions else None
    return _join_mentions(mentions)


def _join_mentions(mentions: list[_Mention]) -> Reading:
    """What several chains say together: all the same, or a hallucination each; else nothing is sure."""
    named = [mention.reading.choices for mention in mentions]
    if any(mention.reading.how == "conflict" for mention in mentions):
        return CONFLICT
    if not all(mention.gives or mention.accuses for mention in mentions):
        return UNPARSED
    together = frozenset(id_ for choices in named if choices for id_ in choices)
    alike = all(choices == together for choices in named)
    return Reading(together, "marked") if alike or all(each.accuses for each in mentions) else UNPARSED


def _find_mentions(vocabulary: Vocabulary, line: Line) -> list[_Mention]:
    found: list[_Mention] = []
    end = 0
    for match in _MENTION.finditer(line.folded):
        if match.start() < end:
            continue
        chain = read_chain(vocabulary, line, match.start(), bare=False)
        if chain is not None:
            found.append(_judge(vocabulary, line, match.start(), chain))
            end = chain.end
    return found


def _judge(vocabulary: Vocabulary, line: Line, start: int, chain: Chain) -> _Mention:
    if chain.conflict:
        return _Mention(CONFLICT)
    repeated = any(item.own for item in chain.items) and vocabulary.repeats_all(chain.ids)
    if repeated or not _is_led(line, start) or not is_settled(line, chain.end):
        return _Mention(UNPARSED)
    reading = Reading(chain.ids, "marked")
    stop = line.text.find("\n", chain.end)
    if not line.text[chain.end : stop if stop >= 0 else None].strip(" .,;!)"):
        return _Mention(reading, gives=True)
    predicate = find_predicate(line, chain.end)
    if predicate is not None:
        accuses = vocabulary.task == "hallucination" and predicate.startswith("hallucinat")
        return _Mention(reading, gives=not accuses, accuses=accuses)
    explained = start == 0 and len(chain.items) == 1 and not judges(vocabulary, line, chain.ids, chain.end)
    return _Mention(reading if explained else UNPARSED)


def _is_led(line: Line, start: int) -> bool:
    """Whether what precedes in the sentence gives what follows as an answer; a later line must say option."""
    if start == 0:
        return True
    before = re.split(r"[.!?;\n]", line.folded[max(0, start - 200) : start])[-1]
    option = _OPTION.match(line.folded, start)
    return option is not None and set(re.findall(r"[a-z']+", before)) <= LEAD
