"""Marked ids in a text: statements of an answer, lists of choices, and sentences about "option B"."""

from __future__ import annotations

import re

from hkdcli.answers.chain import Chain, Line, read_chain
from hkdcli.answers.choices import Reading, Vocabulary, read_ids
from hkdcli.answers.english import LEAD, RETRACTION
from hkdcli.answers.judgements import find_predicate, is_judged
from hkdcli.answers.statements import CONFLICT, UNPARSED, find_statements, is_settled
from hkdcli.answers.verdicts import find_accused
from hkdcli.answers.words import find_labels

_OPENING = re.compile(
    r"(?:just |only |probably )?(?P<ids>.{1,60}?)(?: only)?\.?"
    r"(?:$|\n|,? (?:because|since|as(?! well)|but not)\b)",
    re.IGNORECASE,
)
_CLOSING = re.compile(r"(?m:^).{8,}[^:\n]\n(?P<ids>.{1,60})$")
_MENTION = re.compile(r"^(?=[(\[\"']{0,3}\w)|\b(?=(?:options?|choices?) )", re.MULTILINE)
_OPTION = re.compile(r"(?:the )?(?:(?:correct|right|best|hallucinated) )?(?:options?|choices?|letters?)\b")


def read_marked(vocabulary: Vocabulary, text: str) -> Reading | None:
    """Read ids by their marks, None where there are none: see `text.parse_text`."""
    line = Line(text)
    statements = list(find_statements(vocabulary, line))
    if statements:
        finals = [reading for is_final, reading in statements if is_final]
        return finals[-1] if finals else statements[-1][1]
    mentions = _find_mentions(vocabulary, line)
    given = [reading for reading, gives in mentions if gives]
    matches = (_OPENING.match(text), _CLOSING.search(text))
    alone = [each for match in matches if match if (each := _read_alone(vocabulary, line, match))]
    if alone or len(given) == len(mentions):
        given += alone
        return None if not given else given[0] if len(set(given)) == 1 else UNPARSED
    conflict = any(reading == CONFLICT for reading, _ in mentions)
    return CONFLICT if conflict else mentions[0][0] if len(mentions) == 1 else UNPARSED


def _read_alone(vocabulary: Vocabulary, line: Line, match: re.Match[str]) -> Reading | None:
    """Ids that stand alone on the first or last line, where no other line takes them back."""
    ids, end = read_ids(match["ids"], vocabulary).choices, match.end("ids")
    if not ids or RETRACTION.match(line.folded, match.end()) or is_judged(vocabulary, line, ids, end):
        return None
    accused = find_accused(vocabulary, Line(line.text[match.end() :]))
    return Reading(ids, "marked") if accused <= ids else UNPARSED


def _find_mentions(vocabulary: Vocabulary, line: Line) -> list[tuple[Reading, bool]]:
    """What each chain outside of statements names if it stands alone, and whether it is the whole answer."""
    found = []
    end = 0
    for match in _MENTION.finditer(line.folded):
        if match.start() < end:
            continue
        chain = read_chain(vocabulary, line, match.start(), bare=False)
        if chain is not None:
            found.append(_judge(vocabulary, line, match.start(), chain))
            end = chain.end
    return found


def _judge(vocabulary: Vocabulary, line: Line, start: int, chain: Chain) -> tuple[Reading, bool]:
    if chain.conflict:
        return CONFLICT, False
    repeated = any(item.own for item in chain.items) and vocabulary.repeats_all(chain.ids)
    if repeated or not _is_led(line, start) or not is_settled(line, chain.end):
        return UNPARSED, False
    reading = Reading(chain.ids, "marked")
    stop = line.text.find("\n", chain.end)
    rest = line.text[chain.end : stop if stop >= 0 else None].strip(" .,;!)")
    if not rest or find_predicate(line, chain.end) is not None:
        return reading, True
    explained = start == 0 and len(chain.items) == 1 and not is_judged(vocabulary, line, chain.ids, chain.end)
    if vocabulary.task == "factuality" and find_labels(vocabulary, Line(rest)) - chain.ids:
        return CONFLICT, False
    return (reading if explained else UNPARSED), False


def _is_led(line: Line, start: int) -> bool:
    """Whether what precedes in the sentence gives what follows as an answer; a later line must say option."""
    if start == 0:
        return True
    before = re.split(r"[.!?;\n]", line.folded[max(0, start - 200) : start])[-1]
    option = _OPTION.match(line.folded, start)
    return option is not None and set(re.findall(r"[a-z']+", before)) <= LEAD
