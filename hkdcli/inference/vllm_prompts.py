"""Our prompts as messages of the chat API, checked to come out as the very same tokens.

The server is started with a chat template that holds the frame which the model's own one puts around one
question (`data.chat.ChatFrame`) and nothing else: own templates may set a space before an answer, or trim it,
and then an answer that has begun is not the one that was learned. The template is rendered here too, by the
same transformers call, and what comes out is compared with the prompt as `data.prompts` builds it: text with
text, tokens with tokens.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hkdcli.data.chat import ChatFrame
from hkdcli.data.collate import Collator
from hkdcli.data.examples import Choice, Example
from hkdcli.data.images import LoadedImage
from hkdcli.data.prompts import Presentation, Prompt, identity_presentation, render_answer
from hkdcli.errors import BadRow, DataError, ModelError
from hkdcli.inference.trie import Trie, build_trie
from hkdcli.inference.vllm_client import Question

_OTHER_ENGINE = "this model cannot be asked through vLLM; use the built-in engine"
_NO_ENGINE = "Use the built-in engine: this model cannot be asked through vLLM."
_PROBE = Example(
    id="probe",
    task="hallucination",
    image="",
    question="Which?",
    choices=(Choice("A", "No hallucination"), Choice("B", "a red square"), Choice("C", "left of")),
    caption="a red square is left of a small circle",
)


@dataclass(frozen=True, slots=True)
class Node:
    """One beginning of an answer: its index in the trie (-1: the root), its text, the legal next tokens."""

    index: int
    text: str
    allowed: tuple[int, ...]


class PromptMessages:
    """Turns prompts into questions for the engine.

    Args:
        collator: of the model that the engine serves. A tokenizer that makes other tokens of a whole
            conversation than of its parts is a ModelError: the engine would be asked something else.
    """

    def __init__(self, collator: Collator) -> None:
        self.collator = collator
        self.chat_template = render_chat_template(collator.builder.frame)
        self._texts: dict[tuple[int, ...], str] = {}
        self._known: set[str] = set()
        self._proven: set[str] = set()
        self._check_probe()

    def build_trie(
        self,
        example: Example,
        prompt: Prompt,
        presentation: Presentation,
        answers: Sequence[frozenset[str]],
    ) -> tuple[Trie, list[Node]]:
        """The trie of the legal answers, and those of its nodes at which the model has a choice.

        Args:
            example: the record.
            prompt: its prompt for this presentation.
            presentation: the letters shown.
            answers: the legal answers.

        Returns:
            The trie of their tokens, and its nodes with two or more legal next tokens, the root first.
        """
        for answer in answers:
            self._learn_texts(prompt.lead + render_answer(example, presentation, answer))
        trie = build_trie([self.collator.encode_answer(example, prompt, presentation, a) for a in answers])
        return trie, list(self._list_nodes(trie))

    def build_question(self, example: Example, prompt: Prompt, image_url: str, node: Node) -> Question:
        """The question at one node.

        Args:
            example: the record, named in the error.
            prompt: its prompt.
            image_url: its image as a data URL.
            node: what of the answer is there already.

        Returns:
            What to send.

        Raises:
            DataError: the engine would see other tokens of this record than the built-in one.
        """
        if not node.text or node.text not in self._proven:
            if not self._is_same(prompt, node):
                detail = f"the engine would read another prompt, with {node.text!r} begun"
                row = BadRow("engine.other_prompt", example.id, example.image, detail, _OTHER_ENGINE)
                raise DataError(f"record {example.id!r}: {detail}", [row])
            self._proven.add(node.text)
        image = {"type": "image_url", "image_url": {"url": image_url}}
        messages = self._build_messages(prompt, image, node)
        return Question(tuple(messages), node.allowed, continues=bool(node.text))

    def _check_probe(self) -> None:
        """Refuse a model whose prompts come out otherwise, at the root or within an answer."""
        shown = identity_presentation(_PROBE)
        prompt = self.collator.builder.build(_PROBE, shown)
        answers = [frozenset("A"), frozenset("B"), frozenset("C"), frozenset("BC")]
        _, nodes = self.build_trie(_PROBE, prompt, shown, answers)
        if not all(self._is_same(prompt, node) for node in nodes):
            raise ModelError(
                "the model's tokenizer makes other tokens of a whole conversation than of its parts",
                hint=_NO_ENGINE,
            )

    def _is_same(self, prompt: Prompt, node: Node) -> bool:
        """Whether template and tokenizer give exactly what the built-in engine reads."""
        rendered: str = self.collator.tokenizer.apply_chat_template(
            self._build_messages(prompt, {"type": "image"}, node),
            chat_template=self.chat_template,
            tokenize=False,
            add_generation_prompt=not node.text,
            continue_final_message=bool(node.text),
        )
        if rendered != prompt.prefix + prompt.suffix + node.text:
            return False
        encode = self.collator.encode
        answer = encode(node.text) if node.text else []
        return encode(rendered) == encode(prompt.prefix) + encode(prompt.suffix) + answer

    def _build_messages(self, prompt: Prompt, image: dict[str, Any], node: Node) -> list[dict[str, Any]]:
        text = {"type": "text", "text": self._get_user_text(prompt)}
        messages: list[dict[str, Any]] = [{"role": "user", "content": [image, text]}]
        if node.text:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": node.text}]})
        return messages

    def _get_user_text(self, prompt: Prompt) -> str:
        frame = self.collator.builder.frame
        return (prompt.prefix + prompt.suffix).removeprefix(frame.head).removesuffix(frame.tail)

    def _learn_texts(self, answer: str) -> None:
        """Which tokens each beginning of an answer's text has."""
        for end in range(1, len(answer) + 1):
            text = answer[:end]
            if text not in self._known:
                self._known.add(text)
                self._texts.setdefault(tuple(self.collator.encode(text)), text)

    def _list_nodes(self, trie: Trie) -> Iterator[Node]:
        allowed: dict[int, dict[int, None]] = {}
        for path in trie.steps:
            for node, token in path:
                allowed.setdefault(node, {})[token] = None
        for index in sorted(allowed):
            if len(allowed[index]) > 1:
                yield Node(index, self._find_text(trie, index), tuple(allowed[index]))

    def _find_text(self, trie: Trie, index: int) -> str:
        tokens: list[int] = []
        while index >= 0:
            tokens.insert(0, trie.tokens[index])
            index = trie.parents[index]
        text = self._texts.get(tuple(tokens)) if tokens else ""
        if text is None:
            raise ModelError("the tokenizer has no text for the beginning of an answer", hint=_NO_ENGINE)
        return text


def render_chat_template(frame: ChatFrame) -> str:
    """A Jinja template for one question with one image, and perhaps the beginning of its answer.

    An answer's text holds the frame's `lead`, where it has one.
    """
    head, tail = (json.dumps(text, ensure_ascii=False) for text in (frame.head, frame.tail))
    text = "{%- for part in message.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
    user = f"{{{{- {head} }}}}{text}{{{{ {tail} }}}}"
    return (
        "{%- for message in messages %}{%- if message.role == 'user' %}"
        f"{user}{{%- else %}}{text}{{%- endif %}}{{%- endfor %}}"
    )


def render_data_url(image: LoadedImage) -> str:
    """The pixels of an image as a PNG data URL: what the server decodes is what was loaded."""
    buffer = io.BytesIO()
    image.image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
