"""Exact log-probabilities of every legal answer, with everything up to the choices computed once.

The prefix of each record runs once and leaves its keys and values. All orders in which its choices are shown,
each with the trie of its legal answers, then run as one forest below that prefix: a mask lets each token see
the prefix and its own branch alone.

Dimensions: R records, F rows of the forest pass, P prefix positions, Q forest positions, H hidden size,
N legal answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hkdcli.data.batches import Prefixes, move_inputs, pad_rows
from hkdcli.data.collate import Collator
from hkdcli.data.examples import Example
from hkdcli.data.images import LoadedImage
from hkdcli.data.prompts import Presentation, build_legal_answers, compute_prompt_hash
from hkdcli.errors import MachineLimitError
from hkdcli.inference.trie import Forest, Trie, build_forest, build_trie, compute_ancestors
from hkdcli.models import families
from hkdcli.models.answers import compute_hidden_states, compute_token_log_probs
from hkdcli.models.loading import LoadedModel

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScoredRecord:
    """`log_probs` [presentations, N] of `build_legal_answers`; `truncated`: the context was cut."""

    log_probs: Array
    truncated: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """One row of the forest pass: some presentations of one record."""

    record: int
    forest: Forest


class Scorer:
    """Scores records with one model; changes nothing in it.

    Args:
        loaded: model and processor.
        max_length: most tokens of a prompt; a longer context is shortened.
        reuse_prefix: False runs a whole pass for each presentation and answer: the same numbers, slower.
        max_row_tokens: presentations of one record beyond this many tokens go to further rows.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_length: int | None = None,
        reuse_prefix: bool = True,
        max_row_tokens: int = 1024,
    ) -> None:
        self.model: nn.Module = loaded.model
        self.collator = Collator(loaded.processor, max_length=max_length)
        self.prompt_hash = compute_prompt_hash(loaded.processor)
        self.reuse_prefix = reuse_prefix
        self.max_row_tokens = max_row_tokens

    def score(
        self,
        examples: Sequence[Example],
        images: Sequence[LoadedImage],
        presentations: Sequence[Sequence[Presentation]],
    ) -> list[ScoredRecord]:
        """Score every legal answer of each record under each of its presentations.

        Args:
            examples: R records, at least one.
            images: one per record.
            presentations: for each record the orders in which to show its choices, at least one.

        Returns:
            One result per record. `DataError` where one cannot be asked or scored, with a row that says why;
            `ModelError` where the model gives NaN; `MachineLimitError` where memory runs out.
        """
        answers = [build_legal_answers(example) for example in examples]
        # Not inference_mode: modules keep tensors between calls, and training goes on with them.
        with torch.no_grad(), _evaluating(self.model), _memory_limit(len(examples)):
            prefixes = self.collator.collate_prefixes(examples, images, presentations)
            tries = self._build_questions(prefixes, presentations, answers)
            rows = self._split_rows(tries)
            longest = max(prefixes.lengths) + max(len(row.forest.tokens) for row in rows)
            if self.reuse_prefix and families.can_share_prefix(self.model, longest):
                results = self._score_forest(prefixes, rows)
            else:
                results = self._score_whole(prefixes.examples, images, presentations, answers)
        shown = [example.truncated for example in prefixes.examples]
        return [ScoredRecord(np.array(r), cut) for r, cut in zip(results, shown, strict=True)]

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = families.unwrap(self.model).get_input_embeddings().weight.dtype
        return dtype

    def _build_questions(
        self,
        prefixes: Prefixes,
        presentations: Sequence[Sequence[Presentation]],
        answers: Sequence[Sequence[frozenset[str]]],
    ) -> list[list[tuple[list[int], Trie]]]:
        """For each record and presentation the suffix tokens and the trie of its answers."""
        questions = []
        for example, prompts, shown, legal in zip(
            prefixes.examples, prefixes.prompts, presentations, answers, strict=True
        ):
            row = []
            for prompt, order in zip(prompts, shown, strict=True):
                self.collator.encode_letters(example, prompt, order)
                tokens = [self.collator.encode_answer(example, prompt, order, answer) for answer in legal]
                row.append((self.collator.encode(prompt.suffix), build_trie(tokens)))
            questions.append(row)
        return questions

    def _split_rows(self, questions: Sequence[Sequence[tuple[list[int], Trie]]]) -> list[_Row]:
        """Forests of at most `max_row_tokens` tokens where one presentation allows it, in order."""
        rows = []
        for record, asked in enumerate(questions):
            group: list[tuple[list[int], Trie]] = []
            size = 0
            for suffix, trie in asked:
                tokens = len(suffix) + len(trie.tokens)
                if group and size + tokens > self.max_row_tokens:
                    rows.append(_Row(record, build_forest(group)))
                    group, size = [], 0
                group.append((suffix, trie))
                size += tokens
            rows.append(_Row(record, build_forest(group)))
        return rows

    def _score_forest(self, prefixes: Prefixes, rows: Sequence[_Row]) -> list[list[list[float]]]:
        inputs = move_inputs(prefixes.model_inputs, self._device, self._dtype)
        positions, following = families.compute_position_ids(self.model, inputs)
        backbone = families.get_backbone(self.model)
        prefilled = backbone(**inputs, position_ids=positions, use_cache=True, return_dict=True)
        cache = prefilled.past_key_values
        records = torch.tensor([row.record for row in rows], device=self._device)
        if [row.record for row in rows] != list(range(len(prefixes.lengths))):
            cache.batch_select_indices(records)
        tokens = pad_rows([row.forest.tokens for row in rows], self.collator.pad_token_id)
        depths = pad_rows([row.forest.depths for row in rows], 0).to(self._device)
        hidden = backbone(
            input_ids=tokens.to(self._device),
            attention_mask=self._build_mask(inputs["attention_mask"][records], rows, tokens.shape[1]),
            position_ids=families.continue_positions(positions, following[records][:, None] + depths),
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
        ).last_hidden_state
        results: list[list[list[float]]] = [[] for _ in prefixes.lengths]
        for row, scores in zip(rows, self._read_scores(hidden, rows), strict=True):
            results[row.record] += scores
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

    def _read_scores(self, hidden: Tensor, rows: Sequence[_Row]) -> list[list[list[float]]]:
        """Sum the steps of each answer: for each row and presentation the N log-probabilities."""
        needed = [(i, step) for i, row in enumerate(rows) for q in row.forest.steps for y in q for step in y]
        nodes = sorted({(i, node) for i, (node, _) in needed})
        place = {node: index for index, node in enumerate(nodes)}
        at = torch.tensor(nodes, device=hidden.device)
        wanted = torch.tensor([[place[i, node], token] for i, (node, token) in needed], device=hidden.device)
        logs = iter(compute_token_log_probs(self.model, hidden[at[:, 0], at[:, 1]], wanted).tolist())
        return [[[sum(next(logs) for _ in y) for y in q] for q in row.forest.steps] for row in rows]

    def _score_whole(
        self,
        examples: Sequence[Example],
        images: Sequence[LoadedImage],
        presentations: Sequence[Sequence[Presentation]],
        answers: Sequence[Sequence[frozenset[str]]],
    ) -> list[list[list[float]]]:
        """One whole conversation per answer, through the batch that training uses."""
        results = []
        for example, image, shown, legal in zip(examples, images, presentations, answers, strict=True):
            row = []
            for order in shown:
                n = len(legal)
                batch = self.collator([example] * n, [image] * n, [order] * n, legal)
                batch = batch.to(self._device, self._dtype)
                hidden = compute_hidden_states(self.model, batch.model_inputs)
                states = hidden[batch.answer_rows, batch.answer_columns]
                index = torch.arange(len(states), device=states.device)
                wanted = torch.stack([index, batch.answer_targets], dim=-1)
                logs = compute_token_log_probs(self.model, states, wanted)
                row.append(logs.new_zeros(n).index_add(0, batch.answer_rows, logs).tolist())
            results.append(row)
        return results


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; every module back as it was afterwards."""
    training: list[Any] = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _memory_limit(records: int) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MachineLimitError(
            f"memory ran out while scoring {records} records at once",
            hint="use a smaller --batch-size, or micro_batch_size in a recipe",
        ) from error
