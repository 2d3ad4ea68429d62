"""Sentences of a context that stand by themselves: which can change places, and which can go.

Splitting rather too seldom than too often is safe: sentences that stay together move together.
"""

from __future__ import annotations

import re
from collections import Counter

from hkdcli.augment.words import compute_stems, fold_text, read_words
from hkdcli.data import english
from hkdcli.data.english import read_list

_END = re.compile(r"(?<=[.!])\s+")
_ABBREVIATIONS = read_list(
    """
    mr mrs ms dr prof st sr jr rev hon gen col lt sgt capt cpl maj adm gov sen rep messrs mt ft no
    nos vol vols fig figs eq ch sec pp ed eds al etc vs cf ca approx est inc ltd co corp bros dept univ
    assn ave blvd rd sq lb lbs oz in mi hr hrs min mins max avg tel ext misc orig op jan feb mar apr jun
    jul aug sep sept oct nov dec mon tue tues wed thu thurs fri sat viz ie eg ad bc
    """
)
_LIST_MARK = re.compile(r"\W*(?:\d+|[a-zA-Z]|[ivxIVX]+)[.)\]:]")
_UNSAFE_MARKS = re.compile(r"[\"\u201c-\u201f\u00ab\u00bb\u2018`?\u2026\n\r:;]|\.\.|(?<!\w)'")

_TIES = read_list(
    """
    he him his himself she her hers herself it its itself they them their theirs themselves this that
    these those there then thus hence therefore thereby therein thereafter however moreover furthermore
    additionally besides also too instead meanwhile afterwards afterward later earlier previously
    subsequently next finally first firstly second secondly third thirdly last lastly latter
    former other others another same such so both either neither each else again still yet similarly
    likewise consequently accordingly otherwise nevertheless nonetheless though although now above below
    following aforementioned mentioned respectively one ones who whom whose which we us our ours you
    your yours i me my mine here all none some more most eventually since until because when
    rather indeed namely example instance smaller larger bigger taller shorter older younger faster
    slower became closed shut emptied extinguished blew switched woke divorced sold bought
    """
)
"""Words that may tie a sentence to the one before it."""
_NO_TIES = re.compile(r"\bnext to\b|(?<!\bthe )(?<!\bas )\b(?:above|below)\b")
"""The same words where they only say where a thing is."""
_OPENERS = read_list("and but or nor for not unlike")
_DOUBTS = read_list(
    """
    not no never nobody nothing nowhere cannot without but however although though despite except unless
    only false falsely wrong wrongly incorrect incorrectly untrue inaccurate mistaken mistake error
    hoax myth legend fiction fictional fictitious imaginary invented fake rumour rumor alleged allegedly
    claim claimed supposed supposedly reportedly purported dispute disputed deny denied contradict
    retract correct corrected contrary unclear unknown unconfirmed unverified uncertain doubt doubtful
    conflict conflicting disagree vary varies guess estimate contradictory inconsistent
    debate debated may might could possibly perhaps probably maybe likely unlikely if whether believe
    believed think thought say said seem appear former formerly instead replaced demolished ceased
    originally different differ
    """
)
"""Words that may take back, or put in doubt, what another sentence says."""
_FUNCTION_WORDS = (
    english.DETERMINERS | english.PREPOSITIONS | english.AUXILIARIES | english.STOPS | english.ADVERBS
)
_WORDS_AFTER_THE = 3


def split_sentences(text: str) -> tuple[str, ...]:
    """Cut a text at the blanks where a sentence surely ends.

    Args:
        text: any text.

    Returns:
        The parts in order, none empty; an abbreviation, an initial or a number (but a year) before the
        stop ends none.
    """
    parts: list[list[str]] = []
    for piece in _END.split(text.strip()):
        if parts and not _is_border(parts[-1][-1], piece):
            parts[-1].append(piece)
        elif piece:
            parts.append([piece])
    return tuple(" ".join(pieces) for pieces in parts)


def find_tie(text: str) -> str | None:
    """What may tie the sentences of a text to their order or to each other; None where each stands alone.

    Args:
        text: any text.

    Returns:
        In a word or two: a pronoun, a connective, a mark of quotation, question or list, an open end, or a
        thing that one sentence calls "the" and another speaks of, too.
    """
    if _UNSAFE_MARKS.search(text):
        return "punctuation"
    sentences = split_sentences(text)
    words = [read_words(_NO_TIES.sub(" ", fold_text(sentence))) for sentence in sentences]
    for sentence, spoken in zip(sentences, words, strict=True):
        if sentence.count("(") != sentence.count(")"):
            return "punctuation"
        if _LIST_MARK.match(sentence):
            return "a list"
        if not spoken or not _ends(sentence):
            return "an open end"
        tie = next((word for word in spoken if word in _TIES), spoken[0] if spoken[0] in _OPENERS else None)
        if tie is not None:
            return tie
    ends = [word for spoken in words for word in (spoken[0], spoken[-1])]
    return _find_shared(words) or next((word for word in ends if word in english.PREPOSITIONS), None)


def find_doubt(sentences: tuple[str, ...]) -> str | None:
    """The first word that may take back what another sentence says; None where there is none."""
    return next(
        (word for each in sentences for word in _read_forms(each) if word in _DOUBTS),
        None,
    )


def find_content(text: str) -> frozenset[str]:
    """The words of a text that are no function words, with what they may be forms of."""
    words = [word for word in read_words(fold_text(text)) if word not in _FUNCTION_WORDS]
    return frozenset(stem for word in words for stem in compute_stems(word))


def _read_forms(text: str) -> list[str]:
    return [stem for word in read_words(fold_text(text)) for stem in compute_stems(word)]


def _is_border(piece: str, after: str) -> bool:
    """Whether a sentence ends between two pieces of a text; "Yahoo! in 2013" is one."""
    return _ends(piece) and not (piece.endswith("!") and after[:1].islower())


def _ends(part: str) -> bool:
    """Whether a part ends as sentences do: in a stop after a word that is no abbreviation, or a year."""
    last = part.split()[-1]
    if last[-1] not in ".!":
        return False
    word = re.sub(r"[-'\u2019()\[\]]", "", last[:-1]).lower()
    is_word = word.isalpha() and len(word) > 1 and word not in _ABBREVIATIONS
    return is_word or bool(re.fullmatch(r"\d{4}", word))


def _find_shared(sentences: list[tuple[str, ...]]) -> str | None:
    """A word that a sentence says soon after "the", and another sentence says, too; a number after "the"."""
    stems = [{stem for word in words for stem in compute_stems(word)} for words in sentences]
    counts = Counter(stem for each in stems for stem in each)
    for words in sentences:
        for place in (i for i, word in enumerate(words) if word == "the"):
            for word in words[place + 1 : place + 1 + _WORDS_AFTER_THE]:
                is_shared = any(counts[stem] > 1 for stem in compute_stems(word))
                if word in english.NUMBERS or (is_shared and word not in _FUNCTION_WORDS):
                    return word
    return None
