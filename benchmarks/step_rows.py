"""Rows, pictures and models of the benchmark of a step."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hkdcli.data.batches import Batch
from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import Choice, Example
from hkdcli.data.images import ImageFolder
from hkdcli.data.prompts import identity_presentation, render_answer
from hkdcli.distill.order import Draw
from hkdcli.distill.sources import DatasetSource
from hkdcli.models.loading import load_processor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from tiny_models import save_tiny_qwen


class InHand:
    """A source whose one batch was made before."""

    def __init__(self, source: DatasetSource) -> None:
        self.size = source.size
        self.batch = source.load([Draw(0, index) for index in range(source.size)])

    def list_ids(self, draws: Sequence[Draw]) -> list[str]:
        """The ids of the examples."""
        return list(self.batch.ids)

    def load(self, draws: Sequence[Draw]) -> Batch:
        """The one batch."""
        return self.batch


def save_models(folder: Path, options: argparse.Namespace) -> None:
    """Student and teacher with heads as large as real ones, and a picture for each row."""
    for seed, (name, vocabulary) in enumerate(zip(("student", "teacher"), options.vocabulary, strict=True)):
        save_tiny_qwen(folder / name, seed=seed, vocab_size=vocabulary, hidden_size=options.hidden_size)
    for index, row in enumerate(make_rows(1)):
        Image.new("RGB", (48, 48), (90 * index, 120, 200)).save(folder / row.image)


def make_rows(words: int) -> tuple[Example, Example]:
    """Two rows with `words` words in their captions, whose answers have ten tokens together."""
    caption = " ".join(("a red square is left of a small blue circle " * words).split()[:words])
    choices = [Choice("A", "No hallucination"), Choice("B", "red"), Choice("C", "small"), Choice("D", "left")]
    answers = (frozenset("BCD"), frozenset("BD"))
    return tuple(
        Example(f"row{index}", "hallucination", f"row{index}.png", "Which?", tuple(choices), answer, caption)
        for index, answer in enumerate(answers)
    )


def build_source(folder: Path, tokens: int) -> DatasetSource:
    """The rows with the fewest words that make the longer one `tokens` tokens long."""
    collator, images = Collator(load_processor(folder / "student")), ImageFolder(folder)
    for words in itertools.count(1):
        dataset = Dataset("rows", make_rows(words), images)
        source = DatasetSource(dataset, collator)
        if source.load([Draw(0, 0), Draw(0, 1)]).model_inputs["input_ids"].shape[1] >= tokens:
            return source
    raise AssertionError


def describe_rows(ids: Tensor, mask: Tensor, scored: Tensor) -> dict[str, Any]:
    """Lengths, scored tokens and a digest of rows of tokens, in whatever order they stand; all [B, L]."""
    rows = sorted(
        (row[kept > 0].tolist(), row[chosen].tolist())
        for row, kept, chosen in zip(ids, mask, scored, strict=True)
    )
    return {
        "rows": hashlib.sha256(repr(rows).encode()).hexdigest()[:16],
        "tokens": [len(row) for row, _ in rows],
        "scored": sum(len(chosen) for _, chosen in rows),
    }


def describe_batch(batch: Batch) -> dict[str, Any]:
    ids, mask = batch.model_inputs["input_ids"], batch.model_inputs["attention_mask"]
    scored = torch.zeros_like(ids, dtype=torch.bool)
    scored[batch.answer_rows, batch.answer_columns + 1] = True
    return describe_rows(ids, mask, scored)


def write_for_gold(source: DatasetSource, example: Example) -> dict[str, Any]:
    """A row as the texts that hkd makes of it, so that both read the same tokens."""
    shown = identity_presentation(example)
    prompt = source.collator.builder.build(example, shown)
    letters = render_answer(example, shown, example.answer or frozenset())
    return {
        "prompt": prompt.prefix + prompt.suffix,
        "completion": prompt.lead + letters + prompt.end,
        "images": [source.dataset.images.load(example.image).image],
    }
