"""What hkd and a plain `generate` loop give for the same records and weights, and in how many seconds.

    hkd               the posterior over all legal answers, records in batches
    hkd, alone        the same, one record at a time
    hkd, orders       the same over every cyclic order of the choices, the prefix shared
    generate          model.generate, greedy, as many new tokens as the longest legal answer has, in batches
    generate, alone   the same, one record at a time
    generate, orders  the same for every cyclic order of the choices; the answer that most of them give

Seconds cover all that a contender does from loaded pictures to answers.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from shift import take_seconds
from shift_contenders import Workload, generate_as_shown, open_random, open_scenes

from hkdcli.answers.text import parse_text
from hkdcli.data.collate import Collator
from hkdcli.data.examples import Example
from hkdcli.data.prompts import Presentation, build_legal_answers, identity_presentation
from hkdcli.evaluation.metrics import evaluate_predictions
from hkdcli.evaluation.predictions import Prediction
from hkdcli.inference.asking import Asking, Rule, combine_orders, decide
from hkdcli.inference.decode import Posterior
from hkdcli.inference.scoring import Scorer

MODELS = {
    "scenes:large-tuned": "3.4M parameters, tuned to answer, its adapter merged; 9 image tokens",
    "scenes:small": "0.3M parameters, not tuned to answer; 9 image tokens",
    "random": "random weights, a LLaVA as in benchmarks/shift.py; 256 image tokens, head of 32,000 columns",
}
RATIOS = {
    "generate / hkd": ("generate", "hkd"),
    "generate, alone / hkd, alone": ("generate, alone", "hkd, alone"),
    "generate, orders / hkd, orders": ("generate, orders", "hkd, orders"),
    "generate / hkd, orders": ("generate", "hkd, orders"),
    "hkd, orders / hkd": ("hkd, orders", "hkd"),
}
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Said:
    """What came back for one record.

    Attributes:
        answer: legal, or none.
        outcome: answered; unread (the text is no list of the choices' letters); illegal (one that no answer
            may be, such as "No hallucination" beside a phrase).
        posterior: over the legal answers, where there is one.
    """

    answer: frozenset[str]
    outcome: str = "answered"
    posterior: Posterior | None = None


Contender = Callable[[Workload], list[Said]]


def ask_hkd(work: Workload, *, batch: int, shifts: int | None = 1) -> list[Said]:
    """As `hkd infer` asks and decides by default, or with `--shift` where `shifts` is None."""
    scorer, asking, rule, said = Scorer(work.loaded), Asking(shifts=shifts), Rule(), []
    for start in range(0, len(work.examples), batch):
        examples, images = (each[start : start + batch] for each in (work.examples, work.images))
        shown = [asking.present(example) for example in examples]
        scored = scorer.score(examples, images, shown)
        for example, record, orders in zip(examples, scored, shown, strict=True):
            combined = combine_orders(example, record, orders, asking, rule)
            posterior, answer = decide(example, combined.posterior, rule)
            said.append(Said(answer, posterior=posterior))
    return said


def ask_generate(work: Workload, *, batch: int, new_tokens: int) -> list[Said]:
    """The plain loop with the choices as they are."""
    shown = [identity_presentation(example) for example in work.examples]
    new = generate_as_shown(work, shown, new_tokens=new_tokens, batch=batch)
    return [read(work, *each) for each in zip(work.examples, shown, new, strict=True)]


def ask_generate_in_orders(work: Workload, *, batch: int, new_tokens: int) -> list[Said]:
    """The plain loop over every order of every record; the readable answer that most orders give."""
    asked = [(place, order) for place, e in enumerate(work.examples) for order in Asking(None).present(e)]
    places, shown = [place for place, _ in asked], [order for _, order in asked]
    examples, images = ([each[place] for place in places] for each in (work.examples, work.images))
    flat = replace(work, examples=examples, images=images)
    new = generate_as_shown(flat, shown, new_tokens=new_tokens, batch=batch)
    read_all = [read(work, *each) for each in zip(examples, shown, new, strict=True)]
    return [
        vote([said for at, said in zip(places, read_all, strict=True) if at == place])
        for place in range(len(work.examples))
    ]


def read(work: Workload, example: Example, shown: Presentation, new: Sequence[int]) -> Said:
    """A generated answer, by the lenient parser: letters of the order shown, back to the record's ids."""
    text = work.loaded.processor.tokenizer.decode(new, skip_special_tokens=True)
    ids, texts = dict(shown), {choice.id: choice.text for choice in example.choices}
    choices = [replace(example.choices[0], id=letter, text=texts[ids[letter]]) for letter in ids]
    letters = parse_text(text, replace(example, choices=tuple(choices)), "lenient").choices
    if letters is None:
        return Said(NONE, "unread")
    answer = frozenset(ids[letter] for letter in letters)
    return Said(answer) if answer in build_legal_answers(example) else Said(NONE, "illegal")


def vote(said: Sequence[Said]) -> Said:
    """The answer that most orders give, the first of equals; what the first order says where none is read."""
    answered = [each.answer for each in said if each.outcome == "answered"]
    return Said(Counter(answered).most_common(1)[0][0]) if answered else said[0]


def count_new_tokens(work: Workload) -> int:
    """Of the longest legal answer, end of turn included."""
    collator = Collator(work.loaded.processor)
    lengths = []
    for example in work.examples:
        shown = identity_presentation(example)
        prompt = collator.builder.build(example, shown)
        answers = build_legal_answers(example)
        lengths += [len(collator.encode_answer(example, prompt, shown, answer)) for answer in answers]
    return max(lengths)


def list_contenders(batch: int, new_tokens: int) -> dict[str, Contender]:
    return {
        "hkd": partial(ask_hkd, batch=batch),
        "hkd, alone": partial(ask_hkd, batch=1),
        "hkd, orders": partial(ask_hkd, batch=batch, shifts=None),
        "generate": partial(ask_generate, batch=batch, new_tokens=new_tokens),
        "generate, alone": partial(ask_generate, batch=1, new_tokens=new_tokens),
        "generate, orders": partial(ask_generate_in_orders, batch=batch, new_tokens=new_tokens),
    }


def open_model(model: str, records: int) -> Workload:
    """A model of `MODELS` with records that it is asked about; fewer of the slow one."""
    if model == "random":
        return open_random(16, torch.device("cpu"), 32_000).take(min(records, 8))
    return open_scenes(records, torch.device("cpu"), model)


def measure(model: str, records: int, batch: int, rounds: int) -> dict[str, Any]:
    """Medians over the rounds of every contender with one model, and what their answers are."""
    work = open_model(model, records)
    new_tokens = count_new_tokens(work)
    contenders = list_contenders(batch, new_tokens)
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    said: dict[str, list[Said]] = {}
    for turn in range(rounds + 1):
        for name, contender in contenders.items():
            seconds, said[name] = take_seconds(work, contender)
            if turn:  # the first round warms up
                spent[name].append(seconds.cpu)
    ratios = {
        name: [above / below for above, below in zip(spent[one], spent[other], strict=True)]
        for name, (one, other) in RATIOS.items()
    }
    return {
        "model": MODELS[model],
        "records": len(work.examples),
        "batch": batch,
        "new_tokens": new_tokens,
        "contenders": {
            name: {"cpu_seconds_per_record": statistics.median(spent[name]), **describe(each, work.examples)}
            for name, each in said.items()
        },
        "same_answer_alone": {
            name: sum(a.answer == b.answer for a, b in zip(said[name], said[f"{name}, alone"], strict=True))
            for name in ("hkd", "generate")
        },
        "ratios": {name: statistics.median(each) for name, each in ratios.items()},
        "spread": {name: [min(each), max(each)] for name, each in ratios.items()},
    }


def describe(said: Sequence[Said], examples: Sequence[Example]) -> dict[str, Any]:
    """Counts of outcomes, records with a whole posterior, and the score: what is not answered is wrong."""
    outcomes = Counter(each.outcome for each in said)
    whole = [
        each.posterior is not None
        and set(each.posterior.answers) == set(build_legal_answers(example))
        and math.isclose(float(np.sum(each.posterior.probs)), 1.0, abs_tol=1e-9)
        for each, example in zip(said, examples, strict=True)
    ]
    predictions = [Prediction(e.id, each.answer) for e, each in zip(examples, said, strict=True)]
    score = evaluate_predictions(predictions, examples).metrics["micro_f1"]
    counts = {name: outcomes[name] for name in ("answered", "unread", "illegal")}
    return {**counts, "posteriors": sum(whole), "micro_f1": score}
