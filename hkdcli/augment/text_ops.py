"""Operations on the text around what is judged: paraphrases, and sentences of the context."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from hkdcli.augment.operations import Change, Refusal, Sample, operation
from hkdcli.augment.paraphrases import CAPTION_QUESTIONS, INSTRUCTIONS, QUESTIONS, find_paraphrases
from hkdcli.augment.sentences import find_content, find_doubt, find_tie, split_sentences
from hkdcli.augment.words import fold_text, read_words
from hkdcli.data.english import read_list
from hkdcli.data.records import Example

_NOT_VERIFIABLE = ("not", "verifiable")
_ABOUT_ORDER = read_list(
    """
    before after then first last next later earlier previous previously following finally order sequence
    begin begins beginning start starts end ends sentence sentences paragraph text passage context
    mention mentions mentioned state states stated says said according when while until since
    """
)
"""Words of a claim that may be about the order of the context, or of what it tells."""


@operation("text")
def question(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Puts the question in other words, and what the caption was asked for, from a bank of paraphrases.

    Preserves what is asked and which way round. Only texts that the bank knows are changed ("Which of the
    following systems' outputs belong to hallucination?", "Describe the image."); it may falsify nothing.
    """
    example = sample.example
    changes: dict[str, Any] = {}
    for field, bank in (("question", QUESTIONS), ("caption_question", CAPTION_QUESTIONS)):
        if others := find_paraphrases(bank, getattr(example, field)):
            changes[field] = rng.choice(others)
    if not changes:
        return Refusal("not a question of the bank")
    return Change(replace(example, **changes), sample.image, changes)


@operation("text")
def instruction(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Puts the instruction, with which the prompt begins, in other words from a bank of paraphrases.

    Preserves the task and that the answer is letters (hallucination) or one letter (factuality). A record's
    own instruction that the bank does not know is left alone; it may falsify nothing.
    """
    example = sample.example
    group = INSTRUCTIONS[0 if example.task == "hallucination" else 1]
    others = find_paraphrases((group,), example.instruction or group[0])
    if not others:
        return Refusal("not an instruction of the bank")
    chosen = rng.choice(others)
    return Change(replace(example, instruction=chosen), sample.image, {"instruction": chosen})


@operation("text", may_falsify=("language",))
def context_order(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Puts the sentences of the context in another order.

    Preserves every sentence. It may falsify what hangs on the order, so it is left alone where a sentence has
    a pronoun or a connective ("then", "also", "the other"), where "the" may point to another sentence, at
    quotations, questions and lists, and where the claim speaks of an order or of the context itself.
    """
    example = sample.example
    sentences = split_sentences(example.context)
    refused = _refuse_moving(example, sentences)
    if refused is not None:
        return refused
    order = list(range(len(sentences)))
    rng.shuffle(order)
    context = " ".join(sentences[place] for place in order)
    if context == " ".join(sentences):
        # Every order is as likely as every other, this one too: it is left to chance, not drawn again.
        return Refusal("nothing to change")
    return Change(replace(example, context=context), sample.image, {"order": order})


@operation("text", may_falsify=("language",))
def context_drop(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Drops one sentence of the context of a claim that nothing verifies.

    Preserves "Not Verifiable": what verifies nothing does not verify more when there is less of it. It may
    falsify every other verdict, so those are left alone, and so is a context whose sentences may take each
    other back ("however", "it is not known") or hang together as for `context_order`. A sentence that shares
    a word with the claim stays, and one sentence at least.
    """
    example = sample.example
    if not example.context:
        return Refusal("no context")
    if example.answer is None:
        return Refusal("no gold")
    if not _is_unverifiable(example):
        return Refusal("verifiable")
    sentences = split_sentences(example.context)
    refused = _refuse_moving(example, sentences)
    if refused is not None:
        return refused
    if (doubt := find_doubt(sentences)) is not None:
        return Refusal(f"doubt: {doubt}")
    claimed = find_content(example.claim)
    idle = [place for place, each in enumerate(sentences) if claimed.isdisjoint(find_content(each))]
    if not idle:
        return Refusal("every sentence speaks of the claim")
    dropped = rng.choice(idle)
    context = " ".join(each for place, each in enumerate(sentences) if place != dropped)
    return Change(replace(example, context=context), sample.image, {"dropped": dropped})


def _refuse_moving(example: Example, sentences: tuple[str, ...]) -> Refusal | None:
    """Why sentences of a context can neither change places nor go; None where they can."""
    if not example.context:
        return Refusal("no context")
    if len(sentences) < 2:
        return Refusal("fewer than two sentences")
    tie = find_tie(example.context)
    if tie is not None:
        return Refusal(f"tie: {tie}")
    about = next((word for word in read_words(fold_text(example.claim)) if word in _ABOUT_ORDER), None)
    return None if about is None else Refusal(f"order: {about}")


def _is_unverifiable(example: Example) -> bool:
    gold = [choice.text for choice in example.choices if choice.id in (example.answer or ())]
    return [read_words(fold_text(text)) for text in gold] == [_NOT_VERIFIABLE]
