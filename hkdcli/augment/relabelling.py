"""What every operation that changes labels asks of a record, and how the changed record gets its answer."""

from __future__ import annotations

from dataclasses import replace

from hkdcli.augment.lexicon import load_lexicon
from hkdcli.augment.operations import Change, Refusal, Sample
from hkdcli.augment.phrasing import Span, find_span
from hkdcli.data.answers_text import is_contradicted
from hkdcli.data.phrases import read_words
from hkdcli.data.records import Example


def refuse_kind(example: Example) -> Refusal | None:
    """Refuse claims: whether a wrong detail makes one false or partially true, no rule can tell."""
    if example.task != "hallucination":
        return Refusal("not a caption")
    if is_contradicted(example):
        return Refusal("correct_answer and correct_choice disagree")
    return Refusal("no gold") if example.answer is None else None


def is_denied(caption: str, span: Span) -> bool:
    """Whether the sentence of a phrase may speak of what is not there."""
    start = max(caption.rfind(mark, 0, span.start) for mark in ".;!?\n") + 1
    ends = [end for mark in ".;!?\n" if (end := caption.find(mark, span.end)) >= 0]
    words = read_words(caption[start : min(ends, default=len(caption))])
    denials = load_lexicon().denials
    return any(word.text in denials or word.text.endswith(("n't", "n\u2019t")) for word in words)


def says_something_new(after: Example, choice_id: str) -> bool:
    """Whether a changed phrase stands once in its caption, apart from other choices, and none denies it."""
    span = find_span(after, next(choice for choice in after.choices if choice.id == choice_id))
    return span is not None and not is_denied(after.caption, span)


def relabel(sample: Sample, made: Example, choice_id: str, answer: frozenset[str]) -> Change:
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
