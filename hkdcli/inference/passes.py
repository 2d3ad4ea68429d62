"""Log-probabilities of any tokens after any orders of the choices, with all before the choices computed once.

The prefix of each record runs once and leaves its keys and values. All orders in which its choices are shown,
each with the trie of its answers, then run as one forest below that prefix: a mask lets each token see the
prefix and its own branch alone. Where a model cannot do that, every answer is a whole pass of its own.

Dimensions: R records, F rows of the forest pass, P prefix positions, Q forest positions, H hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from hkdcli.data.batches import Prefixes, append_tokens, move_inputs, pad_rows
from hkdcli.data.collate import Collator
from hkdcli.data.examples import Example
from hkdcli.data.images import LoadedImage
from hkdcli.data.prompts import Presentation
from hkdcli.inference.trie import Forest, Trie, build_forest, build_trie, compute_ancestors
from hkdcli.models import families
from hkdcli.models.answers import compute_hidden_states, compute_token_log_probs

Sequences = Sequence[Sequence[Sequence[Sequence[int]]]]
"""[record][presentation][answer]: the tokens of an answer."""
Scores = list[list[list[float]]]
"""[record][presentation][answer]: log p(tokens | all before them)."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Records as they are asked: `suffixes[r][s]` are the tokens of the choices of record r in order s."""

    examples: tuple[Example, ...]
    images: tuple[LoadedImage, ...]
    presentations: tuple[tuple[Presentation, ...], ...]
    prefixes: Prefixes
    suffixes: tuple[tuple[tuple[int, ...], ...], ...]


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of the forest pass: some presentations of one record."""

    record: int
    forest: Forest


@dataclass(frozen=True, slots=True)
class _Prefilled:
    """The prefixes as the model holds them: cache, mask [rows, P], positions, next position [rows]."""

    cache: Any
    mask: Tensor
    positions: Tensor
    following: Tensor


class Passes:
    """The passes of one batch through one model.

    Args:
        model: an image-text-to-text model in evaluation mode.
        collator: of its processor.
        prepared: the records.
        reuse_prefix: False runs a whole pass for each answer: the same numbers, slower.
        max_row_tokens: presentations of one record beyond this many tokens go to further rows.
    """

    def __init__(
        self,
        model: nn.Module,
        collator: Collator,
        prepared: Prepared,
        *,
        reuse_prefix: bool,
        max_row_tokens: int,
    ) -> None:
        self.model, self.collator, self.prepared = model, collator, prepared
        self.reuse_prefix, self.max_row_tokens = reuse_prefix, max_row_tokens
        self.fell_back = False

    def score(self, sequences: Sequences) -> Scores:
        """Score answers to every presentation of every record; a presentation may have none.

        Args:
            sequences: their tokens; with the end of turn for a whole answer.

        Returns:
            One log-probability each. A `ModelError` where the model gives NaN.
        """
        rows = self._split_rows(sequences)
        if not rows:
            return [[[] for _ in asked] for asked in sequences]
        longest = max(self.prepared.prefixes.lengths) + max(len(row.forest.tokens) for row in rows)
        can_share = families.can_share_prefix(self.model, longest)
        self.fell_back |= self.reuse_prefix and not can_share
        return self._score_forest(rows) if self.reuse_prefix and can_share else self._score_whole(sequences)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = families.unwrap(self.model).get_input_embeddings().weight.dtype
        return dtype

    @cached_property
    def _prefilled(self) -> _Prefilled:
        inputs = move_inputs(self.prepared.prefixes.model_inputs, self._device, self._dtype)
        positions, following = families.compute_position_ids(self.model, inputs)
        backbone = families.get_backbone(self.model)
        # Padding is on the right, where no token looks: without a mask attention runs its causal kernel.
        mask = inputs.pop("attention_mask")
        filled = backbone(**inputs, position_ids=positions, use_cache=True, return_dict=True)
        return _Prefilled(filled.past_key_values, mask, positions, following)

    def _split_rows(self, sequences: Sequences) -> list[_Row]:
        """Forests of at most `max_row_tokens` tokens where one presentation allows it, in order."""
        rows = []
        for record, (suffixes, asked) in enumerate(zip(self.prepared.suffixes, sequences, strict=True)):
            stem = self.prepared.prefixes.stems[record]
            group: list[tuple[Sequence[int], Trie]] = []
            size = 0
            for suffix, answers in zip(suffixes, asked, strict=True):
                trie = build_trie(answers)
                tokens = len(suffix) + len(trie.tokens)
                if group and size + tokens > self.max_row_tokens:
                    rows.append(_Row(record, build_forest(group, stem)))
                    group, size = [], 0
                group.append((suffix, trie))
                size += tokens
            if any(asked):
                rows.append(_Row(record, build_forest(group, stem)))
        return rows

    def _score_forest(self, rows: Sequence[_Row]) -> Scores:
        prefilled = self._prefilled
        places = [self.prepared.prefixes.rows[row.record] for row in rows]
        at = torch.tensor(places, device=self._device)
        tokens = pad_rows([row.forest.tokens for row in rows], self.collator.pad_token_id)
        depths = pad_rows([row.forest.depths for row in rows], 0).to(self._device)
        cache = _branch_off(prefilled.cache)
        if places != list(range(len(prefilled.mask))):
            cache.batch_select_indices(at)
        hidden = families.get_backbone(self.model)(
            input_ids=tokens.to(self._device),
            attention_mask=self._build_mask(prefilled.mask[at], rows, tokens.shape[1]),
            position_ids=families.continue_positions(
                prefilled.positions, prefilled.following[at][:, None] + depths
            ),
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
        ).last_hidden_state
        results: Scores = [[] for _ in self.prepared.examples]
        for row, scores in zip(rows, self._read_scores(hidden, rows), strict=True):
            results[row.record] += scores
        for result, suffixes in zip(results, self.prepared.suffixes, strict=True):
            result += [[] for _ in suffixes[len(result) :]]  # nothing was asked about this record
        return results

    def _build_mask(self, prefix_mask: Tensor, rows: Sequence[_Row], width: int) -> Tensor:
        """Additive mask [F, 1, Q, P + Q]: 0 where a forest token may look, the lowest number elsewhere."""
        branches = torch.zeros(len(rows), width, width, dtype=torch.bool)
        for index, row in enumerate(rows):
            size = len(row.forest.tokens)
            branches[index, :size, :size] = torch.from_numpy(compute_ancestors(row.forest.parents))
        prefix = prefix_mask.bool()[:, None, :].expand(-1, width, -1)
        seen = torch.cat([prefix, branches.to(prefix.device)], dim=-1)[:, None]
        mask = torch.zeros(seen.shape, dtype=self._dtype, device=seen.device)
        return mask.masked_fill_(~seen, torch.finfo(self._dtype).min)

    def _read_scores(self, hidden: Tensor, rows: Sequence[_Row]) -> Scores:
        """Sum the steps of each answer: for each row and presentation one log-probability an answer."""
        needed = [(i, step) for i, row in enumerate(rows) for q in row.forest.steps for y in q for step in y]
        nodes = sorted({(i, node) for i, (node, _) in needed})
        place = {node: index for index, node in enumerate(nodes)}
        at = torch.tensor(nodes, device=hidden.device)
        wanted = torch.tensor([[place[i, node], token] for i, (node, token) in needed], device=hidden.device)
        logs = iter(compute_token_log_probs(self.model, hidden[at[:, 0], at[:, 1]], wanted).tolist())
        return [[[sum(next(logs) for _ in y) for y in q] for q in row.forest.steps] for row in rows]

    def _score_whole(self, sequences: Sequences) -> Scores:
        """One whole conversation per answer, each record's by themselves."""
        return [
            [self._score_order(record, order, answers) for order, answers in enumerate(asked)]
            for record, asked in enumerate(sequences)
        ]

    def _score_order(self, record: int, order: int, answers: Sequence[Sequence[int]]) -> list[float]:
        if not answers:
            return []
        prepared, n = self.prepared, len(answers)
        shown = [prepared.presentations[record][order]]
        prefixes = self.collator.collate_prefixes(
            [prepared.prefixes.examples[record]] * n, [prepared.images[record]] * n, [shown] * n
        )
        suffix = prepared.suffixes[record][order]
        inputs = append_tokens(
            prefixes, [[*suffix, *answer] for answer in answers], self.collator.pad_token_id
        )
        hidden = compute_hidden_states(self.model, move_inputs(inputs, self._device, self._dtype))
        start = prefixes.lengths[0] + len(suffix) - 1
        at = [(row, start + i, token) for row, answer in enumerate(answers) for i, token in enumerate(answer)]
        rows, columns, tokens = torch.tensor(at, device=hidden.device).unbind(-1)
        wanted = torch.stack([torch.arange(len(at), device=hidden.device), tokens], dim=-1)
        logs = compute_token_log_probs(self.model, hidden[rows, columns], wanted)
        sums: list[float] = logs.new_zeros(n).index_add(0, rows, logs).tolist()
        return sums


def _branch_off(cache: Any) -> Any:
    """A cache that goes on from this one and leaves it as it is: a layer that grows takes new tensors."""
    branch = copy.copy(cache)
    branch.layers = [copy.copy(layer) for layer in cache.layers]
    return branch
