"""What a model family's chat template puts around a user's text and an answer.

The borders are found by rendering a conversation whose texts are unlikely words, and splitting at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from hkdcli.errors import ModelError

_USER_SENTINEL = "qzUserTextGoesHerezq"
_ANSWER_SENTINEL = "qzAnswerGoesHerezq"


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """What a chat template puts around the user's text and the answer.

    `head` comes before the text and holds the image placeholder, `tail` opens the assistant's turn, `lead`
    (usually empty, at times a space) stands before the answer and `end` closes it.
    """

    head: str
    tail: str
    lead: str
    end: str


def get_tokenizer(processor: Any) -> Any:
    """The text tokenizer of a processor (or the tokenizer itself)."""
    return getattr(processor, "tokenizer", processor)


def name_model(processor: Any) -> str:
    """Where a processor came from, for messages: a folder or hub id."""
    return getattr(get_tokenizer(processor), "name_or_path", "") or "this model"


def image_placeholders(processor: Any) -> tuple[str, ...]:
    """The texts that may stand for one image in a rendered prompt (Gemma3 writes `boi_token` there)."""
    tokens = (getattr(processor, name, None) for name in ("image_token", "boi_token"))
    return tuple(dict.fromkeys(str(token) for token in tokens if token))


def read_chat_frame(processor: Any) -> ChatFrame:
    """Find what the model's chat template puts around a user's text and an answer.

    Args:
        processor: a processor or tokenizer with a chat template.

    Returns:
        The frame, with the tokenizer's begin-of-text token in front where the tokenizer would add it.

    Raises:
        ModelError: there is no chat template, or it drops, repeats or moves the text or the image.
    """
    tokenizer = get_tokenizer(processor)
    renderers = [r for r in (processor, tokenizer) if getattr(r, "chat_template", None)]
    if not renderers:
        raise ModelError(
            f"{name_model(processor)}: has no chat template",
            hint="Use an instruction-tuned checkpoint, or add chat_template.jinja to its folder.",
        )
    placeholders = image_placeholders(processor)
    contents: list[Any] = [[{"type": "image"}, {"type": "text", "text": _USER_SENTINEL}]]
    # A text-only template (a language model's own) takes a plain string with the placeholder in it.
    contents += [f"{placeholder}\n{_USER_SENTINEL}" for placeholder in placeholders[:1]]
    for content in contents:
        if frame := _render_frame(renderers[0], content, placeholders):
            return _close_frame(frame, tokenizer)
    name = name_model(processor)
    raise ModelError(
        f"{name}: its chat template does not show one image, then the user's text, once each",
        hint="Use an instruction-tuned checkpoint whose template takes an image, then text.",
    )


def _render_frame(renderer: Any, content: Any, placeholders: Sequence[str]) -> ChatFrame | None:
    user = {"role": "user", "content": content}
    answer: Any = _ANSWER_SENTINEL
    if not isinstance(content, str):
        answer = [{"type": "text", "text": _ANSWER_SENTINEL}]
    try:
        opened = renderer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        closed = renderer.apply_chat_template(
            [user, {"role": "assistant", "content": answer}], tokenize=False
        )
    except Exception:  # templates are free to raise anything on a form of content that they do not know
        return None
    if opened.count(_USER_SENTINEL) != 1 or closed.count(_ANSWER_SENTINEL) != 1:
        return None
    head, tail = opened.split(_USER_SENTINEL)
    if sum(head.count(token) for token in placeholders) != 1 or any(token in tail for token in placeholders):
        return None
    before, end = closed.split(_ANSWER_SENTINEL)
    lead = before.removeprefix(opened) if before.startswith(opened) else ""
    return ChatFrame(head, tail, lead, end)


def _close_frame(frame: ChatFrame, tokenizer: Any) -> ChatFrame:
    """Add the begin-of-text token where the tokenizer would, and cut the end to its first special token."""
    head = frame.head
    bos = tokenizer.bos_token
    if bos and not head.startswith(bos) and _adds_bos(tokenizer):
        head = bos + head
    specials = [token for token in tokenizer.all_special_tokens if token in frame.end]
    end = min(specials, key=frame.end.index) if specials else tokenizer.eos_token
    if not end:
        name = name_model(tokenizer)
        raise ModelError(
            f"{name}: its chat template closes no turn and its tokenizer has no end-of-text token",
            hint="Use an instruction-tuned checkpoint, whose chat template ends each turn.",
        )
    # A word-piece tokenizer can split " A" into a space and "A": then every letter would begin with the same
    # token, and the plain letter is the natural continuation.
    lead = frame.lead.strip("\n") if _first_tokens_differ(tokenizer, frame.lead) else ""
    return ChatFrame(head, frame.tail, lead, str(end))


def _first_tokens_differ(tokenizer: Any, lead: str) -> bool:
    firsts = {tokenizer(lead + letter, add_special_tokens=False).input_ids[0] for letter in ascii_uppercase}
    return len(firsts) == len(ascii_uppercase)


def _adds_bos(tokenizer: Any) -> bool:
    with_special = tokenizer("A").input_ids
    return bool(with_special) and with_special[0] == tokenizer.bos_token_id


def find_special_tokens(processor: Any) -> set[str]:
    """Texts that the tokenizer or the processor would read as a special token."""
    tokenizer = get_tokenizer(processor)
    added = getattr(tokenizer, "added_tokens_decoder", {})
    named = (getattr(processor, name, None) for name in ("image_token", "video_token", "boi_token"))
    found = {
        *(str(token) for token in tokenizer.all_special_tokens),
        *(token.content for token in added.values() if token.special),
        *(str(token) for token in named if token),
    }
    return {token for token in found if token.strip()}
