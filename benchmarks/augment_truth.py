"""Does any operation lie about a label? Augmented scene records, answered again from their pixels.

    python benchmarks/augment_truth.py --json benchmarks/augment_truth.json

Each operation is applied, at full strength and through its guard, to scene records of both tasks until it has
made 10,000 variants; so is each policy, which makes whole variants. The scene is read from a variant's pixels
and the answer found from that and its texts; neither knows the label or what was done. It must be the label
that was kept, and a picture that cannot be read counts as a disagreement. An operation that refuses nearly
every scene record ends with fewer variants: after ten times as many records as variants were wanted, or after
2,000 without one. The two sentences of a scene's context hang together and are left alone, so the operations
on contexts are given others, of several sentences about what is seen and what is hidden.

With `--evidence record` the facts of the scenes are withheld, which shows what the record alone is worth.

Controls show that the oracle can tell: operations that are wrong on purpose, of which most must be caught.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, get_args

from PIL import Image, ImageOps

from hkdcli.augment.operations import (
    Change,
    Evidence,
    Refusal,
    Sample,
    apply_operation,
    get_operations,
)
from hkdcli.augment.pipeline import build_variant
from hkdcli.augment.policies import PolicyName, build_policy
from hkdcli.data.facts import NOTHING_KNOWN
from hkdcli.data.records import Choice, Example
from hkdcli.scenes.oracle import find_answer
from hkdcli.scenes.phrases import other
from hkdcli.scenes.reading import UnreadableSceneError, read_scene
from hkdcli.scenes.source import load_scenes
from hkdcli.scenes.world import SHAPES

Apply = Callable[[Sample, Random], Change | Refusal]
CHUNK = 500
ON_CONTEXTS = ("context_order", "context_drop")
"""Operations that are given contexts of several sentences."""
TRIES_PER_VARIANT = 10
TRIES_IN_VAIN = 2_000
LEAST_CAUGHT = 0.5
SHOWN = 3
"""Disagreements that are told in full."""


@dataclass
class Tally:
    """What came of one operation; `wrong` holds the first disagreements, with their texts."""

    name: str
    tried: int = 0
    applied: int = 0
    agreed: int = 0
    unreadable: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[dict[str, Any]] = field(default_factory=list)

    @property
    def share(self) -> float | None:
        """Of the variants, those whose answer is right; None where there are none."""
        return self.agreed / self.applied if self.applied else None


def says_only_truth(example: Example) -> bool:
    return example.task == "hallucination" and example.answer == {example.none_id}


def turn_colours(sample: Sample, rng: Random) -> Change | Refusal:
    """A third of the colour wheel, in a picture of which all that is said is true, with its colours."""
    if not says_only_truth(sample.example):
        return Refusal("something said is false")
    hues, saturations, values = sample.image.convert("HSV").split()
    turned = hues.point([(value + 85) % 256 for value in range(256)])
    return Change(sample.example, Image.merge("HSV", (turned, saturations, values)).convert("RGB"))


def mirror_picture_alone(sample: Sample, rng: Random) -> Change | Refusal:
    """The picture mirrored, and sides that were true in the texts left as they are."""
    if not says_only_truth(sample.example):
        return Refusal("something said is false")
    if not {"left", "right"} & set(re.findall(r"\w+", sample.example.caption)):
        return Refusal("no side to get wrong")
    return Change(sample.example, ImageOps.mirror(sample.image))


def swap_and_keep_answer(sample: Sample, rng: Random) -> Change | Refusal:
    """Another shape in a phrase that was true, and the answer left as it is."""
    example = sample.example
    for index, choice in enumerate(example.choices):
        shape = next((word for word in choice.text.split() if word in SHAPES), None)
        if shape is not None and choice.id not in (example.answer or ()):
            text = choice.text.replace(shape, other(rng, SHAPES, shape))
            choices = [*example.choices]
            choices[index] = Choice(choice.id, text)
            caption = example.caption.replace(choice.text, text)
            return Change(replace(example, choices=tuple(choices), caption=caption), sample.image)
    return Refusal("no true phrase with a shape")


def reverse_letters_and_keep_answer(sample: Sample, rng: Random) -> Change | Refusal:
    """The letters of the choices the other way round, and those of the answer left as they are."""
    example = sample.example
    letters = [choice.id for choice in reversed(example.choices)]
    choices = (replace(c, id=letter) for c, letter in zip(example.choices, letters, strict=True))
    return Change(replace(example, choices=tuple(choices)), sample.image)


CONTROLS: dict[str, Apply] = {
    control.__name__: control
    for control in (turn_colours, mirror_picture_alone, swap_and_keep_answer, reverse_letters_and_keep_answer)
}


def vary(sample: Sample, rng: Random, policy: PolicyName) -> Change | Refusal:
    """A whole variant, as `hkd augment` makes it."""
    variant = build_variant(sample, build_policy(policy, evidence=sample.evidence), rng)
    if not variant.applied:
        return Refusal("nothing was drawn, or all was refused")
    return Change(variant.example, variant.image, variant.applied)


POLICIES: dict[str, Apply] = {
    f"policy_{policy}": partial(vary, policy=policy) for policy in get_args(PolicyName)
}


def get_apply(name: str) -> Apply:
    """A control, a policy, or an operation of the registry behind its guard."""
    if name in CONTROLS or name in POLICIES:
        return (CONTROLS | POLICIES)[name]
    chosen = get_operations()[name]
    return lambda sample, rng: apply_operation(chosen, sample, rng, 1.0)


def iter_samples(evidence: Evidence) -> Iterator[Sample]:
    """Scene records of both tasks in turn, without end; with facts where these are the evidence."""
    for seed in count():
        dataset = load_scenes("train", size=CHUNK, seed=seed)
        for example in dataset.examples:
            facts = dataset.facts.get_facts(example.image) if evidence == "listed" else NOTHING_KNOWN
            yield Sample(example, dataset.images.load(example.image).image, facts, evidence)


def tell_more(sample: Sample) -> Sample:
    """A context of several sentences that, unlike those of scenes, do not hang together."""
    example = sample.example
    hidden = example.context.rpartition("hides a ")[2]
    seen = [fact.replace(" at ", " is at ") for fact in sample.facts.captions if " at " in fact]
    sentences = [f"A cloth hides a {hidden}", *(f"A {fact}." for fact in seen)]
    return replace(sample, example=replace(example, context=" ".join(sentences)))


def measure(name: str, variants: int, evidence: Evidence = "listed") -> Tally:
    """Apply one operation to records until `variants` are made, and answer each anew."""
    apply, tally = get_apply(name), Tally(name)
    for sample in iter_samples(evidence):
        if tally.applied >= variants or tally.tried >= TRIES_PER_VARIANT * variants:
            break
        if not tally.applied and tally.tried >= TRIES_IN_VAIN:
            break
        if name in ON_CONTEXTS:
            if sample.example.task != "factuality":
                continue
            sample = tell_more(sample)
        tally.tried += 1
        made = apply(sample, Random(f"{name}/{sample.example.id}"))
        if isinstance(made, Refusal):
            tally.refused[made.reason] += 1
        else:
            tally.applied += 1
            judge(made, tally)
    return tally


def judge(made: Change, tally: Tally) -> None:
    """Count whether texts and pixels give the answer that was kept."""
    try:
        right = find_answer(made.example, read_scene(made.image))
    except UnreadableSceneError as error:
        tally.unreadable += 1
        wrong = str(error)
    except ValueError as error:
        wrong = str(error)
    else:
        if right == made.example.answer:
            tally.agreed += 1
            return
        wrong = ", ".join(sorted(right))
    if len(tally.wrong) < SHOWN:
        tally.wrong.append({**tell(made.example), "right": wrong, "parameters": dict(made.parameters)})


def tell(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        "text": example.caption or f"{example.claim} {example.context}",
        "choices": {choice.id: choice.text for choice in example.choices},
        "kept": ", ".join(sorted(example.answer or ())),
    }


def render_table(tallies: Sequence[Tally]) -> str:
    lines = [
        "| operation | records tried | variants | agreed | share | refused most often |",
        "|---|---|---|---|---|---|",
    ]
    for tally in tallies:
        share = "-" if tally.share is None else f"{100 * tally.share:.2f} %"
        reasons = "; ".join(f"{reason} {n:,}" for reason, n in tally.refused.most_common(3))
        figures = f"{tally.tried:,} | {tally.applied:,} | {tally.agreed:,} | {share}"
        name = f"control: {tally.name}" if tally.name in CONTROLS else tally.name
        lines.append(f"| {name} | {figures} | {reasons} |")
    return "\n".join(lines)


def find_failures(tallies: Sequence[Tally]) -> list[str]:
    """Operations that disagree anywhere, and controls that are not caught."""
    failures = []
    for tally in tallies:
        caught = tally.applied - tally.agreed
        if tally.name not in CONTROLS and caught:
            failures.append(f"{tally.name}: {caught} of {tally.applied} disagree: {tally.wrong}")
        if tally.name in CONTROLS and caught < LEAST_CAUGHT * max(tally.applied, 1):
            failures.append(f"control {tally.name!r} is not caught: {caught} of {tally.applied}")
    return failures


def run(names: Sequence[str], variants: int, evidence: Evidence, nproc: int) -> list[Tally]:
    """Measure operations, each in one process, and tell on stderr what is done."""
    job = partial(measure, variants=variants, evidence=evidence)
    found: dict[str, Tally] = {}
    with multiprocessing.Pool(nproc) if nproc > 1 else nullcontext() as pool:
        for tally in pool.imap_unordered(job, names) if pool else map(job, names):
            found[tally.name] = tally
            told = f"{tally.agreed} of {tally.applied} agree, {tally.unreadable} unreadable"
            print(f"{len(found)}/{len(names)} {tally.name}: {told}", file=sys.stderr, flush=True)
    return [found[name] for name in names]


def main() -> None:
    known = [*get_operations(), *POLICIES, *CONTROLS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--records", type=int, default=10_000, help="variants of each operation")
    parser.add_argument("--operations", default=",".join(known), help="names, with commas")
    parser.add_argument("--evidence", choices=("listed", "record"), default="listed")
    parser.add_argument("--nproc", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    names = options.operations.split(",")
    if unknown := [name for name in names if name not in known]:
        parser.error(f"no operation is called {unknown[0]}; there are {', '.join(known)}")
    tallies = run(names, options.records, options.evidence, options.nproc)
    print(render_table(tallies))
    if options.json:
        document = {
            "command": " ".join(["python benchmarks/augment_truth.py", *sys.argv[1:]]),
            "versions": {"python": platform.python_version(), "pillow": version("pillow")},
            "evidence": options.evidence,
            "operations": [summarise(tally) for tally in tallies],
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    if failures := find_failures(tallies):
        sys.exit("\n".join(failures))


def summarise(tally: Tally) -> dict[str, Any]:
    report = {**asdict(tally), "share": tally.share, "control": tally.name in CONTROLS}
    return report | {"refused": dict(tally.refused.most_common(5))}


if __name__ == "__main__":
    main()
