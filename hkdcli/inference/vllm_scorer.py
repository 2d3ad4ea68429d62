"""A scorer that asks a vLLM server: for many records on a GPU.

One request for each place in the trie of legal answers at which the model has a choice, restricted to the
tokens that are legal there. With a legal answer y = (t_1 .. t_k), end of turn included,

    log p(y|x) = sum_i log p(t_i | x, t_<i, t_i legal after t_<i)

which is normalised at every step. The built-in scorer multiplies unrestricted probabilities and normalises
once, over whole answers. The two are equal where legal tokens hold all of the probability at every step; for
single letters, where the end of turn is as likely after one letter as after another. They come close as a
model learns to answer in letters, and are not the same numbers.

Dimensions: N legal answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from hkdcli.data.examples import Example
from hkdcli.data.images import LoadedImage
from hkdcli.data.prompts import Presentation, build_legal_answers, compute_prompt_hash
from hkdcli.errors import BadRow, DataError, HkdError, MachineLimitError
from hkdcli.inference.scored import AnyScorer, ScoredRecord
from hkdcli.inference.trie import Trie
from hkdcli.inference.vllm_client import EngineLostError, Question, ReplyError
from hkdcli.inference.vllm_prompts import PromptMessages, render_data_url
from hkdcli.inference.vllm_server import VllmServer

REQUESTS_AT_ONCE = 64

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Step:
    """One question, where its answer belongs: record, presentation, node of the trie."""

    record: int
    shown: int
    node: int
    question: Question


@dataclass(frozen=True, slots=True)
class PreparedQuestions:
    """Records as they are asked: their legal answers, the trie of each presentation, and its questions."""

    examples: tuple[Example, ...]
    legal: list[tuple[frozenset[str], ...]]
    tries: list[list[Trie]]
    steps: list[_Step]


class VllmScorer(AnyScorer):
    """Scores records through a server that is running; `open_vllm` makes one.

    Args:
        server: started; started again once in a batch where it is lost.
        messages: of the served model.
        weights_hash: tells models, adapters and versions of the engine apart.
    """

    def __init__(self, server: VllmServer, messages: PromptMessages, weights_hash: str) -> None:
        self.collator = messages.collator
        self.prompt_hash = compute_prompt_hash(self.collator.processor)
        self._weights_hash = weights_hash
        self.device = torch.device("cpu")
        self._server = server
        self._messages = messages

    @property
    def weights_hash(self) -> str:
        """Of model, adapter and version of the engine."""
        return self._weights_hash

    def prepare(
        self,
        examples: Sequence[Example],
        images: Sequence[LoadedImage],
        presentations: Sequence[Sequence[Presentation]],
    ) -> PreparedQuestions:
        """The questions of every record; see `AnyScorer`."""
        legal = [build_legal_answers(example) for example in examples]
        prefixes = self.collator.collate_prefixes(examples, images, presentations)
        tries: list[list[Trie]] = []
        steps: list[_Step] = []
        for record, (example, image) in enumerate(zip(prefixes.examples, images, strict=True)):
            url, row = render_data_url(image), []
            for shown, (prompt, order) in enumerate(
                zip(prefixes.prompts[record], presentations[record], strict=True)
            ):
                trie, nodes = self._messages.build_trie(example, prompt, order, legal[record])
                row.append(trie)
                steps += [
                    _Step(
                        record, shown, node.index, self._messages.build_question(example, prompt, url, node)
                    )
                    for node in nodes
                ]
            tries.append(row)
        return PreparedQuestions(prefixes.examples, legal, tries, steps)

    def score_prepared(self, prepared: PreparedQuestions) -> list[ScoredRecord]:
        """Ask the server; each row of `log_probs` is normalised over the N legal answers.

        Args:
            prepared: as `prepare` made it.

        Returns:
            One result per record. `DataError` where the engine's reply to one cannot be used twice
            (`engine.invalid_answer`, `engine.refused`); `MachineLimitError` where the engine was lost,
            started again, and lost again.
        """
        try:
            answers = self._ask_all(prepared.examples, prepared.steps)
        except EngineLostError as error:
            answers = self._ask_again(prepared.examples, prepared.steps, error)
        return [
            ScoredRecord(_sum_steps(answers, record, row), example.truncated, legal)
            for record, (example, legal, row) in enumerate(
                zip(prepared.examples, prepared.legal, prepared.tries, strict=True)
            )
        ]

    def _ask_again(
        self, examples: Sequence[Example], steps: Sequence[_Step], lost: EngineLostError
    ) -> dict[tuple[int, int, int], dict[int, float]]:
        """The same on a fresh server; whatever goes wrong with that one is the end."""
        first = f"vLLM was lost: {lost}; {self._server.describe_end()}"
        hint = (
            "Rows that are done are kept: go on with --resume, with a smaller --batch-size or another engine."
        )
        try:
            self._server.start()
            return self._ask_all(examples, steps)
        except EngineLostError as error:
            again = f"started again, it was lost once more: {error}; {self._server.describe_end()}"
            raise MachineLimitError(f"{first}\n{again}", hint=hint) from error
        except DataError:
            raise
        except HkdError as error:
            raise MachineLimitError(f"{first}\nit could not be started again: {error}", hint=hint) from error

    def _ask_all(
        self, examples: Sequence[Example], steps: Sequence[_Step]
    ) -> dict[tuple[int, int, int], dict[int, float]]:
        """Answers by place. One question of each record goes first: the others find its prefix cached."""
        first = {step.record: step for step in reversed(steps)}
        others = [step for step in steps if step is not first[step.record]]
        answers: dict[tuple[int, int, int], dict[int, float]] = {}
        for some in (list(first.values()), others):
            found = _map_threads(lambda step: self._ask(examples[step.record], step.question), some)
            answers.update(
                ((step.record, step.shown, step.node), each) for step, each in zip(some, found, strict=True)
            )
        return answers

    def _ask(self, example: Example, question: Question) -> dict[int, float]:
        try:
            return self._server.client.ask(question)
        except ReplyError:
            pass
        try:
            return self._server.client.ask(question)
        except ReplyError as error:
            row = BadRow(error.code, example.id, example.image, str(error))
            raise DataError(f"record {example.id!r}: {error}", [row]) from error


def _sum_steps(
    answers: dict[tuple[int, int, int], dict[int, float]], record: int, tries: Sequence[Trie]
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[presentations, N]; a step without an answer had one legal token."""
    return np.array(
        [
            [
                sum(answers.get((record, shown, node), {}).get(token, 0.0) for node, token in path)
                for path in trie.steps
            ]
            for shown, trie in enumerate(tries)
        ]
    )


def _map_threads(ask: Callable[[_Step], T], steps: Sequence[_Step]) -> list[T]:
    """In threads, in order; the first failure calls off what has not begun."""
    pool = ThreadPoolExecutor(REQUESTS_AT_ONCE)
    try:
        return list(pool.map(ask, steps))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
