"""Operations that change a phrase and the answer together: what they write is known to be false, or true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random

from hkdcli.augment.evidence import NOTHING_KNOWN, doubt_attribute, doubt_object, is_one_thing
from hkdcli.augment.lexicon import Entry, load_lexicon
from hkdcli.augment.operations import Change, Refusal, Sample, operation
from hkdcli.augment.phrasing import (
    Found,
    Span,
    find_entries,
    find_span,
    is_half,
    put_in,
    read_elsewhere,
    read_grams,
    rewrite,
)
from hkdcli.data.answers_text import is_contradicted
from hkdcli.data.english import NUMBERS
from hkdcli.data.phrases import Word, read_words
from hkdcli.data.records import Example, is_none_choice

_MOST_REPAIRED_WORDS = 6
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


@operation("label", group="label")
def repair(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Puts the truth in the place of a hallucinated phrase, where the facts of the picture say it.

    Either a caption of the facts is the record's caption but for this phrase, or the phrase stands by itself
    between commas, and a fact differs from it in one or two words. Preserves every other phrase.
    """
    example = sample.example
    if refused := _check_kind(example):
        return refused
    if not sample.facts.captions:
        return Refusal(NOTHING_KNOWN)
    false = [choice for choice in example.choices if choice.id in (example.answer or ())]
    false = [choice for choice in false if not is_none_choice(choice)]
    rng.shuffle(false)
    for choice in false:
        span = find_span(example, choice)
        made = [] if span is None else [*_quote_facts(sample, span), *_correct_by_facts(sample, span)]
        fitting = [each for each in made if _says_something_new(example, each, choice.id)]
        answer = (example.answer or frozenset()) - {choice.id}
        if not answer and example.none_id is not None:
            answer = frozenset({example.none_id})
        if fitting and answer:
            return _finish(sample, rng.choice(fitting), choice.id, answer)
    return Refusal("no fact says the truth" if false else "nothing is hallucinated")


def _swap(
    sample: Sample, rng: Random, attempt: Callable[[Sample, Span, Random], Iterator[Attempt]]
) -> Change | Refusal:
    """Try every true phrase in a random order, and take the first that can be made false."""
    example = sample.example
    if refused := _check_kind(example):
        return refused
    true = [c for c in example.choices if c.id not in (example.answer or ()) and not is_none_choice(c)]
    rng.shuffle(true)
    reasons: Counter[str] = Counter()
    for choice in true:
        span = find_span(example, choice)
        if span is not None and _is_denied(example.caption, span):
            reasons["the sentence may deny it"] += 1
            continue
        for made in () if span is None else attempt(sample, span, rng):
            if isinstance(made, str):
                reasons[made] += 1
            elif _says_something_new(example, made, choice.id):
                answer = (example.answer or frozenset()) - {example.none_id} | {choice.id}
                return _finish(sample, made, choice.id, frozenset(answer))
    return Refusal(reasons.most_common(1)[0][0] if reasons else "no word to swap")


def _check_kind(example: Example) -> Refusal | None:
    """Refuse claims: whether a wrong detail makes one false or partially true, no rule can tell."""
    if example.task != "hallucination":
        return Refusal("not a caption")
    if is_contradicted(example):
        return Refusal("correct_answer and correct_choice disagree")
    return Refusal("no gold") if example.answer is None else None


def _is_denied(caption: str, span: Span) -> bool:
    """Whether the sentence of a phrase may speak of what is not there."""
    start = max(caption.rfind(mark, 0, span.start) for mark in ".;!?\n") + 1
    ends = [end for mark in ".;!?\n" if (end := caption.find(mark, span.end)) >= 0]
    words = read_words(caption[start : min(ends, default=len(caption))])
    denials = load_lexicon().denials
    return any(word.text in denials or word.text.endswith(("n't", "n\u2019t")) for word in words)


def _try_objects(sample: Sample, span: Span, rng: Random) -> Iterator[Attempt]:
    lexicon, example = load_lexicon(), sample.example
    words, elsewhere = read_words(example.caption), read_elsewhere(example, span)
    record = read_grams([example.caption, *(choice.text for choice in example.choices)])
    for found in find_entries(example.caption, span, _index(lexicon.objects)):
        old = found.entry
        if record & lexicon.depictions:
            yield "it may be an image of a thing"
        elif example.caption[words[found.first].start : words[found.last].end].lower() in lexicon.ambiguous:
            yield "the word means something else too"
        elif is_half(words, found):
            yield "it may be half of an expression"
        elif elsewhere & old.mentions or old.singulars & old.plurals:
            yield "the thing is spoken of elsewhere"
        else:
            yield from _exchange(
                sample, span, rng, found, lexicon.objects, lambda new, _: doubt_object(new, sample, record)
            )


def _try_attributes(sample: Sample, span: Span, rng: Random) -> Iterator[Attempt]:
    lexicon, example = load_lexicon(), sample.example
    words, elsewhere = read_words(example.caption), read_elsewhere(example, span)
    record = elsewhere | read_grams([span.choice.text])
    for found in find_entries(example.caption, span, lexicon.attributes):
        if _is_fixed(words, found):
            yield "it may be half of a compound"
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
    is_plural = any(noun.endswith("s") for noun in nouns) or any(word.text in NUMBERS for word in words)
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


def _quote_facts(sample: Sample, span: Span) -> Iterator[Example]:
    """The caption as a fact has it that differs in the phrase alone."""
    example = sample.example
    words = read_words(example.caption)
    before = [word.text for word in words if word.end <= span.start]
    after = [word.text for word in words if word.start >= span.end]
    if len(example.answer or ()) > 1 or len(before) + len(after) < 2:
        return
    for quoted in sample.facts.captions:
        fact = quoted.lower() if quoted.isupper() and not example.caption.isupper() else quoted
        known = read_words(fact)
        texts = [word.text for word in known]
        inner = known[len(before) : len(known) - len(after)]
        fits = texts[: len(before)] == before and texts[len(known) - len(after) :] == after
        if fits and 0 < len(inner) <= _MOST_REPAIRED_WORDS and len(known) > len(before) + len(after):
            yield rewrite(example, span, [(span.start, span.end, fact[inner[0].start : inner[-1].end])])


def _correct_by_facts(sample: Sample, span: Span) -> Iterator[Example]:
    """Facts in place of a phrase between commas that differ from it in one run of one or two words."""
    caption = sample.example.caption
    before, after = caption[: span.start].rstrip(), caption[span.end :].lstrip()
    if (before and before[-1] not in ",.;") or (after and after[0] not in ",.;"):
        return
    said = span.choice.text.split()
    for fact in sample.facts.captions:
        known = fact.split()
        differing = [i for i, pair in enumerate(zip(said, known, strict=False)) if pair[0] != pair[1]]
        if len(known) == len(said) > 1 and differing and differing[-1] - differing[0] < 2:
            yield rewrite(sample.example, span, [(span.start, span.end, fact)])


def _says_something_new(before: Example, after: Example, choice_id: str) -> bool:
    """Whether the changed phrase stands once in its caption and is no other choice."""
    new = next(choice for choice in after.choices if choice.id == choice_id)
    others = [choice.text.casefold() for choice in after.choices if choice.id != choice_id]
    return find_span(after, new) is not None and new.text.casefold() not in others


def _finish(sample: Sample, made: Example, choice_id: str, answer: frozenset[str]) -> Change:
    """The record with its answer; a text of the old answer beside it would contradict it, and goes."""
    before = next(choice.text for choice in sample.example.choices if choice.id == choice_id)
    after = next(choice.text for choice in made.choices if choice.id == choice_id)
    extra = {key: value for key, value in made.extra.items() if key != "correct_answer"}
    known_by = sample.evidence
    return Change(
        replace(made, answer=answer, extra=extra),
        sample.image,
        {"choice": choice_id, "from": before, "to": after, "known_by": known_by},
    )


def _index(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Entries by every form that is a mention of them."""
    return {form: entry for entry in entries.values() for form in entry.mentions}


def _index_relations() -> dict[str, Entry]:
    opposites = load_lexicon().opposites
    nothing: frozenset[str] = frozenset()
    return {word: Entry(word, word, "", frozenset({word}), nothing, nothing, nothing) for word in opposites}


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
    is_first = before is None or not words[found.first].follows or before.part == "determiner"
    return is_first and after is not None and after.follows and after.part == "noun"
