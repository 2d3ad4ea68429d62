"""Examples and a processor -> Batch: what the model takes, and where its answers are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hkdcli.data.batches import TOKEN_TENSORS, Batch, Prefixes, append_tokens, pad_rows
from hkdcli.data.examples import Example
from hkdcli.data.images import LoadedImage
from hkdcli.data.prompts import Presentation, Prompt, PromptBuilder, join_letters, render_answer
from hkdcli.data.sharing import count_common, expand_alike, group_equal
from hkdcli.errors import BadRow, DataError, ModelError

__all__ = ["Batch", "Collator", "Prefixes"]


class Collator:
    """Turns examples with their images into model inputs; the same for training and inference.

    Args:
        processor: the model's processor.
        max_length: most tokens of a prompt, image and choices included; a longer context is shortened.
            None: what the tokenizer says its model can take.
    """

    def __init__(self, processor: Any, *, max_length: int | None = None) -> None:
        self.processor = processor
        self.builder = PromptBuilder(processor)
        self.tokenizer = self.builder.tokenizer
        self._known: dict[str, list[int]] = {}
        limit = max_length or int(min(self.tokenizer.model_max_length, 1 << 30))
        self.max_length = limit if limit < 1 << 30 else None

    def __call__(
        self,
        examples: Sequence[Example],
        images: Sequence[LoadedImage],
        presentations: Sequence[Presentation],
        answers: Sequence[frozenset[str]] | None = None,
        *,
        learned: Sequence[bool] | None = None,
    ) -> Batch:
        """Collate whole conversations.

        Args:
            examples: the records, at least one.
            images: one per example.
            presentations: one per example: the order and letters of its choices.
            answers: what to answer; None: each example's own gold answer.
            learned: whether an example's answer is one to learn; None: all are.

        Returns:
            The batch, on the CPU. `DataError` where an example has no answer, or its prompt is too long
            whatever goes from its context; `ModelError` where the tokenizer cannot tell two letters apart, or
            placeholders and images disagree.
        """
        prefixes = self.collate_prefixes(examples, images, [[shown] for shown in presentations])
        golds = answers or [_require_answer(example) for example in examples]
        prompts = [row[0] for row in prefixes.prompts]
        suffixes = [self.encode(prompt.suffix) for prompt in prompts]
        targets = [
            self.encode_answer(example, prompt, shown, gold)
            for example, prompt, shown, gold in zip(examples, prompts, presentations, golds, strict=True)
        ]
        letters = [
            self.encode_letters(example, prompt, shown)
            for example, prompt, shown in zip(examples, prompts, presentations, strict=True)
        ]
        columns = [n + len(suffix) - 1 for n, suffix in zip(prefixes.lengths, suffixes, strict=True)]
        added = [suffix + target for suffix, target in zip(suffixes, targets, strict=True)]
        kept = [row for row in range(len(targets)) if learned is None or learned[row]]
        positions = [(b, columns[b] + j, token) for b in kept for j, token in enumerate(targets[b])]
        rows, cols, tokens = torch.tensor(positions, dtype=torch.long).reshape(-1, 3).unbind(-1)
        counts = torch.tensor([len(targets[row]) for row in kept], dtype=torch.long)
        return Batch(
            model_inputs=append_tokens(prefixes, added, self.pad_token_id),
            answer_rows=rows,
            answer_columns=cols,
            answer_targets=tokens,
            first=counts.cumsum(0) - counts,
            letter_ids=pad_rows(letters, -1)[kept],
            ids=tuple(example.id for example in examples),
            pixel_hashes=tuple(image.pixel_hash for image in images),
        )

    def collate_prefixes(
        self,
        examples: Sequence[Example],
        images: Sequence[LoadedImage],
        presentations: Sequence[Sequence[Presentation]],
        *,
        share: bool = False,
    ) -> Prefixes:
        """Collate prompts up to the choices, shortening a context whose prompt is too long.

        Args:
            examples: the records, at least one.
            images: one per example.
            presentations: for each example the orders in which its choices will be shown, at least one.
            share: let examples of one image share what their prompts have in common, the image included.

        Returns:
            The prefixes, on the CPU. `DataError` where a prompt is too long whatever goes from its context;
            `ModelError` where placeholders and images disagree.
        """
        shown = list(examples)
        prompts = [self._build_all(e, p) for e, p in zip(shown, presentations, strict=True)]
        groups = group_equal(
            [image.pixel_hash for image in images] if share else list(map(str, range(len(shown))))
        )
        inputs, ids = self._encode_prefixes(prompts, images, groups)
        for index, example in enumerate(shown):
            if excess := self._compute_excess(len(ids[index]), prompts[index]):
                shown[index] = self._shorten(example, excess)
                prompts[index] = self._build_all(shown[index], presentations[index])
        if any(before is not after for before, after in zip(examples, shown, strict=True)):
            inputs, ids = self._encode_prefixes(prompts, images, groups)
        common = [count_common([ids[i] for i in group]) for group in groups]
        return Prefixes(
            self._cut(inputs, common),
            tuple(common),
            tuple(prompts),
            tuple(shown),
            rows=tuple(_place(groups)),
            stems=tuple(tuple(row[common[at] :]) for row, at in zip(ids, _place(groups), strict=True)),
        )

    @property
    def pad_token_id(self) -> int:
        """Any valid token: padding is masked wherever it is read."""
        token = self.tokenizer.pad_token_id
        return int(token if token is not None else self.tokenizer.eos_token_id)

    def encode(self, text: str) -> list[int]:
        """Tokens of a piece of a prompt, with nothing added at its borders."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
        return ids

    def encode_answer(
        self, example: Example, prompt: Prompt, presentation: Presentation, answer: frozenset[str]
    ) -> list[int]:
        """Tokens of an answer, end of turn included."""
        return self._encode_written(prompt, render_answer(example, presentation, answer), ended=True)

    def encode_letters_text(
        self, prompt: Prompt, letters: Sequence[str], *, ended: bool = False
    ) -> list[int]:
        """Tokens of letters as an answer writes them; with the end of turn where the answer is `ended`."""
        return self._encode_written(prompt, join_letters(letters), ended=ended)

    def _encode_written(self, prompt: Prompt, letters: str, *, ended: bool) -> list[int]:
        end = self._encode_letters(prompt.end) if ended else []
        return self._encode_letters(prompt.lead + letters) + end

    def encode_letters(self, example: Example, prompt: Prompt, presentation: Presentation) -> list[int]:
        """First answer token of each choice, in choice order.

        Args:
            example: the record.
            prompt: its prompt, which says what stands before an answer.
            presentation: the letters shown.

        Returns:
            As many token ids as the example has choices, all different.

        Raises:
            ModelError: two letters begin with the same token.
        """
        letters = {choice_id: letter for letter, choice_id in presentation}
        tokens = [self._encode_letters(prompt.lead + letters[choice.id])[0] for choice in example.choices]
        if len(set(tokens)) != len(tokens):
            raise ModelError(
                f"the tokenizer begins two of the letters {sorted(letters.values())} alike",
                hint="Use a model whose tokenizer has a token for each letter.",
            )
        return tokens

    def _encode_letters(self, text: str) -> list[int]:
        """Tokens of an answer or its end: few different ones, asked for all the time."""
        if text not in self._known:
            self._known[text] = self.encode(text)
        return self._known[text]

    def _build_all(self, example: Example, presentations: Sequence[Presentation]) -> tuple[Prompt, ...]:
        return tuple(self.builder.build(example, shown) for shown in presentations)

    def _encode_prefixes(
        self, prompts: Sequence[tuple[Prompt, ...]], images: Sequence[LoadedImage], groups: list[list[int]]
    ) -> tuple[dict[str, Tensor], list[list[int]]]:
        """Model inputs of the first example of each group, and all tokens of every example's prefix.

        A group whose prompts do not even share the image is taken apart, in place.
        """
        firsts = [group[0] for group in groups]
        inputs = self._process([prompts[i] for i in firsts], [images[i] for i in firsts])
        lengths = inputs["attention_mask"].sum(-1).tolist()
        ids: dict[int, list[int]] = {}
        for row, group in enumerate(groups):
            expanded = inputs["input_ids"][row, : lengths[row]].tolist()
            raw = self.encode(prompts[group[0]][0].prefix) if len(group) > 1 else []
            for index in group:
                same = index == group[0]
                found = (
                    expanded if same else expand_alike(raw, expanded, self.encode(prompts[index][0].prefix))
                )
                if found is None:
                    groups[:] = [[i] for i in range(len(prompts))]
                    return self._encode_prefixes(prompts, images, groups)
                ids[index] = found
        return inputs, [ids[index] for index in range(len(prompts))]

    def _cut(self, inputs: dict[str, Tensor], lengths: Sequence[int]) -> dict[str, Tensor]:
        """Keep the first so many tokens of each row."""
        if inputs["attention_mask"].sum(-1).tolist() == list(lengths):
            return inputs
        cut = dict(inputs)
        for name in ("input_ids", *TOKEN_TENSORS):
            if name in cut:
                fill = self.pad_token_id if name == "input_ids" else 0
                kept = [row[:n].tolist() for row, n in zip(cut[name], lengths, strict=True)]
                cut[name] = pad_rows(kept, fill).to(cut[name].dtype)
        return cut

    def _process(
        self, prompts: Sequence[tuple[Prompt, ...]], images: Sequence[LoadedImage]
    ) -> dict[str, Tensor]:
        processed = self.processor(
            text=[row[0].prefix for row in prompts],
            # One list per text: some processors take a flat list for the images of one text.
            images=[[image.image] for image in images],
            padding=True,
            padding_side="right",
            add_special_tokens=False,
            return_tensors="pt",
        )
        inputs = dict(processed)
        self._check_placeholders(inputs["input_ids"])
        return inputs

    def _check_placeholders(self, input_ids: Tensor) -> None:
        """Every row must hold image tokens, or the model would look at no image or at another row's."""
        image_id = getattr(self.processor, "image_token_id", None)
        if image_id is not None and not (input_ids == image_id).any(-1).all():
            raise ModelError(
                "the processor left a prompt without image tokens",
                hint="Processor and model must come from one checkpoint: download or copy the folder again.",
            )

    def _compute_excess(self, length: int, prompts: Sequence[Prompt]) -> int:
        if self.max_length is None:
            return 0
        # 2 tokens a letter with its separator, and the end of turn.
        answer = 2 * prompts[0].suffix.count("\n") + 3
        longest = max(len(self.encode(prompt.suffix)) for prompt in prompts)
        return max(0, length + longest + answer - self.max_length)

    def _shorten(self, example: Example, excess: int) -> Example:
        shorter = self.builder.shorten_context(example, excess)
        if shorter is None:
            detail = f"the prompt is {excess} tokens over {self.max_length} and its context cannot give them"
            row = BadRow("prompt.too_long", example.id, example.image, detail)
            raise DataError(f"record {example.id!r}: {detail}", [row])
        return shorter


def _place(groups: Sequence[Sequence[int]]) -> list[int]:
    """For each example the place of its group."""
    places = {index: place for place, group in enumerate(groups) for index in group}
    return [places[index] for index in range(len(places))]


def _require_answer(example: Example) -> frozenset[str]:
    if not example.answer:
        row = BadRow("record.no_answer", example.id, example.image, "the record has no answer to learn")
        raise DataError(
            f"record {example.id!r} has no answer",
            [row],
            hint="Give the record a correct_choice, or leave it out.",
        )
    return example.answer
