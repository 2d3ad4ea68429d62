"""An operation that makes a hallucinated phrase true, where the facts of the picture say how."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from hkdcli.augment.evidence import NOTHING_KNOWN
from hkdcli.augment.operations import Change, Refusal, Sample, operation
from hkdcli.augment.phrasing import Span, find_span, rewrite
from hkdcli.augment.relabelling import refuse_kind, relabel, says_something_new
from hkdcli.data.english import DETERMINERS
from hkdcli.data.phrases import read_words
from hkdcli.data.records import Example, is_none_choice

_MOST_REPAIRED_WORDS = 6


@operation("label", group="label")
def repair(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Puts the truth in the place of a hallucinated phrase, where the facts of the picture say it.

    Either a caption of the facts is the record's caption but for this phrase, or the phrase stands by itself
    between commas, and a fact differs from it in one or two words. Preserves every other phrase.
    """
    example = sample.example
    if refused := refuse_kind(example):
        return refused
    if not sample.facts.captions:
        return Refusal(NOTHING_KNOWN)
    false = [choice for choice in example.choices if choice.id in (example.answer or ())]
    false = [choice for choice in false if not is_none_choice(choice)]
    rng.shuffle(false)
    for choice in false:
        span = find_span(example, choice)
        made = [] if span is None else [*_quote_facts(sample, span), *_correct_by_facts(sample, span)]
        fitting = [each for each in made if says_something_new(example, each, choice.id)]
        answer = (example.answer or frozenset()) - {choice.id}
        if not answer and example.none_id is not None:
            answer = frozenset({example.none_id})
        if fitting and answer:
            return relabel(sample, rng.choice(fitting), choice.id, answer)
    return Refusal("no fact says the truth" if false else "nothing is hallucinated")


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
            told = fact[inner[0].start : inner[-1].end]
            yield rewrite(example, span, [(span.start, span.end, _write_like(told, span.choice.text))])


def _correct_by_facts(sample: Sample, span: Span) -> Iterator[Example]:
    """Facts in place of a phrase between commas that differ from it in one run of one or two words."""
    caption = sample.example.caption
    before, after = caption[: span.start].rstrip(), caption[span.end :].lstrip()
    if (before and before[-1] not in ",.;") or (after and after[0] not in ",.;"):
        return
    said = span.choice.text.casefold().split()
    for each in sample.facts.captions:
        fact = each.strip(" .,;!?")
        known = fact.casefold().split()
        differing = [i for i, pair in enumerate(zip(said, known, strict=False)) if pair[0] != pair[1]]
        if len(known) == len(said) > 1 and differing and differing[-1] - differing[0] < 2:
            yield rewrite(sample.example, span, [(span.start, span.end, _write_like(fact, span.choice.text))])


def _write_like(told: str, model: str) -> str:
    """What a fact tells, with a capital where what stood there had one, else without one in its article."""
    if model[:1].isupper():
        return told[:1].upper() + told[1:]
    return told[:1].lower() + told[1:] if told.split()[0].lower() in DETERMINERS else told
