"""Operations that make a true phrase hallucinated: what they write is known to be false."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from hkdcli.augment.evidence import NOTHING_KNOWN, doubt_attribute, doubt_object, is_one_thing
from hkdcli.augment.lexicon import Entry, load_lexicon
from hkdcli.augment.operations import Change, Refusal, Sample, operation
from hkdcli.augment.phrasing import (
    Found,
    Span,
    find_entries,
    find_span,
    has_determiner,
    is_half,
    is_name,
    is_noun,
    put_in,
    read_elsewhere,
    read_grams,
)
from hkdcli.augment.relabelling import is_denied, refuse_kind, relabel, says_something_new
from hkdcli.data.english import NUMBERS
from hkdcli.data.phrases import Word, read_words
from hkdcli.data.records import Example, is_none_choice

Attempt = Example | str
"""A record with another phrase, or why there is none."""


@operation("label", group="label")
def swap_object(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Puts another thing in the place of one in a true phrase, which so becomes hallucinated.

    The new thing is of the lexicon's same group and known not to be in the picture; nothing like it is spoken
    of, and the old one nowhere else. Preserves number, article, case, and every other phrase.
    """
    return _swap(sample, rng, _try_objects)


@operation("label", group="label")
def swap_attribute(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Puts another colour, size, material or pattern in a true phrase, which so becomes hallucinated.

    Nothing in the picture is as the new phrase says. Preserves article, case, and every other phrase.
    """
    return _swap(sample, rng, _try_attributes)


@operation("label", group="label")
def swap_relation(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Turns round how two things of a true phrase lie, which so becomes hallucinated.

    Both are known to be single, so that the one relation excludes the other. Preserves every other phrase.
    """
    return _swap(sample, rng, _try_relations)


def _swap(
    sample: Sample, rng: Random, attempt: Callable[[Sample, Span, Random], Iterator[Attempt]]
) -> Change | Refusal:
    """Try every true phrase in a random order, and take the first that can be made false."""
    example = sample.example
    if refused := refuse_kind(example):
        return refused
    true = [c for c in example.choices if c.id not in (example.answer or ()) and not is_none_choice(c)]
    rng.shuffle(true)
    reasons: Counter[str] = Counter()
    for choice in true:
        span = find_span(example, choice)
        if span is not None and is_denied(example.caption, span):
            reasons["the sentence may deny it"] += 1
            continue
        for made in () if span is None else attempt(sample, span, rng):
            if isinstance(made, str):
                reasons[made] += 1
            elif says_something_new(made, choice.id):
                answer = (example.answer or frozenset()) - {example.none_id} | {choice.id}
                return relabel(sample, made, choice.id, frozenset(answer))
    return Refusal(reasons.most_common(1)[0][0] if reasons else "no word to swap")


def _try_objects(sample: Sample, span: Span, rng: Random) -> Iterator[Attempt]:
    lexicon, example = load_lexicon(), sample.example
    words, elsewhere = read_words(example.caption), read_elsewhere(example, span)
    record = read_grams([example.caption, *(choice.text for choice in example.choices)])
    for found in find_entries(example.caption, span, _index(lexicon.objects)):
        if record & lexicon.depictions:
            yield "it may be an image of a thing"
        elif reason := _doubt_word(example.caption, words, found):
            yield reason
        elif elsewhere & found.entry.mentions:
            yield "the thing is spoken of elsewhere"
        else:
            is_bare = _is_bare(words, found)
            yield from _exchange(
                sample,
                span,
                rng,
                found,
                {word: each for word, each in lexicon.objects.items() if not is_bare or word in lexicon.mass},
                lambda new, _: doubt_object(new, sample, record),
            )


def _doubt_word(caption: str, words: Sequence[Word], found: Found) -> str | None:
    """Why words may not name a thing, one or several."""
    form = " ".join(word.text for word in words[found.first : found.last + 1])
    if form in load_lexicon().ambiguous:
        return "the word means something else too"
    if not is_noun(words, found):
        return "it may be another part of speech"
    if is_name(caption, words, found):
        return "it may be a name"
    if is_half(words, found):
        return "it may be half of an expression"
    return "it may be one or several" if form in found.entry.singulars & found.entry.plurals else None


def _is_bare(words: Sequence[Word], found: Found) -> bool:
    """Whether a thing is spoken of as a mass, as in "he eats pizza"."""
    is_mass = found.entry.word in load_lexicon().mass and not found.is_plural
    return is_mass and not has_determiner(words, found)


def _try_attributes(sample: Sample, span: Span, rng: Random) -> Iterator[Attempt]:
    lexicon, example = load_lexicon(), sample.example
    words, elsewhere = read_words(example.caption), read_elsewhere(example, span)
    record = elsewhere | read_grams([span.choice.text])
    for found in find_entries(example.caption, span, lexicon.attributes):
        if _is_fixed(words, found):
            yield "it may be half of an expression"
        elif is_name(example.caption, words, found):
            yield "it may be a name"
        elif sample.evidence == "record" and not _qualifies_noun(words, found):
            yield "it is not clear what the word belongs to"
        else:
            yield from _exchange(
                sample,
                span,
                rng,
                found,
                lexicon.attributes,
                lambda new, phrase: doubt_attribute(new, phrase, sample, record),
            )


def _try_relations(sample: Sample, span: Span, rng: Random) -> Iterator[Attempt]:
    lexicon, example = load_lexicon(), sample.example
    for found in find_entries(example.caption, span, _index_relations()):
        words = read_words(example.caption)
        before = example.caption[span.start : words[found.first].start]
        after = example.caption[words[found.last].end : span.end]
        if reason := _doubt_ends(sample, before, after):
            yield reason
        else:
            yield put_in(example, span, (found.first, found.last), lexicon.opposites[found.entry.word])


def _doubt_ends(sample: Sample, before: str, after: str) -> str | None:
    """Why the things on both sides of a relation may not be single."""
    if sample.evidence == "listed":
        if sample.facts.objects is None:
            return NOTHING_KNOWN
        single = is_one_thing(before, sample.facts) and is_one_thing(after, sample.facts)
        return None if single else "more than one thing may be meant"
    words = [word for text in (before, after) for word in read_words(text)]
    nouns = [word.text for word in words if word.part == "noun"]
    crowds = load_lexicon().crowds
    is_plural = any(noun.endswith("s") for noun in nouns) or any(
        word.text in crowds or word.text in NUMBERS for word in words
    )
    if len(nouns) < 2 or is_plural or any(word.part == "stop" for word in words):
        return "more than one thing may be meant"
    return None


def _exchange(
    sample: Sample,
    span: Span,
    rng: Random,
    found: Found,
    entries: Mapping[str, Entry],
    doubt: Callable[[Entry, str], str | None],
) -> Iterator[Attempt]:
    """Other entries of the same group in place of one, each with what speaks against it."""
    old = found.entry
    others = [each for each in entries.values() if each.group == old.group and each.word not in old.near]
    rng.shuffle(others)
    for new in others:
        if new.word == old.word:
            continue
        made = put_in(
            sample.example, span, (found.first, found.last), new.plural if found.is_plural else new.word
        )
        phrase = next(choice.text for choice in made.choices if choice.id == span.choice.id)
        yield doubt(new, phrase) or made


def _index(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Entries by every form that is a mention of them."""
    return {form: entry for entry in entries.values() for form in entry.mentions}


def _index_relations() -> dict[str, Entry]:
    opposites = load_lexicon().opposites
    nothing: frozenset[str] = frozenset()
    return {word: Entry(word, word, "", frozenset({word}), nothing, nothing) for word in opposites}


def _is_fixed(words: Sequence[Word], found: Found) -> bool:
    """Whether a word of the same noun phrase makes one expression with a value: "green street light"."""
    for word in words[found.last + 1 :]:
        if not word.follows or word.part not in ("noun", "modifier"):
            return False
        if word.text in load_lexicon().fixed:
            return True
    return False


def _qualifies_noun(words: Sequence[Word], found: Found) -> bool:
    """Whether a value stands alone before a noun: "a red car", not "red and white", "dark red"."""
    before = words[found.first - 1] if found.first else None
    after = words[found.last + 1] if found.last + 1 < len(words) else None
    is_first = before is None or before.part == "determiner"
    if before is not None and not words[found.first].follows:
        is_first = before.part not in ("modifier", "determiner")
    return is_first and after is not None and after.follows and after.part == "noun"
