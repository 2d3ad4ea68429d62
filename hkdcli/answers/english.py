"""Words of English by which an answer is given, denied, doubted or only spoken about."""

from __future__ import annotations

import re

from hkdcli.data.english import read_list

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


NEGATIONS = read_list("not no never neither nor none without cannot hardly barely nothing nobody non")
HEDGES = read_list(
    """if whether could might may or either perhaps possibly maybe unless doubt doubtful unclear unsure
    wonder rather except other than instead unlike but though although however wrong incorrect mostly partly
    zero less least fewer"""
)
"""With one of these or of NEGATIONS a sentence says something else than it names, or leaves it open."""

OPEN = read_list("or but though although unless if except nor either and for provided assuming however")
"""Words that, right behind an answer, add to it or take it back."""

FOLLOWING = read_list("because since as which due based given hallucinated")
"""Words that may follow an answer and say no more about which it is."""

LEAD = read_list(
    """so therefore thus hence it it's is i i'd i'm i'll would will say think believe choose select pick go
    with my the correct right best answer answers that's this that be must are and in conclusion final
    hallucinated hallucination finally overall"""
)
"""Words that may stand before "option B" in a sentence that gives it as the answer."""

SUPPORT = read_list(
    """visible present right best correct correctly true truly accurate accurately supported shown seen appear
    appears match matches consistent"""
)
"""Words by which a choice is called true to the picture, or may be."""

JUDGING = SUPPORT | read_list(
    """false yes no not incorrect unsupported wrong is are was were isn't aren't can cannot can't could does
    has says states refers factual seems seem looks look do don't doesn't have fine ok okay real absent
    missing non grounded"""
)
"""Words that begin what is said about a choice, so that "B: visible" is no answer."""

DOUBTING = read_list("yes no wrong incorrect is are isn't aren't was seems looks")
"""The same behind a stated verdict: "D: cannot be verified" explains it."""

_NOUNS = "phrase option choice element object part output item hallucination system"
INTRODUCING = (LEAD | SUPPORT).union(
    read_list(_NOUNS + " " + _NOUNS.replace(" ", "s ")),
    read_list(
        """there in only just not no non both all following a an of caption image based on for about regarding
        content model s which systems belong belongs do does has have see find seems seem suspect confirm
        note"""
    ),
)
"""Words of a sentence that leads up to phrases it calls hallucinated, or clears of it."""

CONDITIONS = read_list("if unless assuming supposing at initially")
"""Words that begin a sentence whose answer holds for some other picture, or "at first"."""

SET_ASIDE = read_list(
    """visible present accurate supported grounded truthful factual eliminated excluded rejected remaining
    possible plausible candidate candidates first second earlier previous initial other free avoided score"""
)
"""Before "options" or "answers": those that are meant are not the answer, or not only they."""

RETRACTION = re.compile(r"\W{0,4}(?:(?:hmm+|wait|oops|actually)\b|no(?:[,.]|$))")
"""What a sentence begins with that takes back the one before."""


def is_doubted(clause: str) -> bool:
    """Whether a folded clause denies, doubts or leaves open what it says."""
    words = set(_WORD.findall(clause))
    return bool(words & (NEGATIONS | HEDGES)) or any(word.endswith("n't") for word in words)
