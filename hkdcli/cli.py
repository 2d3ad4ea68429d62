"""The whole command line: names, options and help; the work is in `engine`, the printing in `console`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from hkdcli import __version__, engine
from hkdcli.cli_augment import augment
from hkdcli.cli_doctor import doctor
from hkdcli.cli_evaluate import compare, evaluate, submit
from hkdcli.cli_infer import infer
from hkdcli.cli_options import (
    Json,
    Nproc,
    Overrides,
    Overwrite,
    RecipePath,
    Resume,
    RunPath,
    end,
    render_examples,
)
from hkdcli.cli_plan import init, plan, split
from hkdcli.cli_results import export, merge_shards
from hkdcli.console import Console
from hkdcli.launch import follow_launcher, launch
from hkdcli.options import check_no_shard, check_only_signals, parse_shard
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


def _show_version(wanted: bool) -> None:
    if wanted:
        Console().show(Outcome({}, text=f"hkd {__version__}"))
        raise typer.Exit


DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check recipe, data, models and device; train nothing.")
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
        end(console, engine.plan_distillation(name, recipe, overrides, out=out, reporter=console))
        return
    if nproc is not None and nproc > 1:
        from hkdcli.recipe_file import read_recipe
        from hkdcli.recipe_schema import STAGES

        read_recipe(recipe, STAGES[name], overrides)  # what is wrong is told before anything is started
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
        end(console, run)


@app.callback()
def hkd(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Distil big vision-language judges into small hallucination and factuality detectors."""


@app.command(rich_help_panel="Distil", epilog=render_examples("distill-online"))
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


@app.command(rich_help_panel="Distil", epilog=render_examples("distill-refine"))
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
    end(console, engine.store_signals(recipe, overrides or [], out=out, shard=share, reporter=console))


app.command(rich_help_panel="Distil", epilog=render_examples("augment"))(augment)
app.command(rich_help_panel="Distil", epilog=render_examples("infer"))(infer)
app.command(rich_help_panel="Distil", epilog=render_examples("evaluate"))(evaluate)
app.command(rich_help_panel="Prepare", epilog=render_examples("split"))(split)
app.command(rich_help_panel="Prepare", epilog=render_examples("init"))(init)
app.command(rich_help_panel="Prepare", epilog=render_examples("plan"))(plan)
app.command(rich_help_panel="Use", epilog=render_examples("compare"))(compare)
app.command(rich_help_panel="Use", epilog=render_examples("submit"))(submit)
app.command(rich_help_panel="Use", epilog=render_examples("export"))(export)
app.command(rich_help_panel="Use", epilog=render_examples("merge-shards"))(merge_shards)
app.command(rich_help_panel="Prepare", epilog=render_examples("doctor"))(doctor)


@app.command(rich_help_panel="Prepare", epilog=render_examples("schema"))
def schema(
    kind: Annotated[
        Literal["distill-online", "distill-refine", "augment", "results", "comparison", "diagnosis"],
        typer.Argument(
            metavar="[KIND]",
            help="A command's recipe, or what evaluate (results), compare or doctor (diagnosis) says.",
        ),
    ] = "distill-online",
) -> None:
    """Print the JSON Schema of a recipe, for editors, or of a file of results, for those who read it."""
    end(Console(as_json=True), engine.schema(kind))
