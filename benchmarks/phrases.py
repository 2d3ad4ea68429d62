"""How many of the phrases that a benchmark asks about does the rule of `propose_phrases` find?

    python benchmarks/phrases.py RECORDS

reads the hallucination records of a file and compares the choices of each (all but "No hallucination") with
the phrases proposed from its caption:

    equal      the same words, whatever their case
    within     a choice that is part of a proposed phrase, or has one as a part, at whole words
    similar    the choice shares at least half of its words and the phrase's (Jaccard) with a proposed phrase

Shares are over choices that stand in their caption word by word; `not_in_caption` counts the others. They are
given for all choices and for the hallucinated ones alone, which a proposal must not miss.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import Any

from hkdcli.data.examples import Example, read_examples
from hkdcli.data.phrases import MAX_PHRASES, propose_phrases
from hkdcli.data.records import is_none_choice

Words = tuple[str, ...]


def read_words(text: str) -> Words:
    return tuple(re.findall(r"\w+", text.casefold()))


def holds(longer: Words, shorter: Words) -> bool:
    """Whether the words of one stand side by side in the other."""
    n = len(shorter)
    return any(longer[i : i + n] == shorter for i in range(len(longer) - n + 1))


def compare(choice: Words, proposed: Iterable[Words]) -> tuple[bool, bool, bool]:
    """(equal, within, similar) for the best of the proposed phrases, each on its own."""
    proposed = list(proposed)
    return (
        choice in proposed,
        any(holds(phrase, choice) or holds(choice, phrase) for phrase in proposed),
        any(2 * len(set(choice) & set(p)) >= len(set(choice) | set(p)) for p in proposed),
    )


def measure(examples: Sequence[Example], *, most: int = MAX_PHRASES) -> dict[str, Any]:
    """The figures of the module's docstring, over hallucination records."""
    found: dict[str, list[tuple[bool, bool, bool]]] = {"all": [], "hallucinated": []}
    counts, outside, took_s = [], 0, 0.0
    for example in examples:
        start = time.perf_counter()
        proposed = [read_words(phrase) for phrase in propose_phrases(example.caption, most=most)]
        took_s += time.perf_counter() - start
        counts.append(len(proposed))
        for choice in example.choices:
            if is_none_choice(choice):
                continue
            words = read_words(choice.text)
            if not holds(read_words(example.caption), words):
                outside += 1
                continue
            result = compare(words, proposed)
            found["all"].append(result)
            if choice.id in (example.answer or ()):
                found["hallucinated"].append(result)
    shares = {
        name: {
            "choices": len(results),
            **{
                kind: round(statistics.mean(result[i] for result in results), 3) if results else None
                for i, kind in enumerate(("equal", "within", "similar"))
            },
        }
        for name, results in found.items()
    }
    return {
        "captions": len(counts),
        "most": most,
        "phrases_per_caption": {"mean": round(statistics.mean(counts), 2), "max": max(counts)},
        "captions_without_phrase": counts.count(0),
        "not_in_caption": outside,
        **shares,
        "ms_per_caption": round(1000 * took_s / len(counts), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Proposed phrases against the choices of records.")
    parser.add_argument("records", help="a file of records")
    parser.add_argument("--most", type=int, default=MAX_PHRASES, help="phrases proposed per caption")
    arguments = parser.parse_args()
    examples = [e for e in read_examples(arguments.records).examples if e.task == "hallucination"]
    print(json.dumps(measure(examples, most=arguments.most), indent=2))


if __name__ == "__main__":
    main()
