"""Some records at once: their images, their prompts, their scores; a record at fault fails alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hkdcli.data.examples import Example
from hkdcli.data.images import ImageError, ImageSource, LoadedImage, paint_grey
from hkdcli.data.prompts import Presentation
from hkdcli.errors import BadRow, DataError, MachineLimitError
from hkdcli.inference.abstention import is_answered
from hkdcli.inference.asking import Judge, combine_orders, decide
from hkdcli.inference.batching import BatchSize
from hkdcli.inference.decode import Answer, build_posterior
from hkdcli.inference.row_files import OUT_OF_MEMORY
from hkdcli.inference.rows import Row, RunHashes, render_failure, render_orders, render_prediction
from hkdcli.inference.shift import Combined
from hkdcli.inference.task_fit import round_confidence


@dataclass(frozen=True, slots=True)
class Loaded:
    """Records with what a model takes of them; `failures` says which could not be loaded, and why.

    `prepared` belongs to `usable` and their `images`; None where there are none.
    """

    examples: tuple[Example, ...]
    usable: tuple[Example, ...]
    images: tuple[LoadedImage, ...]
    prepared: Any
    failures: dict[str, BadRow]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a model says about a record: together, and for each order `shown` in `log_probs` [S, N]."""

    combined: Combined
    shown: tuple[Presentation, ...]
    log_probs: npt.NDArray[np.float64]
    truncated: bool
    approximate: bool


def load_batch(judge: Judge, images: ImageSource, examples: Sequence[Example]) -> Loaded:
    """The part that needs no model, so that another process can do it.

    Args:
        judge: says in which orders the choices are shown.
        images: where the images are.
        examples: the records.

    Returns:
        The records, ready to be scored together.
    """
    failures: dict[str, BadRow] = {}
    usable: list[Example] = []
    pictures: list[LoadedImage] = []
    for example in examples:
        if example.task not in judge.rules:
            detail = f"no answer to a record of {example.task} is as sure as was asked for"
            hint = f"calibrate on records of {example.task}, or ask for less"
            failures[example.id] = BadRow("task.no_rule", example.id, "", detail, hint)
            continue
        try:
            picture = images.load(example.image)
            usable.append(example)
            pictures.append(paint_grey(picture.image.size, picture.notes) if judge.blind else picture)
        except ImageError as error:
            failures[example.id] = error.row
    prepared = None
    try:
        prepared = _prepare(judge, usable, pictures)
    except DataError as error:
        if len(usable) == 1:
            failures[usable[0].id] = _find_row(error, usable[0])
            return Loaded(tuple(examples), (), (), None, failures)
        # One of them is at fault: look at them one by one, so that it fails alone.
        alone = [load_batch(judge, _Held(e, p), [e]) for e, p in zip(usable, pictures, strict=True)]
        for one in alone:
            failures |= one.failures
        usable = [example for one in alone for example in one.usable]
        pictures = [picture for one in alone for picture in one.images]
        prepared = _prepare(judge, usable, pictures)
    return Loaded(tuple(examples), tuple(usable), tuple(pictures), prepared, failures)


def judge_batch(judge: Judge, loaded: Loaded, size: BatchSize | None = None) -> list[Answered | BadRow]:
    """What the model says about each record, or what is wrong with it.

    Args:
        judge: asks the model.
        loaded: the records.
        size: told what fits and what does not, which is tried again in halves; None: memory that runs out
            is a MachineLimitError.

    Returns:
        One entry per record of `loaded.examples`, in order.
    """
    answered = dict(_judge(judge, loaded.usable, loaded.images, loaded.prepared, size))
    return [loaded.failures.get(example.id) or answered[example.id] for example in loaded.examples]


def render_row(judge: Judge, example: Example, said: Answered | BadRow, hashes: RunHashes) -> Row:
    """The row of predictions.jsonl for a record.

    Args:
        judge: decides.
        example: the record.
        said: what `judge_batch` gave for it.
        hashes: of the run.

    Returns:
        A JSON object.
    """
    if isinstance(said, BadRow):
        return render_failure(said, example, hashes)
    rule = judge.rules[example.task]
    posterior, answer = decide(example, said.combined.posterior, rule)
    given: Answer | None = answer
    confidence = round_confidence(posterior.get_probability(answer))
    if rule.abstain_below is not None and not is_answered(confidence, rule.abstain_below):
        given = None
    orders = None
    if judge.per_shift:
        each = [build_posterior(posterior.answers, row) for row in said.log_probs]
        orders = render_orders(example, said.shown, each)
    return render_prediction(
        example,
        posterior,
        answer=given,
        confidence=confidence,
        shifts=len(said.shown),
        flip_rate=said.combined.flip_rate,
        all_agree=said.combined.all_agree,
        truncated=said.truncated,
        approximate=said.approximate,
        hashes=hashes,
        orders=orders,
    )


def _prepare(judge: Judge, examples: Sequence[Example], images: Sequence[LoadedImage]) -> Any:
    if not examples:
        return None
    return judge.scorer.prepare(examples, images, [judge.asking.present(example) for example in examples])


def _judge(
    judge: Judge,
    examples: Sequence[Example],
    images: Sequence[LoadedImage],
    prepared: Any,
    size: BatchSize | None,
) -> list[tuple[str, Answered | BadRow]]:
    if not examples:
        return []
    try:
        scored = judge.scorer.score_prepared(prepared)
    except MachineLimitError as error:
        if size is None:
            raise
        size.shrink(len(examples))
        if len(examples) == 1:
            return [(examples[0].id, BadRow(OUT_OF_MEMORY, examples[0].id, examples[0].image, str(error)))]
        parts = [slice(0, len(examples) // 2), slice(len(examples) // 2, None)]
    except DataError as error:
        if len(examples) == 1:
            return [(examples[0].id, _find_row(error, examples[0]))]
        parts = [slice(place, place + 1) for place in range(len(examples))]
    else:
        if size is not None:
            size.forgive()
        return [(e.id, _combine(judge, e, one)) for e, one in zip(examples, scored, strict=True)]
    # Outside of the handlers: what they hold of the failed attempt is free now.
    return [
        pair
        for part in parts
        for pair in _judge(
            judge, examples[part], images[part], _prepare(judge, examples[part], images[part]), size
        )
    ]


def _combine(judge: Judge, example: Example, scored: Any) -> Answered | BadRow:
    shown = judge.asking.present(example)
    try:
        combined = combine_orders(example, scored, shown, judge.asking, judge.rules[example.task])
    except DataError as error:
        return _find_row(error, example)
    return Answered(combined, shown, scored.log_probs, scored.truncated, scored.approximate)


def _find_row(error: DataError, example: Example) -> BadRow:
    return error.rows[0] if error.rows else BadRow("record.refused", example.id, "", str(error))


@dataclass(frozen=True, slots=True)
class _Held:
    """An image source that has the one image of one record."""

    example: Example
    picture: LoadedImage

    def load(self, name: str) -> LoadedImage:
        """The picture."""
        return self.picture
