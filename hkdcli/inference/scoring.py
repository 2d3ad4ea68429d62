"""Log-probabilities of the legal answers to a record: of all, or of the likely ones where they are many.

Dimensions: R records, N answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from hkdcli.data.collate import Collator
from hkdcli.data.examples import Example
from hkdcli.data.images import LoadedImage
from hkdcli.data.prompts import (
    Presentation,
    Prompt,
    build_legal_answers,
    compute_prompt_hash,
    has_few_answers,
)
from hkdcli.errors import MachineLimitError
from hkdcli.inference.beam import BeamSearch, Letters
from hkdcli.inference.passes import Passes, Prepared, Scores, Sequences
from hkdcli.inference.scored import Answers, AnyScorer, ScoredRecord
from hkdcli.models.fingerprints import compute_weights_hash
from hkdcli.models.loading import LoadedModel
from hkdcli.runtime import is_out_of_memory

BEAM_WIDTH = 16
MOST_CANDIDATES = 64  # sets of several choices that are scored in every order, of those that any beam found


class Scorer(AnyScorer):
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
        self.device = next(self.model.parameters()).device

    @cached_property
    def weights_hash(self) -> str:
        """Hash of the weights as they were when it was first asked for."""
        return compute_weights_hash(self.model)

    def prepare(
        self,
        examples: Sequence[Example],
        images: Sequence[LoadedImage],
        presentations: Sequence[Sequence[Presentation]],
    ) -> Prepared:
        """Tokens and pixels; see `AnyScorer`."""
        prefixes = self.collator.collate_prefixes(examples, images, presentations, share=self.reuse_prefix)
        for example, prompts, shown in zip(prefixes.examples, prefixes.prompts, presentations, strict=True):
            for prompt, order in zip(prompts, shown, strict=True):
                self.collator.encode_letters(example, prompt, order)  # refuses letters that begin alike
        return Prepared(
            tuple(examples),
            tuple(images),
            tuple(tuple(shown) for shown in presentations),
            prefixes,
            tuple(tuple(tuple(self.collator.encode(p.suffix)) for p in row) for row in prefixes.prompts),
        )

    def score_prepared(self, prepared: Prepared) -> list[ScoredRecord]:
        """One pass over the prefixes, and one or more over what follows them; see `AnyScorer`."""
        # Not inference_mode: modules keep tensors between calls, and training goes on with them.
        with torch.no_grad(), _evaluating(self.model), _memory_limit(len(prepared.examples)):
            passes = Passes(
                self.model,
                self.collator,
                prepared,
                reuse_prefix=self.reuse_prefix,
                max_row_tokens=self.max_row_tokens,
            )
            found = self._find_answers(prepared, passes)
            results = passes.score(self._encode(prepared, found))
        self.fell_back |= passes.fell_back
        return [
            ScoredRecord(np.array(scores), shown.truncated, answers, not has_few_answers(shown))
            for scores, shown, answers in zip(results, prepared.prefixes.examples, found, strict=True)
        ]

    def _encode(self, prepared: Prepared, found: Sequence[Answers]) -> Sequences:
        """Tokens of every answer in every order, end of turn included."""
        prefixes = prepared.prefixes
        return [
            [
                [self.collator.encode_answer(e, prompt, order, answer) for answer in answers]
                for prompt, order in asked
            ]
            for e, answers, asked in zip(
                prefixes.examples, found, _pair(prefixes.prompts, prepared.presentations), strict=True
            )
        ]

    def _find_answers(self, prepared: Prepared, passes: Passes) -> list[Answers]:
        """All legal answers of a record, or those that a beam finds in any of its orders."""
        beams = [
            [] if has_few_answers(example) else [_open_beam(example, order) for order in shown]
            for example, shown in zip(prepared.examples, prepared.presentations, strict=True)
        ]
        while any(beam.proposals for row in beams for beam in row):
            _tell(beams, passes.score(self._encode_proposals(prepared, beams)))
        return [
            _collect(example, shown, row) if row else build_legal_answers(example)
            for example, shown, row in zip(prepared.examples, prepared.presentations, beams, strict=True)
        ]

    def _encode_proposals(self, prepared: Prepared, beams: Sequence[Sequence[BeamSearch]]) -> Sequences:
        """Tokens of what every beam proposes: each as a beginning, then each as a whole answer."""
        return [
            [self._encode_letters(prompt, beam.proposals) for prompt, beam in zip(prompts, row, strict=True)]
            if row
            else [[] for _ in prompts]
            for prompts, row in zip(prepared.prefixes.prompts, beams, strict=True)
        ]

    def _encode_letters(self, prompt: Prompt, proposals: Sequence[Letters]) -> list[list[int]]:
        begun = [self.collator.encode_letters_text(prompt, letters) for letters in proposals]
        return begun + [
            self.collator.encode_letters_text(prompt, letters, ended=True) for letters in proposals
        ]


def _pair(prompts: Any, presentations: Any) -> list[list[tuple[Prompt, Presentation]]]:
    return [list(zip(*row, strict=True)) for row in zip(prompts, presentations, strict=True)]


def _open_beam(example: Example, order: Presentation) -> BeamSearch:
    lonely = next((letter for letter, choice_id in order if choice_id == example.none_id), None)
    return BeamSearch(sorted(letter for letter, _ in order), lonely, BEAM_WIDTH)


def _tell(beams: Sequence[Sequence[BeamSearch]], scores: Scores) -> None:
    for row, told in zip(beams, scores, strict=True):
        for beam, logs in zip(row, told, strict=False):
            half = len(logs) // 2
            if half:
                beam.take(list(zip(logs[:half], logs[half:], strict=True)))


def _collect(example: Example, shown: Sequence[Presentation], beams: Sequence[BeamSearch]) -> Answers:
    """Every answer of one choice, then the likeliest sets of several that any order found."""
    sets: dict[frozenset[str], float] = {}
    for order, beam in zip(shown, beams, strict=True):
        choice_of = dict(order)
        for letters, log_p in beam.best().items():
            answer = frozenset(choice_of[letter] for letter in letters)
            sets[answer] = max(log_p, sets.get(answer, -np.inf))
    single = [frozenset({choice.id}) for choice in example.choices]
    several = sorted(
        (answer for answer in sets if len(answer) > 1), key=lambda answer: (-sets[answer], sorted(answer))
    )
    return (*single, *several[:MOST_CANDIDATES])


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
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise MachineLimitError(
            f"memory ran out while scoring {records} records at once",
            hint="Use a smaller --batch-size, or micro_batch_size in a recipe.",
        ) from error
