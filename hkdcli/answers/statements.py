"""Statements of an answer: "The answer is (B)", "Final answer: B, C", "I choose C"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from hkdcli.answers.chain import Chain, Line, find_words, read_chain
from hkdcli.answers.choices import Reading, Vocabulary
from hkdcli.answers.english import CONDITIONS, FOLLOWING, OPEN, RETRACTION, SET_ASIDE, SUPPORT, is_doubted
from hkdcli.answers.judgements import is_judged

UNPARSED, CONFLICT = Reading(None, "unparsed"), Reading(None, "conflict")

_STATEMENT = re.compile(
    r"^(?:the |my )?(?P<heading>final |correct )?answers?\n|"
    r"\b(?P<final>final )?(?:(?:options?|choices?|labels?|verdict|prediction|conclusion)(?:\(s\))?"
    r"|(?:answers?|hallucinations?|hallucinated)(?:\(s\))?(?P<between>(?: [a-z]+){0,4}?))"
    r" ?(?:[:=\u2192]|->|- |(?<= )(?:is|are|be)\b:?)"
    r"|\bi(?:'d|'ll| would| will)? (?:choose|select|pick|say|answer|go with)(?: with)?\b:?"
    r"|^(?:response|output|result|classification|judgement|judgment|rating|factuality|overall|final):"
    r"|(?:\b(?:so|therefore|thus|hence),? (?:it's |it is )?|\bit(?:'s| is) )"
    r"(?=(?:option )?[\"'(]{0,2}\w[\"')]{0,2}(?:[.,;]|$))",
    re.MULTILINE,
)
_CLAUSE = re.compile(r"[.,;:!?\n]|\b(?:so|therefore|thus|hence)\b")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_CORRECT = re.compile(r"\b(?:correct|right|true) (?:options?|choices?)\b")
_NOT_OF = re.compile(r"\b(?:free|number|count) of $")
_BEFORE_CONTENT = re.compile(
    r"[ \n-]*+(?:(?:only|just|probably|likely|clearly|therefore|thus|indeed|definitely) )?"
    r"(?:(?P<number>\d{1,2})[.)] )?"
)
_SENTENCE = re.compile(r"[^.!?\n]{0,300}[.!?\n]{1,20} ?")
_ARTICLE = re.compile(r"[ (\[\"']{0,4}(?:(?:the|an?|that|it is|it's) )?[\"'(\[]{0,2}")
_BETWEEN_WORDS = re.compile(
    r"[\"')\]]{0,3}(?:[ ,;&\n]{1,4}(?:and )?(?:the |an? |\d{1,2}[.)] )?)?[\"'(\[]{0,3}"
)
_NEXT = re.compile(r"[ ,;\-\u2013\u2014]{0,4}([a-z]+)(?: (not)\b)?")
_SENTENCE_END = re.compile(r"[.!?\n]")


def find_statements(vocabulary: Vocabulary, line: Line) -> Iterator[tuple[bool, Reading]]:
    """Whether each statement calls itself final, and its reading; unparsed if it denies, doubts or asks."""
    accused = False
    for match in _STATEMENT.finditer(line.folded):
        start = _find_content(vocabulary, line.folded, match.end())
        denied = line.folded.startswith("not ", start) and not find_words(vocabulary, line.folded, start)
        reading = _read_content(vocabulary, line, start + 4 * denied)
        if reading is None:
            continue
        said = _find_clause(line.folded, match.start()) + match[0]
        # "Hallucinated options: C. Correct options: B, D" calls correct what is no hallucination.
        doubted = denied or _is_aside(vocabulary, line, match) or (accused and bool(_CORRECT.search(said)))
        sentence = _SENTENCE.match(line.folded, start)
        doubted = doubted or (sentence is not None and bool(RETRACTION.match(line.folded, sentence.end())))
        accused = accused or "hallucinat" in said
        yield (
            "final " in (match["final"], match["heading"]),
            UNPARSED if doubted or is_doubted(said) else reading,
        )


def _find_content(vocabulary: Vocabulary, folded: str, start: int) -> int:
    """Where the answer begins behind a mark: not with an adverb, nor with the number of a list."""
    match = _BEFORE_CONTENT.match(folded, start)
    if match is None:
        return start
    return match.start("number") if match["number"] and vocabulary.find_id(match["number"]) else match.end()


def _is_aside(vocabulary: Vocabulary, line: Line, match: re.Match[str]) -> bool:
    """Whether a mark is not about the answer: "visible options", "the answer to B", "If ..., the answer"."""
    between = line.text[slice(*match.span("between"))].split() if match["between"] else []
    sentence = _SENTENCE_END.split(line.folded[max(0, match.start() - 200) : match.start()])[-1]
    words = _WORD.findall(sentence) or [""]
    return (
        any(vocabulary.find_id(word) for word in between if not word.islower())
        or bool((SUPPORT | SET_ASIDE).intersection(word.lower() for word in between))
        or words[0] in CONDITIONS
        or words[-1] in SET_ASIDE
        or _NOT_OF.search(sentence) is not None
    )


def _find_clause(folded: str, end: int) -> str:
    """What precedes a place in its clause, 200 characters at most."""
    before = folded[max(0, end - 200) : end]
    cuts = [match.end() for match in _CLAUSE.finditer(before)]
    return before[cuts[-1] if cuts else 0 :].removeprefix(" but ")


def _read_content(vocabulary: Vocabulary, line: Line, start: int) -> Reading | None:
    """What stands behind the mark: ids, or a choice's words; None where it is something else."""
    chain = read_chain(vocabulary, line, start, bare=True)
    if chain is None or _begins_with_article(line, start, chain):
        return _read_words(vocabulary, line, start)
    if chain.conflict:
        return CONFLICT
    if any(item.own for item in chain.items) and vocabulary.repeats_all(chain.ids):
        return None  # the question's own list
    if is_judged(vocabulary, line, chain.ids, chain.end) or not _is_settled(line, chain):
        return UNPARSED
    return Reading(chain.ids, "marked")


def _begins_with_article(line: Line, start: int, chain: Chain) -> bool:
    """Whether the chain is the first word of a phrase: "a blue shelf"."""
    if len(chain.items) > 1 or not chain.items[0].article:
        return False
    return line.text[start].islower() if chain.conflict else not _is_settled(line, chain)


def _is_settled(line: Line, chain: Chain) -> bool:
    """Whether the sentence ends with the chain, or goes on without leaving it open."""
    if chain.items[-1].article and line.text[chain.end : chain.end + 1] == " ":
        return _find_next_word(line, chain.end) in FOLLOWING | {"is", "are"} and is_settled(line, chain.end)
    return is_settled(line, chain.end)


def _find_next_word(line: Line, end: int) -> str:
    match = _NEXT.match(line.folded, end)
    return match[1] if match else ""


def is_settled(line: Line, end: int) -> bool:
    """Whether nothing behind a place asks, adds to or takes back what is named: no "or", "but", "and"."""
    stop = _SENTENCE_END.search(line.text, end, end + 300)
    if stop is not None and stop[0] == "?":
        return False
    following = _NEXT.match(line.folded, end)
    return following is None or following[1] not in OPEN or (following[1] == "and" and bool(following[2]))


def _read_words(vocabulary: Vocabulary, line: Line, start: int) -> Reading | None:
    """Choices named by their words at a place, one or several, after which nothing takes them back."""
    found: set[str | None] = set()
    opening = _ARTICLE.match(line.folded, start)
    place = opening.end() if opening else start
    end = place
    while (words := find_words(vocabulary, line.folded, place)) is not None:
        found.add(words[0])
        end = words[1]
        between = _BETWEEN_WORDS.match(line.folded, end)
        place = between.end() if between else end
    if not found:
        return None
    following = _find_next_word(line, end)
    settled = line.text[end : end + 1] != " " or following in FOLLOWING or following in ("is", "are")
    ids = frozenset(each for each in found if each is not None)
    settled = settled and is_settled(line, end) and not is_judged(vocabulary, line, ids, end)
    if len(ids) < len(found) or not settled or vocabulary.repeats_all(ids):
        return UNPARSED
    return Reading(ids, "words")
