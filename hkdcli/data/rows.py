"""One raw record to one Example, and back."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from hkdcli.data.answers_text import describe_letters, is_lookalike, parse_answer, render_answer_text
from hkdcli.data.records import Choice, Example, Task, is_none_choice
from hkdcli.data.refusals import RefusedRowError
from hkdcli.errors import BadRow

MAX_TEXT_CHARACTERS = 1_000_000
MAX_CHOICES = 26
MAX_EXTRA_DEPTH = 32

# Field of Example -> name in the record. The first of each task must say something.
_TEXTS: dict[Task, dict[str, str]] = {
    "hallucination": {
        "caption": "system1_answer",
        "caption_question": "system1_question",
        "question": "system2_question",
    },
    "factuality": {"claim": "claim", "context": "context", "question": "question"},
}
_REQUIRED = ("caption", "claim", "question")
_INSTRUCTION = "prompt_instruction"
_SHARED = ("id", "image_id", "choices", "correct_choice", "correct_answer")


def parse_row(value: Any, path: str) -> Example | BadRow:
    """Turn one decoded record into an Example, or say why it cannot be one.

    Args:
        value: The record as JSON or Arrow gave it, with or without the `metadata` wrapper.
        path: Where it stands (`file:line`), for the BadRow.

    Returns:
        The Example; or a BadRow with a `record.*` code. Never raises.
    """
    example_id = ""
    try:
        raw = _unwrap(value)
        example_id = _parse_id(raw)
        return _build_example(raw, example_id)
    except RefusedRowError as error:
        return error.locate(path, example_id)


def _build_example(raw: Mapping[str, Any], example_id: str) -> Example:
    task = _detect_task(raw)
    names = _TEXTS[task]
    texts = {field: _parse_text(raw, name, field in _REQUIRED) for field, name in names.items()}
    image = _parse_text(raw, "image_id", required=True)
    choices = _parse_choices(raw.get("choices"), task)
    answer = parse_answer(raw.get("correct_choice"), choices)
    if task == "factuality" and answer is not None and len(answer) > 1:
        raise RefusedRowError("record.many_answers", f"{len(answer)} gold answers where one is asked for")
    known = {*_SHARED, _INSTRUCTION, *names.values()}
    extra = {key: item for key, item in raw.items() if key not in known}
    if isinstance(raw.get("id"), int):
        extra["id"] = raw["id"]  # the way out has the number again
    _keep_what_render_would_lose(raw, choices, answer, extra)
    _check_extra(extra)
    if not example_id:
        # The key that stands in for a missing id: one image may carry several questions and texts.
        key = "\0".join((image, texts["question"], texts.get("caption") or texts.get("claim", "")))
        example_id = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()
    return Example(
        id=example_id,
        task=task,
        image=image,
        question=texts["question"],
        choices=choices,
        answer=answer,
        caption=texts.get("caption", ""),
        caption_question=texts.get("caption_question", ""),
        claim=texts.get("claim", ""),
        context=texts.get("context", ""),
        instruction=_parse_text(raw, _INSTRUCTION, required=False),
        extra=extra,
    )


def render_row(example: Example) -> dict[str, Any]:
    """Turn an Example into the flat record of its task; `parse_row` gives the same Example back."""
    row = _render_texts(example)
    row |= {key: value for key, value in example.extra.items() if key != "choices"}
    extras = example.extra.get("choices") or [{}] * len(example.choices)
    if example.answer is not None:
        ids = [choice.id for choice in example.choices if choice.id in example.answer]
        joined = ",".join(ids)
        row["correct_choice"] = joined if _reads_back(joined, example) else ids
        row.setdefault("correct_answer", render_answer_text(example.choices, example.answer))
    row["choices"] = [
        {"id": choice.id, "choice": choice.text, **more}
        for choice, more in zip(example.choices, extras, strict=True)
    ]
    return row


def render_question(example: Example) -> dict[str, Any]:
    """What a record asks, as `render_row` has it: without gold and whatever else the record holds."""
    choices = [{"id": choice.id, "choice": choice.text} for choice in example.choices]
    return {**_render_texts(example), "choices": choices}


def _render_texts(example: Example) -> dict[str, Any]:
    row: dict[str, Any] = {"id": example.id, "image_id": example.image}
    for field, name in _TEXTS[example.task].items():
        row[name] = getattr(example, field)
    if example.instruction:
        row[_INSTRUCTION] = example.instruction
    return row


def _reads_back(joined: str, example: Example) -> bool:
    try:
        return parse_answer(joined, example.choices) == example.answer
    except RefusedRowError:
        return False


def _unwrap(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RefusedRowError("record.not_an_object", f"a {type(value).__name__}, not an object")
    inner = value.get("metadata")
    if not isinstance(inner, dict) or "choices" in value:
        return value
    merged = dict(inner)
    for key, item in value.items():
        if key == "metadata" or item is None:
            continue
        if merged.get(key) is None:
            merged[key] = item
        elif merged[key] != item:
            raise RefusedRowError(
                "record.two_values", f"{ascii(key[:50])} differs inside and outside metadata"
            )
    return merged


def _parse_id(raw: Mapping[str, Any]) -> str:
    value = raw.get("id")
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _parse_text(raw, "id", required=True)


def _detect_task(raw: Mapping[str, Any]) -> Task:
    present = {key for key, value in raw.items() if value is not None}
    hallucination = present & {"system1_answer", "system1_question", "system2_question"}
    if hallucination and "claim" in present:
        raise RefusedRowError(
            "record.task", f"both a claim and {min(hallucination)}: two tasks in one record"
        )
    if hallucination:
        return "hallucination"
    if present & {"claim", "context", "question"}:
        return "factuality"
    raise RefusedRowError("record.task", "neither a caption (system1_answer) nor a claim")


def _parse_text(raw: Mapping[str, Any], name: str, required: bool) -> str:
    value = raw.get(name)
    if value is None:
        if required:
            raise RefusedRowError("record.missing_field", f"{name} is missing or null")
        return ""
    if not isinstance(value, str):
        raise RefusedRowError("record.wrong_type", f"{name} is a {type(value).__name__}, not a string")
    _check_text(value, name)
    if not value.strip():
        if required:
            raise RefusedRowError("record.empty_field", f"{name} is empty")
        return ""
    return value


def _check_text(value: str, name: str) -> None:
    if len(value) > MAX_TEXT_CHARACTERS:
        raise RefusedRowError("record.too_large", f"{name} has {len(value)} characters")
    if "\0" in value:
        raise RefusedRowError("record.text", f"{name} holds a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = ord(value[error.start])
        raise RefusedRowError("record.text", f"{name} holds half a character (U+{code:04X})") from None


def _parse_choices(value: Any, task: Task) -> tuple[Choice, ...]:
    if value is None:
        raise RefusedRowError("record.missing_field", "choices is missing or null")
    if not isinstance(value, list):
        raise RefusedRowError("record.wrong_type", f"choices is a {type(value).__name__}, not a list")
    if not 2 <= len(value) <= MAX_CHOICES:
        raise RefusedRowError("record.choice_count", f"{len(value)} choices; 2 to {MAX_CHOICES} can be asked")
    choices = tuple(_parse_choice(item, number) for number, item in enumerate(value, start=1))
    ids = [unicodedata.normalize("NFKC", choice.id) for choice in choices]
    twice = next((each for each in ids if ids.count(each) > 1), None)
    if twice is not None:
        raise RefusedRowError("record.duplicate_choice", f"two choices with the id {describe_letters(twice)}")
    if task == "hallucination" and sum(map(is_none_choice, choices)) > 1:
        raise RefusedRowError("record.duplicate_choice", 'two choices say "No hallucination"')
    return choices


def _parse_choice(item: Any, number: int) -> Choice:
    if not isinstance(item, dict):
        raise RefusedRowError(
            "record.wrong_type", f"choice {number} is a {type(item).__name__}, not an object"
        )
    try:
        choice = Choice(_parse_text(item, "id", required=True), _parse_text(item, "choice", required=True))
    except RefusedRowError as error:
        raise RefusedRowError(error.code, f"choice {number}: {error.detail}", error.hint) from None
    if is_lookalike(choice.id):
        raise RefusedRowError(
            "record.lookalike_id",
            f"choice {number}: the id {describe_letters(choice.id)} only looks like a Latin letter",
        )
    return choice


def _keep_what_render_would_lose(
    raw: Mapping[str, Any], choices: tuple[Choice, ...], answer: frozenset[str] | None, extra: dict[str, Any]
) -> None:
    """Move into `extra` an unusual `correct_answer` and further fields of the choices."""
    text = raw.get("correct_answer")
    if text is not None and (answer is None or text != render_answer_text(choices, answer)):
        extra["correct_answer"] = text
    more = [{key: each[key] for key in each if key not in ("id", "choice")} for each in raw["choices"]]
    if any(more):
        extra["choices"] = more


def _check_extra(extra: dict[str, Any]) -> None:
    """Refuse what could not be written back as JSON; a loop, since nesting may be hostile."""
    waiting: list[tuple[Any, str, int]] = [(value, key, 1) for key, value in extra.items()]
    waiting.extend((key, "a field's name", 1) for key in extra)
    while waiting:
        value, name, depth = waiting.pop()
        if isinstance(value, str):
            _check_text(value, ascii(name[:50]))
        elif isinstance(value, (dict, list)):
            if depth > MAX_EXTRA_DEPTH:
                raise RefusedRowError("record.nesting", f"nested more than {MAX_EXTRA_DEPTH} levels deep")
            children = value.values() if isinstance(value, dict) else value
            waiting.extend((child, name, depth + 1) for child in children)
            if isinstance(value, dict):
                waiting.extend((key, "a field's name", depth + 1) for key in value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise RefusedRowError("record.number", f"{ascii(name[:50])} is not a finite number")
        elif value is not None and not isinstance(value, (bool, int, float)):
            raise RefusedRowError(
                "record.unsupported_value",
                f"{ascii(name[:50])} holds a {type(value).__name__}, which JSON cannot",
                "drop the column, or turn it into text",
            )
