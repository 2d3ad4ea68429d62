"""Arguments and options that commands share, and how each command is told of by examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hkdcli.console import Console
from hkdcli.errors import EXIT_SOME_RECORDS_FAILED, GateError
from hkdcli.outcome import Outcome

EXAMPLES: dict[str, tuple[str, ...]] = {
    "distill-online": (
        "hkd distill-online recipes/quickstart.yaml",
        "hkd distill-online recipes/quickstart.yaml train.max_steps=50 pyramid.small.train.max_steps=90",
        "hkd distill-online recipes/quickstart.yaml --dry-run",
        "hkd distill-online recipes/quickstart.yaml --resume",
        "hkd distill-online recipes/quickstart.yaml --nproc 2",
    ),
    "distill-refine": (
        "hkd distill-refine recipes/quickstart-refine.yaml",
        "hkd distill-refine recipes/quickstart-refine.yaml refine.signals=live refine.relation=null",
        "hkd distill-refine recipes/quickstart-refine.yaml --only-signals --shard 1/4",
        "hkd distill-refine recipes/quickstart-refine.yaml --resume",
    ),
    "augment": (
        "hkd augment records.json --images photos --out augmented --copies 3 --seed 1",
        "hkd augment records.json --images photos --facts facts.jsonl --balance --out augmented",
        "hkd augment scenes:train --limit 200 --policy strong --preview sheet.png",
        "hkd augment recipes/augment/scenes.yaml copies=2 --out augmented-scenes",
    ),
    "infer": (
        "hkd infer runs/quickstart scenes:test --shift --shift-task hallucination --out predictions.jsonl",
        "hkd infer scenes:small records.json --images photos --limit 100 --out predictions.jsonl",
        "hkd infer runs/quickstart records.jsonl --out predictions.jsonl --resume",
        "hkd infer runs/quickstart records.jsonl --out p.jsonl --batch-size auto --nproc 2",
        "hkd infer runs/quickstart --calibrate scenes:dev",
        "hkd infer runs/quickstart records.json --target-precision 0.9 --out p.jsonl",
        "hkd infer runs/quickstart records.json --blind --out blind.jsonl",
        "hkd infer runs/quickstart - --images photos < records.jsonl > p.jsonl",
        "hkd infer runs/quickstart --image cat.png --caption 'a red circle left of a blue square'",
        "hkd infer runs/quickstart --image cat.png --claim 'The circle is red.' --evidence why.png",
    ),
    "evaluate": (
        "hkd evaluate predictions.jsonl scenes:test",
        "hkd evaluate predictions.jsonl records.json --out results.json --json",
        "hkd evaluate predictions.jsonl records.json --report report.html --report report.md",
        "hkd evaluate predictions.jsonl records.json --blind blind.jsonl",
        "hkd evaluate predictions.jsonl records.json --trained-on train.json --fail-on-leak",
        "hkd evaluate answers.csv records.json --columns id=question_id,prediction=response",
    ),
    "compare": (
        "hkd compare a.jsonl b.jsonl records.json",
        "hkd compare a.jsonl b.jsonl records.json --out comparison.json --fail-if-worse 0.01",
    ),
    "submit": (
        "hkd submit predictions.jsonl records.json --out results.zip",
        "hkd submit --check results.zip records.json",
    ),
    "export": (
        "hkd export runs/quickstart --out exported",
        "hkd export runs/quickstart --out exported --data records.json --check 100 --overwrite",
    ),
    "merge-shards": (
        "hkd infer runs/quickstart records.json --shard 1/2 --out p1.jsonl",
        "hkd infer runs/quickstart records.json --shard 2/2 --out p2.jsonl",
        "hkd merge-shards records.json p1.jsonl p2.jsonl --out p.jsonl",
    ),
    "split": (
        "hkd split records.json",
        "hkd split task1.json task2.json --out data --dev 10 --test 20",
    ),
    "init": (
        "hkd init --data records.json --images photos --gpu 24",
        "hkd init --data train.json --dev dev.json --test test.json --out mine.yaml",
    ),
    "plan": (
        "hkd plan recipes/online/qwen2.5-vl-72b-7b-3b.yaml --gpu 80",
        "hkd plan recipes/quickstart.yaml train.micro_batch_size=128",
        "hkd plan recipes/quickstart.yaml --memory-gib 4 --json",
    ),
    "doctor": (
        "hkd doctor",
        "hkd doctor recipes/quickstart.yaml",
        "hkd doctor scenes:small --quantization nf4",
        "hkd doctor records.json --against train.json --predictions predictions.jsonl",
        "hkd doctor runs/quickstart --json",
    ),
    "schema": (
        "hkd schema > recipe.schema.json",
        "hkd schema distill-refine > refine.schema.json",
        "hkd schema results > results.schema.json",
    ),
}


def render_examples(command: str) -> str:
    """The examples as an epilog: rich would take brackets for markup, and joins lines without a gap."""
    return "\n\n".join(["Examples:", *map(escape, EXAMPLES[command])])


def end(console: Console, outcome: Outcome) -> None:
    """Show what a command found out, and end with its exit code."""
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)
    console.show(outcome)
    if outcome.failed_gate:
        console.warn(f"quality gate not met: {outcome.failed_gate}")
        raise typer.Exit(GateError.exit_code)
    if outcome.failed_records:
        raise typer.Exit(EXIT_SOME_RECORDS_FAILED)
    if outcome.verdict:
        console.warn(outcome.verdict)
    if outcome.verdict_code:
        raise typer.Exit(outcome.verdict_code)


RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file; see docs/recipes.md.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Changes to the recipe, as train.max_steps=10.", show_default=False
    ),
]
RunPath = Annotated[Path | None, typer.Option("--out", help="Run folder.", show_default="runs/<name>")]
Data = Annotated[str, typer.Argument(metavar="DATA", help="A file of records, or scenes:SPLIT.")]
Encoding = Annotated[str, typer.Option(help="Text encoding of the records.")]
Images = Annotated[Path | None, typer.Option(help="Folder of the images.", show_default="beside the records")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many records.", show_default="all")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what is there.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")]
Nproc = Annotated[
    int | None, typer.Option(min=1, help="Work in this many processes, one to a GPU.", show_default="1")
]
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A run folder, model folder, hub id[@revision] or scenes:NAME."),
]
Level = Annotated[str | None, typer.Option(help="Level of the run to use.", show_default="the base")]
Base = Annotated[
    str | None,
    typer.Option(help="An adapter's base model: a folder or hub id.", show_default="as the adapter says"),
]
AllowOutsideRoot = Annotated[
    bool, typer.Option("--allow-outside-root", help="Let image names lead out of their folder.")
]
