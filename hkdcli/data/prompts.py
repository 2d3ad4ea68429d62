r"""One prompt for training, inference and export: Example -> prefix | choices | answer.

The user turn holds the image, then the text, then the lettered choices as its very last part:

    <turn start> <image> instruction, context, claim or caption, question, "Choices:\n"   = prefix
    "A. ...\nB. ..." <turn end> <assistant turn start>                                   = suffix
    lead + "B, D" + end                                                                  = answer

so that all orders of one record's choices share the prefix. Prefix, suffix and answer are tokenized apart,
in training as in inference, and no token straddles a border.

The fixed texts are module constants: short, plain ASCII, so that a small tokenizer can give each one token.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import string
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hkdcli.data.chat import find_special_tokens, get_tokenizer, image_placeholders, read_chat_frame
from hkdcli.data.examples import Example
from hkdcli.errors import BadRow, DataError, ModelError

PROMPT_VERSION = "1"

INSTRUCTION_HALLUCINATION = "Which phrases of the caption does the image contradict? Answer with the letters."
INSTRUCTION_FACTUALITY = "Is the claim true, given the image and the context? Answer with one letter."
CONTEXT_LABEL = "Context:"
CLAIM_LABEL = "Claim:"
CAPTION_QUESTION_LABEL = "Asked:"
CAPTION_LABEL = "Caption:"
QUESTION_LABEL = "Question:"
CHOICES_LABEL = "Choices:"
TRUNCATION_MARKER = "[...]"
PROMPT_CONSTANTS = (
    INSTRUCTION_HALLUCINATION,
    INSTRUCTION_FACTUALITY,
    CONTEXT_LABEL,
    CLAIM_LABEL,
    CAPTION_QUESTION_LABEL,
    CAPTION_LABEL,
    QUESTION_LABEL,
    CHOICES_LABEL,
    TRUNCATION_MARKER,
)

LETTERS = string.ascii_uppercase
MAX_EXACT_CHOICES = 6

Presentation = tuple[tuple[str, str], ...]
"""Choices in displayed order: (letter shown, choice id) pairs."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One rendered prompt; the concatenation of its parts and an answer is the whole conversation.

    `prefix` holds the one image placeholder and ends before the choices; `suffix` holds the choices and opens
    the assistant's turn; an answer is written as `lead + letters + end`.
    """

    prefix: str
    suffix: str
    end: str
    lead: str = ""


class PromptBuilder:
    """Builds prompts for one processor; the chat template is rendered once."""

    def __init__(self, processor: Any) -> None:
        self.tokenizer = get_tokenizer(processor)
        self.frame = read_chat_frame(processor)
        self._special = sorted(find_special_tokens(processor), key=len, reverse=True)
        self._placeholders = image_placeholders(processor)

    def build(self, example: Example, presentation: Presentation) -> Prompt:
        """Render `example` with its choices as `presentation` shows them.

        Args:
            example: the record; special tokens of the model inside its texts are broken up.
            presentation: every choice of the example exactly once.

        Returns:
            A prompt whose prefix does not depend on the presentation. `DataError` where the record lacks the
            text to be judged.

        Raises:
            ModelError: the chat template lost the image.
        """
        body = "\n".join([*self._render_sections(example), CHOICES_LABEL, ""])
        texts = {choice.id: " ".join(self.clean(choice.text).split()) for choice in example.choices}
        lines = "\n".join(f"{letter}. {texts[choice_id]}" for letter, choice_id in presentation)
        prompt = Prompt(self.frame.head + body, lines + self.frame.tail, self.frame.end, self.frame.lead)
        if self._count_placeholders(prompt) != 1:
            raise ModelError(
                f"the prompt of record {example.id!r} does not hold exactly one image placeholder",
                hint="Use a checkpoint whose chat template shows an image once.",
            )
        return prompt

    def clean(self, text: str) -> str:
        """Text that cannot be read as a special token: `<image>` becomes `< image>`; NUL goes."""
        text = text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
        # Breaking one token up can complete another, so go on until none is left.
        while found := next((token for token in self._special if token in text), None):
            broken = f"{found[0]} {found[1:]}"
            text = text.replace(found, " " if found in broken else broken)
        return text.strip()

    def shorten_context(self, example: Example, excess_tokens: int) -> Example | None:
        """The example with about `excess_tokens` tokens cut from the middle of its context.

        Args:
            example: the record whose prompt is too long.
            excess_tokens: how many tokens must go at least.

        Returns:
            A copy marked `truncated`, or None where the context is too short to give that many.
        """
        spans = _token_spans(self.tokenizer, self.clean(example.context))
        marker = len(_token_spans(self.tokenizer, f"\n{TRUNCATION_MARKER}\n")) + 2
        kept = len(spans) - excess_tokens - marker
        if kept < 2:
            return None
        context = self.clean(example.context)
        # The head of a text usually says what it is about: it gets the odd token.
        head, tail = spans[(kept + 1) // 2 - 1][1], spans[len(spans) - kept // 2][0]
        shorter = f"{context[:head]}\n{TRUNCATION_MARKER}\n{context[tail:]}"
        return replace(example, context=shorter, truncated=True)

    def _render_sections(self, example: Example) -> Iterator[str]:
        judged = "caption" if example.task == "hallucination" else "claim"
        if not self.clean(getattr(example, judged)):
            row = BadRow(f"record.empty_{judged}", example.id, example.image, f"the {judged} is empty")
            raise DataError(
                f"record {example.id!r} has no {judged} to judge",
                [row],
                hint="Fill it in, or leave the record out.",
            )
        if example.task == "hallucination":
            yield self.clean(example.instruction) or INSTRUCTION_HALLUCINATION
            sections = [(CAPTION_QUESTION_LABEL, example.caption_question), (CAPTION_LABEL, example.caption)]
        else:
            yield self.clean(example.instruction) or INSTRUCTION_FACTUALITY
            sections = [(CONTEXT_LABEL, example.context), (CLAIM_LABEL, example.claim)]
        for label, text in [*sections, (QUESTION_LABEL, example.question)]:
            if cleaned := self.clean(text or ""):
                yield f"{label} {cleaned}"

    def _count_placeholders(self, prompt: Prompt) -> int:
        text = prompt.prefix + prompt.suffix
        return sum(text.count(token) for token in self._placeholders)


def identity_presentation(example: Example) -> Presentation:
    """Choices in record order, lettered A, B, C, ... by position whatever their ids are."""
    return tuple((LETTERS[i], choice.id) for i, choice in enumerate(example.choices))


def has_few_answers(example: Example) -> bool:
    """Whether the legal answers of a record are few enough to score each of them."""
    return example.task == "factuality" or len(example.choices) <= MAX_EXACT_CHOICES


def build_legal_answers(example: Example) -> tuple[frozenset[str], ...]:
    """Every answer that a record allows, as sets of choice ids, in a fixed order.

    Factuality: one choice. Hallucination: "No hallucination" alone, or any non-empty subset of the other
    choices by size, then record order; a record without that choice allows every non-empty subset.

    Args:
        example: the record.

    Returns:
        n answers for factuality, 2^(n-1) for hallucination (2^n - 1 without "No hallucination").

    Raises:
        DataError: a hallucination record with more than `MAX_EXACT_CHOICES` choices.
    """
    ids = [choice.id for choice in example.choices]
    if example.task == "factuality":
        return tuple(frozenset({choice_id}) for choice_id in ids)
    if not has_few_answers(example):
        detail = f"{len(ids)} choices; sets are scored exactly up to {MAX_EXACT_CHOICES}"
        raise DataError(
            f"record {example.id!r} has too many choices",
            [BadRow("choices.too_many", example.id, example.image, detail)],
            hint="Ask about fewer choices at once.",
        )
    none_id = example.none_id
    others = [choice_id for choice_id in ids if choice_id != none_id]
    sets = (frozenset(s) for size in range(1, len(others) + 1) for s in itertools.combinations(others, size))
    return (*([frozenset({none_id})] if none_id is not None else []), *sets)


def render_answer(example: Example, presentation: Presentation, answer: frozenset[str]) -> str:
    """The letters under which `presentation` shows the choices of `answer`: ascending, joined by ", ".

    Args:
        example: the record, named in the error.
        presentation: every choice of the example exactly once.
        answer: choice ids, at least one.

    Returns:
        For example "B, D".

    Raises:
        DataError: the answer is empty or names a choice that is not shown.
    """
    letters = [letter for letter, choice_id in presentation if choice_id in answer]
    if not letters or len(letters) != len(answer):
        detail = f"answer {sorted(answer)} is not among the choices {[c.id for c in example.choices]}"
        row = BadRow("record.unknown_answer", example.id, example.image, detail)
        raise DataError(f"record {example.id!r}: {detail}", [row])
    return join_letters(letters)


def join_letters(letters: Iterable[str]) -> str:
    """Letters as an answer writes them: ascending, joined by ", "."""
    return ", ".join(sorted(letters))


def compute_prompt_hash(processor: Any) -> str:
    """Sha256 (hex) of all that decides which numbers a record becomes.

    That is: prompt version and texts, chat template, vocabulary, image processor class (which names its
    backend) and settings. Equal after saving and loading the processor.
    """
    tokenizer = get_tokenizer(processor)
    image_processor = getattr(processor, "image_processor", None)
    parts = {
        "version": PROMPT_VERSION,
        "texts": PROMPT_CONSTANTS,
        "template": getattr(processor, "chat_template", None) or getattr(tokenizer, "chat_template", None),
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": sorted(find_special_tokens(processor)),
        "processor": _plain_settings(processor),
        "image_processor": [type(image_processor).__name__, _plain_settings(image_processor)],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _token_spans(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Character spans of the tokens of `text`."""
    if not getattr(tokenizer, "is_fast", False):
        return [(i, i + 1) for i in range(len(text))]
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [(start, stop) for start, stop in encoded.offset_mapping if stop > start]


def _plain_settings(thing: Any) -> Mapping[str, Any]:
    """The JSON-able settings of a processor that decide pixels and placeholders: no paths, no parts."""
    volatile = {"processor_class", "auto_map", "chat_template", "image_processor_type", "name_or_path"}
    volatile |= {"tokenizer", "image_processor", "video_processor", "feature_extractor"}
    if thing is None or not hasattr(thing, "to_dict"):
        return {}
    settings = {k: v for k, v in thing.to_dict().items() if not k.startswith("_") and k not in volatile}
    loaded: dict[str, Any] = json.loads(json.dumps(settings, sort_keys=True, default=str))
    return loaded
