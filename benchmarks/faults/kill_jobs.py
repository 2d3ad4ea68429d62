"""What a campaign of kills interrupts: the long commands of hkd on the embedded world, small enough to run often."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TRAIN = """
train:
  max_steps: 12
  micro_batch_size: 4
  gradient_accumulation_steps: 2
  learning_rate: 1e-3
  log_every: 1
  checkpoint_every: 3
  evaluate_every: 6
runtime: {device: cpu}
"""
_DATA = """
data:
  train: {scenes: {split: train, size: 80}}
  dev: {scenes: {split: dev, size: 8}}
  test: {scenes: {split: test, size: 60}}
"""
_ONLINE = f"""
name: killed-online
{_DATA}
pyramid:
  - {{name: large, model: "scenes:large", adapter: "scenes:large-tuned", quantization: nf4, train: null}}
  - {{name: medium, model: "scenes:medium", tuning: {{lora: {{rank: 4, dropout: 0.1}}}}}}
  - {{name: small, model: "scenes:small", tuning: full}}
distill: {{teacher_check: {{on_fail: warn}}}}
{_TRAIN}
"""
_REFINE = f"""
name: killed-refine
{_DATA}
pyramid:
  - {{name: large, model: "scenes:large", adapter: "scenes:large-tuned"}}
  - {{name: small, model: "scenes:small", tuning: full}}
refine: {{snapshot: true, teacher_check: null, min_truth: 0.0, states: {{grid: 3}}}}
{_TRAIN}
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One command that takes a while.

    Attributes:
        name: The command, in the table.
        first: Its arguments, given where the result goes.
        again: What is added to go on after an interruption.
        code: What it exits with at its end.
    """

    name: str
    first: Callable[[Path], Sequence[str]]
    again: Sequence[str] = ("--resume",)
    code: int = 0


def write_jobs(folder: Path) -> Mapping[str, Job]:
    """Write the recipes of the jobs into a folder; the jobs by name."""
    online, refine = folder / "online.yaml", folder / "refine.yaml"
    online.write_text(_ONLINE)
    refine.write_text(_REFINE)
    augmented = "augment scenes:train --limit 120 --copies 2 --policy strong --seed 1 --nproc 2".split()
    inferred = "infer scenes:small scenes:test --limit 100 --shift --batch-size 2".split()
    jobs = [
        Job("distill-online", lambda out: ["distill-online", str(online), "--out", str(out)]),
        Job("distill-refine", lambda out: ["distill-refine", str(refine), "--out", str(out)]),
        Job(
            "distill-refine --only-signals",
            lambda out: ["distill-refine", str(refine), "--only-signals", "--out", str(out)],
            again=(),
        ),
        Job("augment", lambda out: [*augmented, "--out", str(out)]),
        Job("infer", lambda out: [*inferred, "--out", str(out / "predictions.jsonl")]),
    ]
    return {job.name: job for job in jobs}
