"""The whole command line: names, options and help; the work is in `engine`, the printing in `console`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from hkdcli import __version__, engine
from hkdcli.console import Console
from hkdcli.errors import EXIT_SOME_RECORDS_FAILED
from hkdcli.launch import follow_launcher, launch
from hkdcli.opening import DataOptions
from hkdcli.options import check_no_shard, check_only_signals, choose_shifts, parse_shard
from hkdcli.outcome import Outcome
from hkdcli.ranks import find_place

app = typer.Typer(
    help="Distil big vision-language judges into small hallucination and factuality detectors.",
    epilog="Docs: docs/cli.md, docs/recipes.md. Exit codes: docs/cli.md.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    "infer": (
        "hkd infer runs/quickstart scenes:test --shift --out predictions.jsonl",
        "hkd infer scenes:small records.json --images photos --limit 100 --out predictions.jsonl",
        "hkd infer runs/quickstart records.jsonl --out predictions.jsonl --resume",
    ),
    "evaluate": (
        "hkd evaluate predictions.jsonl scenes:test",
        "hkd evaluate predictions.jsonl records.json --out metrics.json --json",
    ),
    "schema": ("hkd schema > recipe.schema.json", "hkd schema distill-refine > refine.schema.json"),
}


def _examples(command: str) -> str:
    """The examples as an epilog: rich would take brackets for markup, and joins lines without a gap."""
    return "\n\n".join(["Examples:", *map(escape, EXAMPLES[command])])


def _end(console: Console, outcome: Outcome) -> None:
    console.show(outcome)
    if outcome.failed_records:
        raise typer.Exit(EXIT_SOME_RECORDS_FAILED)


def _show_version(wanted: bool) -> None:
    if wanted:
        Console().show(Outcome({}, text=f"hkd {__version__}"))
        raise typer.Exit


RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file; see docs/recipes.md.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Changes to the recipe, as train.max_steps=10.", show_default=False
    ),
]
Data = Annotated[str, typer.Argument(metavar="DATA", help="A file of records, or scenes:SPLIT.")]
Images = Annotated[Path | None, typer.Option(help="Folder of the images.", show_default="beside the records")]
Encoding = Annotated[str, typer.Option(help="Text encoding of the records.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what is there.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")]


RunPath = Annotated[Path | None, typer.Option("--out", help="Run folder.", show_default="runs/<name>")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check recipe, data, models and device; train nothing.")
]
Nproc = Annotated[
    int | None, typer.Option(min=1, help="Train in this many processes, one to a GPU.", show_default="1")
]


def _distill(
    name: str,
    recipe: Path,
    overrides: list[str],
    out: Path | None,
    flags: dict[str, bool],
    *,
    dry_run: bool,
    nproc: int | None,
) -> None:
    """Run a distilling command: here, in processes of its own, or only as far as it costs nothing."""
    console = Console(as_json=flags["--json"])
    if dry_run:
        _end(console, engine.plan_distillation(name, recipe, overrides, out=out, reporter=console))
        return
    if nproc is not None and nproc > 1:
        from hkdcli.recipe_file import read_recipe
        from hkdcli.recipe_schema import KINDS

        read_recipe(recipe, KINDS[name], overrides)  # what is wrong is told before anything is started
        given = [str(recipe), *overrides, *(["--out", str(out)] if out else [])]
        given += [flag for flag, wanted in flags.items() if wanted]
        raise typer.Exit(launch([sys.executable, "-m", "hkdcli", name, *given], nproc))
    follow_launcher()
    is_main = find_place().is_main
    run = {"distill-online": engine.distill_online, "distill-refine": engine.distill_refine}[name](
        recipe,
        overrides,
        out=out,
        resume=flags["--resume"],
        overwrite=flags["--overwrite"],
        reporter=console if is_main else engine.SILENT,
    )
    if is_main:
        _end(console, run)


@app.callback()
def hkd(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Distil big vision-language judges into small hallucination and factuality detectors."""


@app.command(rich_help_panel="Distil", epilog=_examples("distill-online"))
def distill_online(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: RunPath = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    nproc: Nproc = None,
    json: Json = False,
) -> None:
    """Teach each level of a pyramid by the levels above it, live, and score them all."""
    flags = {"--resume": resume, "--overwrite": overwrite, "--json": json}
    _distill("distill-online", recipe, overrides or [], out, flags, dry_run=dry_run, nproc=nproc)


@app.command(rich_help_panel="Distil", epilog=_examples("distill-refine"))
def distill_refine(
    recipe: RecipePath,
    overrides: Overrides = None,
    out: RunPath = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    only_signals: Annotated[
        bool,
        typer.Option("--only-signals", help="Store what the upper models say, and train nothing."),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="With --only-signals: this share of the records.", show_default="1/1"
        ),
    ] = None,
    nproc: Nproc = None,
    json: Json = False,
) -> None:
    """Refine the student of a pyramid by what the levels above say together, stored once or live."""
    flags = {"--resume": resume, "--overwrite": overwrite, "--json": json}
    if not only_signals:
        check_no_shard(shard)
        _distill("distill-refine", recipe, overrides or [], out, flags, dry_run=dry_run, nproc=nproc)
        return
    check_only_signals({**flags, "--dry-run": dry_run, "--nproc": nproc is not None})
    console, share = Console(as_json=json), parse_shard(shard or "1/1")
    _end(console, engine.store_signals(recipe, overrides or [], out=out, shard=share, reporter=console))


@app.command(
    rich_help_panel="Distil",
    epilog=_examples("infer"),
)
def infer(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run folder, model folder, hub id or scenes:NAME.")
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="File of predictions to write (JSONL).")],
    images: Images = None,
    shift: Annotated[
        bool, typer.Option("--shift", help="Average over every cyclic shift of the letters.")
    ] = False,
    shifts: Annotated[
        int | None, typer.Option(min=1, help="Average over this many shifts.", show_default="1")
    ] = None,
    level: Annotated[
        str | None, typer.Option(help="Level of the run to use.", show_default="the base")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Records that are on the device at once.")] = 8,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many records.", show_default="all")
    ] = None,
    on_bad: Annotated[
        Literal["error", "skip", "keep"],
        typer.Option(help="What an unusable record does; keep writes a row for it."),
    ] = "keep",
    encoding: Encoding = "utf-8",
    allow_outside_root: Annotated[
        bool, typer.Option("--allow-outside-root", help="Let image names lead out of their folder.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="Where an adapter's base model is.", show_default="as the adapter says")
    ] = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Predict an answer, with its exact posterior, for every record."""
    console = Console(as_json=json)
    source = DataOptions(data, images, on_bad, limit, encoding, allow_outside_root=allow_outside_root)
    options = engine.InferOptions(level, base, choose_shifts(shift, shifts), batch_size)
    outcome = engine.infer(
        model, source, options, out=out, resume=resume, overwrite=overwrite, reporter=console
    )
    _end(console, outcome)


@app.command(
    rich_help_panel="Distil",
    epilog=_examples("evaluate"),
)
def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="File that hkd infer wrote.")],
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="File of metrics to write (JSON).", show_default="none")
    ] = None,
    encoding: Encoding = "utf-8",
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse records whose correct_answer and correct_choice disagree."),
    ] = False,
    json: Json = False,
) -> None:
    """Score predictions against the answers in the data, joined by id."""
    console = Console(as_json=json)
    source = DataOptions(data, on_bad="error", encoding=encoding, strict=strict)
    _end(console, engine.evaluate(predictions, source, out=out, reporter=console))


@app.command(rich_help_panel="Prepare", epilog=_examples("schema"))
def schema(
    command: Annotated[
        Literal["distill-online", "distill-refine"],
        typer.Argument(metavar="[COMMAND]", help="distill-online or distill-refine."),
    ] = "distill-online",
) -> None:
    """Print the JSON Schema of a recipe, so that editors complete and check it."""
    _end(Console(as_json=True), engine.schema(command))
