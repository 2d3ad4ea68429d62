"""What the benchmark of shifts runs: hkd with and without reuse, and what people write instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from shift_rows import build_model, make_pictures, make_records
from torch import Tensor

from hkdcli.data.batches import append_tokens, move_inputs
from hkdcli.data.collate import Collator
from hkdcli.data.examples import Example
from hkdcli.data.images import LoadedImage
from hkdcli.data.prompts import Presentation, PromptBuilder
from hkdcli.inference.scored import ScoredRecord
from hkdcli.inference.scoring import Scorer
from hkdcli.inference.shift import shifted_presentations
from hkdcli.models.answers import compute_hidden_states, compute_logits
from hkdcli.models.loading import LoadedModel, load_model
from hkdcli.models.locating import find_model_folder
from hkdcli.scenes.source import load_scenes

SHIFTS = (1, 2, 4)
BATCH = 8


@dataclass(frozen=True, slots=True)
class Workload:
    """Records with their pictures, and the model that is asked."""

    loaded: LoadedModel
    examples: Sequence[Example]
    images: Sequence[LoadedImage]

    def take(self, count: int, *, pictures: int | None = None) -> Workload:
        """The first so many records; the first `pictures` pictures in turn, or each its own."""
        images = [self.images[place % (pictures or count)] for place in range(count)]
        return replace(self, examples=self.examples[:count], images=images)

    @property
    def device(self) -> torch.device:
        """Of the model."""
        return next(self.loaded.model.parameters()).device


Contender = tuple[Workload, Callable[[Workload], Any]]


def score(work: Workload, shifts: int, *, reuse: bool = True) -> list[ScoredRecord]:
    """All legal answers in so many orders."""
    shown = [shifted_presentations(example, shifts) for example in work.examples]
    return Scorer(work.loaded, reuse_prefix=reuse).score(work.examples, work.images, shown)


@torch.no_grad()
def read_letters(work: Workload, shifts: int) -> list[Tensor]:
    """One whole pass per order: for each the distribution [records, vocabulary] of the first answer token."""
    collator, found = Collator(work.loaded.processor), []
    for order in range(shifts):
        shown = [[shifted_presentations(example, shifts)[order]] for example in work.examples]
        prefixes = collator.collate_prefixes(work.examples, work.images, shown)
        suffixes = [collator.encode(row[0].suffix) for row in prefixes.prompts]
        inputs = append_tokens(prefixes, suffixes, collator.pad_token_id)
        hidden = compute_hidden_states(work.loaded.model, move_inputs(inputs, work.device))
        ends = [length + len(suffix) - 1 for length, suffix in zip(prefixes.lengths, suffixes, strict=True)]
        at = torch.tensor(ends, device=work.device)
        last = hidden[torch.arange(len(ends), device=work.device), at]
        found.append(compute_logits(work.loaded.model, last).log_softmax(-1).cpu())
    return found


def generate(
    work: Workload, shifts: int, *, new_tokens: int = 8, batch: int = BATCH
) -> list[list[list[int]]]:
    """The plain loop, greedy: for each order and record the new tokens."""
    orders = []
    for order in range(shifts):
        shown = [shifted_presentations(example, shifts)[order] for example in work.examples]
        orders.append(generate_as_shown(work, shown, new_tokens=new_tokens, batch=batch))
    return orders


@torch.no_grad()
def generate_as_shown(
    work: Workload, shown: Sequence[Presentation], *, new_tokens: int, batch: int
) -> list[list[int]]:
    """The new tokens of each record, its choices in the order given."""
    builder = PromptBuilder(work.loaded.processor)
    model: Any = work.loaded.model
    prompts = [builder.build(example, order) for example, order in zip(work.examples, shown, strict=True)]
    new: list[list[int]] = []
    for start in range(0, len(prompts), batch):
        part = slice(start, start + batch)
        inputs = work.loaded.processor(
            text=[prompt.prefix + prompt.suffix for prompt in prompts[part]],
            images=[[image.image] for image in work.images[part]],
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_tensors="pt",
        )
        taken = move_inputs(dict(inputs), work.device)
        ids = model.generate(**taken, max_new_tokens=new_tokens, do_sample=False)
        new += ids[:, taken["input_ids"].shape[1] :].tolist()
    return new


def list_contenders(work: Workload) -> dict[str, Contender]:
    """What is run in every round, by contender and orders."""
    one, four = work.take(4, pictures=1), work.take(4)
    runs: dict[str, Contender] = {}
    for shifts in SHIFTS:
        runs[f"reuse {shifts}"] = work, partial(score, shifts=shifts)
        runs[f"letters {shifts}"] = work, partial(read_letters, shifts=shifts)
    for shifts in (1, 4):
        runs[f"generate {shifts}"] = work, partial(generate, shifts=shifts)
        runs[f"one-image {shifts}"] = one, partial(score, shifts=shifts)
        runs[f"four-images {shifts}"] = four, partial(score, shifts=shifts)
    runs["generate-short 1"] = work, partial(generate, shifts=1, new_tokens=2)
    runs["generate-alone 1"] = work, partial(generate, shifts=1, batch=1)
    return runs


def open_random(side: int, device: torch.device, vocabulary: int) -> Workload:
    """A model of random weights that sees side x side image tokens, and a batch for it."""
    loaded = build_model(side, vocabulary=vocabulary, device=device)
    return Workload(loaded, make_records(BATCH), make_pictures(BATCH))


def open_scenes(count: int, device: torch.device, model: str = "scenes:small") -> Workload:
    """A model of the scenes, its adapter merged where it has one, and records of its world."""
    data = load_scenes("test", size=count)
    pictures = [data.images.load(example.image) for example in data.examples]
    loaded = load_model(find_model_folder(model), device=device)
    if loaded.adapter is not None:
        loaded = replace(loaded, model=loaded.model.merge_and_unload(), adapter=None)
    return Workload(loaded, data.examples, pictures)
