"""What is known of a picture, asked about a phrase: can it be true of anything there?

Every question errs on one side: None says that the phrase is known to be false, a text why that is not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache

from hkdcli.augment.lexicon import Entry, load_lexicon
from hkdcli.augment.operations import Sample
from hkdcli.augment.phrasing import read_grams
from hkdcli.augment.words import fold_text, read_words
from hkdcli.data.english import read_list
from hkdcli.data.facts import ImageFacts

NOTHING_KNOWN = "nothing is known of the image"
_SMALL_WORDS = read_list("a an the in is of")
_PLACES = read_list("left right centre center middle top bottom")


def doubt_object(entry: Entry, sample: Sample, record: frozenset[str]) -> str | None:
    """Why a thing may be in a picture after all.

    Args:
        entry: the thing.
        sample: facts, and what they have to be for.
        record: what `read_grams` gives of the record's texts.

    Returns:
        The reason; None where it is known not to be there.
    """
    facts, near = sample.facts, _collect_mentions(entry)
    if record & near:
        return "the record speaks of the like"
    if _read_facts(facts) & near:
        return "the facts speak of the like"
    if sample.evidence == "record":
        return "the record speaks of the like" if record & (entry.kinds | entry.places) else None
    if facts.objects is None:
        return NOTHING_KNOWN
    if read_grams(_collect_nouns(facts.objects) - _collect_known()) & entry.kinds:
        return "the listing has a thing that may be one"
    # By its own name: a listing that knows ferries alone says nothing of boats.
    if not {entry.word, entry.plural} & _collect_nouns(facts.vocabulary):
        return "the listing does not speak of such things"
    return None


def doubt_attribute(entry: Entry, phrase: str, sample: Sample, record: frozenset[str]) -> str | None:
    """Why something in a picture may be as a phrase says.

    Args:
        entry: the value that the phrase speaks of.
        phrase: such as "red circle" or "circle in red".
        sample: facts, and what they have to be for.
        record: what `read_grams` gives of the record's texts.

    Returns:
        The reason; None where nothing is so.
    """
    facts, near = sample.facts, _collect_mentions(entry)
    if sample.evidence == "record":
        if entry.group in load_lexicon().gradual:
            return "a matter of degree"
        if entry.word in load_lexicon().neutral:
            return "some part of nearly everything is so"
        if record & near:
            return "the record speaks of the like"
        return "the facts speak of the like" if _read_facts(facts) & near else None
    if facts.objects is None:
        return NOTHING_KNOWN
    words = read_content(phrase)
    group = {value for value, other in load_lexicon().attributes.items() if other.group == entry.group}
    nouns = words - load_lexicon().attributes.keys()
    if len(nouns) != 1:
        return "more is said than a listing tells"
    if not any(nouns | {entry.word} <= describe_object(name) for name in facts.vocabulary):
        return "the listing does not speak of such things"
    for name in facts.objects:
        known = describe_object(name)
        if not known & group:
            return "the listing does not say how everything is"
        for value in (entry.word, *entry.near):
            if words - {entry.word} | {value} <= known:
                return "the listing has the like"
    return None


def is_one_thing(phrase: str, facts: ImageFacts) -> bool:
    """Whether a phrase means a place, or, by more than its noun, exactly one of the listed things."""
    words = read_content(phrase)
    if words and words <= _PLACES:
        return True
    if not words & load_lexicon().attributes.keys():
        return False
    return sum(words <= describe_object(name) for name in facts.objects or ()) == 1


def read_content(phrase: str) -> frozenset[str]:
    """The words of a phrase that say something."""
    return frozenset(read_words(fold_text(phrase))) - _SMALL_WORDS


@lru_cache(maxsize=4096)
def describe_object(name: str) -> frozenset[str]:
    """The words that are true of a listed thing: its own, and the kinds that it is of."""
    words = read_content(name)
    kinds = (entry.kinds for word, entry in load_lexicon().objects.items() if word in words)
    return words.union(*kinds)


def _read_facts(facts: ImageFacts) -> frozenset[str]:
    return read_grams([*(facts.objects or ()), *facts.captions])


def _collect_mentions(entry: Entry) -> frozenset[str]:
    """Forms of an entry and of all that are taken for it."""
    lexicon = load_lexicon()
    known = lexicon.objects if entry.word in lexicon.objects else lexicon.attributes
    return entry.mentions.union(*(known[word].mentions for word in entry.near))


@cache
def _collect_known() -> frozenset[str]:
    """Every form that is a mention of a thing of the lexicon."""
    return frozenset(form for entry in load_lexicon().objects.values() for form in entry.mentions)


@lru_cache(maxsize=64)
def _collect_nouns(names: Iterable[str]) -> frozenset[str]:
    """What listed things are called, without what is said of them: "circle" of "large red circle"."""
    attributes = load_lexicon().attributes
    found = set()
    for name in names:
        words = list(read_words(fold_text(name)))
        while len(words) > 1 and words[0] in attributes:
            words.pop(0)
        found.add(" ".join(words))
    return frozenset(found)
