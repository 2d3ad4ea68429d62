"""What a model takes: whole conversations and prefixes as padded tensors.

Dimensions: B examples, L positions, A answer positions of the whole batch, n_max most choices of an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hkdcli.data.examples import Example
from hkdcli.data.prompts import Prompt
from hkdcli.errors import BadRow

# Tensors that have one entry per token; 0 means "padding" in the first and "text" in the others.
TOKEN_TENSORS = ("attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole conversations, right-padded.

    `model_inputs` holds `input_ids` [B, L], `attention_mask` [B, L] and what else the model takes. The hidden
    state at (`answer_rows[a]`, `answer_columns[a]`) predicts `answer_targets[a]`, a in [0, A); `first[b]` is
    the index into A of the first answer position of example b. `letter_ids[b, c]` is the token with which an
    answer naming choice c alone begins, in choice order (not display order), -1 where there is no choice c.
    A row that is not learned from has no answer positions, nor a place in `first` and `letter_ids`; `lost`
    names those whose image could not be read.
    """

    model_inputs: dict[str, Tensor]
    answer_rows: Tensor
    answer_columns: Tensor
    answer_targets: Tensor
    first: Tensor
    letter_ids: Tensor
    ids: tuple[str, ...]
    pixel_hashes: tuple[str, ...]
    lost: tuple[BadRow, ...] = ()

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Batch:
        """The batch on `device`; floating-point inputs (pixels) in `dtype` where one is given."""
        return replace(
            self,
            model_inputs=move_inputs(self.model_inputs, device, dtype),
            answer_rows=self.answer_rows.to(device),
            answer_columns=self.answer_columns.to(device),
            answer_targets=self.answer_targets.to(device),
            first=self.first.to(device),
            letter_ids=self.letter_ids.to(device),
        )


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Prompts up to the choices, right-padded: `model_inputs` as in `Batch`.

    `lengths` counts the tokens of each row; `prompts` are the prompts for the presentations asked for;
    `examples` are the examples as shown, with the context shortened where it had to be. Examples of one
    image may share a row, which then ends where they part: `rows` says which row an example begins with, and
    `stems` which tokens of its own follow before its choices.
    """

    model_inputs: dict[str, Tensor]
    lengths: tuple[int, ...]
    prompts: tuple[tuple[Prompt, ...], ...]
    examples: tuple[Example, ...]
    rows: tuple[int, ...]
    stems: tuple[tuple[int, ...], ...]


def append_tokens(prefixes: Prefixes, added: Sequence[Sequence[int]], pad_token_id: int) -> dict[str, Tensor]:
    """Append text tokens to each row of padded model inputs.

    Args:
        prefixes: the rows to extend.
        added: for each row its further tokens.
        pad_token_id: what to fill up with.

    Returns:
        Model inputs padded on the right to the longest row; pixels as they were.
    """
    inputs, lengths = dict(prefixes.model_inputs), prefixes.lengths
    ids = [
        row[:n].tolist() + list(more)
        for row, n, more in zip(inputs["input_ids"], lengths, added, strict=True)
    ]
    for name in TOKEN_TENSORS:
        if name in inputs:
            text = 1 if name == "attention_mask" else 0
            rows = [
                row[:n].tolist() + [text] * len(more)
                for row, n, more in zip(inputs[name], lengths, added, strict=True)
            ]
            inputs[name] = pad_rows(rows, 0).to(inputs[name].dtype)
    inputs["input_ids"] = pad_rows(ids, pad_token_id)
    return inputs


def pad_rows(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Integer rows as one tensor [rows, longest row], filled up on the right with `value`."""
    longest = max(len(row) for row in rows)
    return torch.tensor([list(row) + [value] * (longest - len(row)) for row in rows])


def move_inputs(
    inputs: dict[str, Tensor], device: torch.device | str, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Model inputs on `device`; floating-point ones in `dtype` where one is given."""
    return {
        name: value.to(device, dtype if value.is_floating_point() else None) for name, value in inputs.items()
    }
