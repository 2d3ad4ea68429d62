"""Operations on the choices: their order, and the letters that they go by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from hkdcli.augment.operations import Change, Refusal, Sample, operation
from hkdcli.augment.paraphrases import INSTRUCTIONS, QUESTIONS, find_paraphrases
from hkdcli.data.answers_text import is_contradicted
from hkdcli.data.prompts import LETTERS
from hkdcli.data.records import Choice, Example

_REFERENCE = re.compile(
    r"""\b of \s+ the \s+ (?: above | below | others? | rest | former | latter | preceding | previous )\b
    | \b(?: the | any | no | all | both | either | neither | none ) \s+ (?: of \s+ )? (?: the \s+ )?
        (?: other | above | below | former | latter | previous | preceding | first | second | last | two )
        \s+ (?: choices? | options? | answers? | statements? | ones? | phrases? )\b
    | \b(?: choices? | options? | answers? | statements? ) \s+ (?: above | below | \(?[a-z0-9]\)?(?!\w) )
    | \b(?: all | none | both | neither | either | any | one ) \s+ of \s+ (?: these | those | them )\b
    | \b(?: aforementioned | the \s+ former | the \s+ latter )\b
    | \b(?: above | below | preceding | former | latter ) \W* $
    | \b(?: choices? | options? ) \s+ (?: one | two | three | four | five )\b
    | \b(?: first | second | third | fourth | fifth | last )
        (?: \s+ (?: one | two | three | and \s .* | or \s .* | choices? | options? ) )? \W* $""",
    re.IGNORECASE | re.VERBOSE,
)
"""How a text speaks of choices."""
_BEFORE_LETTER = (
    r"(?i:\b(?:as|as in|as for|like|opposite of|reverse of|than|with|is it|select|choose|pick|answer|option))"
)
"""What stands before a letter that means a choice."""
_PLACE = re.compile(r"\b(?:first|second|third|last|top|topmost|bottom|earliest|latest)\b", re.IGNORECASE)


@operation("choices")
def order(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Puts the choices in another order, lettered A, B, C, ... by place; the answer follows its choices.

    Preserves which texts are gold, and what the record keeps of its choices: fields beside each choice, and
    mappings from choice ids in `meta`, follow theirs, and `correct_answer` is written anew. Any other field
    of the record's own stays as it is, even where it speaks of a letter. It may falsify choices and questions
    that refer to choices ("all of the above", "both A and B"); those records are left alone, and those whose
    `correct_answer` says otherwise than their letters. Every order is as likely, the present one too.
    """
    places = list(range(len(sample.example.choices)))
    rng.shuffle(places)
    return _change(sample, places, LETTERS[: len(places)], {"order": places})


@operation("choices")
def letters(sample: Sample, rng: Random, strength: float) -> Change | Refusal:
    """Gives the choices other letters of A, B, C, ... in the same order; the answer follows its choices.

    Preserves and refuses what `order` does. In training, and where others read the dataset, a choice has its
    letter; `hkd infer` letters choices by their place.
    """
    shuffled = list(LETTERS[: len(sample.example.choices)])
    rng.shuffle(shuffled)
    return _change(sample, range(len(shuffled)), shuffled, {"letters": shuffled})


def _change(
    sample: Sample, places: Sequence[int], ids: Sequence[str], parameters: Mapping[str, Any]
) -> Change | Refusal:
    """Show choice number `places[i]` of before as number i under the id `ids[i]`."""
    example = sample.example
    if _asks_for_place(example) or any(_refers(text, example) for text in _find_own_texts(example)):
        return Refusal("a text refers to choices")
    if example.extra.get("correct_answer") and (example.answer is None or is_contradicted(example)):
        return Refusal("correct_answer says otherwise")
    changed = _rearrange(example, places, ids)
    return Refusal("nothing to change") if changed == example else Change(changed, sample.image, parameters)


def _find_own_texts(example: Example) -> Iterator[str]:
    """The texts that may speak of choices; those of the bank are known to speak of all of them."""
    yield from (choice.text for choice in example.choices)
    for text, bank in ((example.question, QUESTIONS), (example.instruction, INSTRUCTIONS)):
        if not find_paraphrases(bank, text):
            yield text


def _asks_for_place(example: Example) -> bool:
    """Whether a question that the bank does not know may ask for a choice by its place in the order."""
    known = find_paraphrases(QUESTIONS, example.question)
    return not known and bool(_PLACE.search(example.question))


def _refers(text: str, example: Example) -> bool:
    """Whether a text speaks of choices, in words or by their ids."""
    if _REFERENCE.search(text):
        return True
    each = rf"\(?(?:{'|'.join(re.escape(choice.id) for choice in example.choices)})\)?"
    joint = r"\s*(?:,|/|&|\+|-|\u2013|\band\b|\bor\b|\bnor\b|\bto\b|\bthrough\b)\s*(?:and\s+|or\s+)?"
    pair = rf"(?<!\w){each}{joint}{each}(?!\w)"
    alone = rf"\W*(?:(?:only|just|not)\s+)?{each}\W*"
    # "B is wrong", "same as A"; not "vitamin C", nor "A dog", where it is an article.
    end = r"(?![\w'-])"
    told = rf"^\W*{each}{end}(?!(?<=A)\s+[a-z])|{_BEFORE_LETTER}\W+{each}{end}"
    lettered = all(choice.id.isupper() for choice in example.choices) and re.search(told, text)
    return bool(re.search(pair, text) or lettered or re.fullmatch(alone, text))


def _rearrange(example: Example, places: Sequence[int], ids: Sequence[str]) -> Example:
    before = [example.choices[place] for place in places]
    renamed = {choice.id: new for choice, new in zip(before, ids, strict=True)}
    answer = None if example.answer is None else frozenset(renamed[each] for each in example.answer)
    choices = tuple(Choice(new, choice.text) for choice, new in zip(before, ids, strict=True))
    extra = dict(example.extra)
    if answer is not None:
        extra.pop("correct_answer", None)
    if "choices" in extra:
        extra["choices"] = [extra["choices"][place] for place in places]
    if isinstance(extra.get("meta"), Mapping):
        extra["meta"] = {key: _rename(value, renamed) for key, value in extra["meta"].items()}
    return replace(example, choices=choices, answer=answer, extra=extra)


def _rename(value: Any, renamed: Mapping[str, str]) -> Any:
    """A mapping whose keys are all choice ids under the new ids, in their order; anything else as it is."""
    if not isinstance(value, Mapping) or not value or not all(key in renamed for key in value):
        return value
    return dict(sorted((renamed[key], item) for key, item in value.items()))
