"""`hkd augment`: options and help; the work is in `engine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hkdcli import engine
from hkdcli.augmenting import AugmentOptions, Target
from hkdcli.cli_options import AllowOutsideRoot, Images, Json, Overwrite, Resume, end
from hkdcli.console import Console
from hkdcli.opening import DataOptions
from hkdcli.options_augment import check_trusted, is_recipe, parse_probabilities, refuse_beside_recipe

_RECORDS, _VARIANTS, _OWN = "Records", "Which variants", "Operations of your own"

Source = Annotated[
    str, typer.Argument(metavar="RECIPE|DATA", help="YAML recipe, file of records, or scenes:SPLIT.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe, as copies=3.", show_default=False),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the dataset to write.", show_default=False)]
Preview = Annotated[
    Path | None,
    typer.Option(help="PNG to draw: some records beside their variants.", show_default=False),
]
Copies = Annotated[
    int | None,
    typer.Option(min=1, help="Variants of each record.", show_default="1", rich_help_panel=_VARIANTS),
]
PolicyOption = Annotated[
    Literal["light", "standard", "strong"] | None,
    typer.Option(
        help="How often and how strongly: docs/augment.md.",
        show_default="standard",
        rich_help_panel=_VARIANTS,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0, help="The same seed gives the same bytes.", show_default="0", rich_help_panel=_VARIANTS
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=P",
        help="Another probability of an operation; 0 leaves it out. May be repeated.",
        show_default=False,
        rich_help_panel=_VARIANTS,
    ),
]
EvidenceOption = Annotated[
    Literal["listed", "record"] | None,
    typer.Option(
        help="What a swapped word is known to be absent by: facts of the image, or the record's silence.",
        show_default="listed",
        rich_help_panel=_VARIANTS,
    ),
]
Balance = Annotated[
    bool,
    typer.Option("--balance", help="Give rarer classes more of the variants.", rich_help_panel=_VARIANTS),
]
Facts = Annotated[
    Path | None,
    typer.Option(
        help="What is known of the images (JSON Lines).", show_default=False, rich_help_panel=_RECORDS
    ),
]
TextEncoding = Annotated[
    str | None,
    typer.Option(
        "--encoding", help="Text encoding of the records.", show_default="utf-8", rich_help_panel=_RECORDS
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Only the first so many records.", show_default="all", rich_help_panel=_RECORDS),
]
OnBad = Annotated[
    Literal["error", "skip"] | None,
    typer.Option(help="What an unusable record does.", show_default="error", rich_help_panel=_RECORDS),
]
Cores = Annotated[
    int | None, typer.Option("--nproc", min=1, help="Processes to work in.", show_default="all cores")
]
Operations = Annotated[
    Path | None,
    typer.Option(
        help="Python file that adds operations; it is run.", show_default=False, rich_help_panel=_OWN
    ),
]
TrustCode = Annotated[
    bool,
    typer.Option("--trust-code", help="Permit to run the file of --operations.", rich_help_panel=_OWN),
]


def augment(
    source: Source,
    overrides: Overrides = None,
    out: Out = None,
    preview: Preview = None,
    copies: Copies = None,
    policy: PolicyOption = None,
    seed: Seed = None,
    evidence: EvidenceOption = None,
    probabilities: Set = None,
    balance: Balance = False,
    facts: Facts = None,
    images: Images = None,
    limit: Limit = None,
    on_bad: OnBad = None,
    encoding: TextEncoding = None,
    allow_outside_root: AllowOutsideRoot = False,
    operations: Operations = None,
    trust_code: TrustCode = False,
    nproc: Cores = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make variants of records whose labels stay true, or none: a new dataset, or a sheet to look at."""
    console = Console(as_json=as_json)
    check_trusted(operations, trust_code)
    target = Target(out, preview, resume, overwrite, nproc)
    if is_recipe(source):
        given: dict[str, object] = {
            "copies": copies,
            "augment.policy": policy,
            "seed": seed,
            "augment.evidence": evidence,
        }
        given |= {"augment.probabilities": probabilities or None, "balance": balance or None}
        given |= {"data.facts": facts, "data.images": images, "data.encoding": encoding, "on_bad": on_bad}
        given |= {"data.allow_outside_root": allow_outside_root or None}
        refuse_beside_recipe(given, limit)
        outcome = engine.augment_recipe(
            Path(source), overrides or [], target, operations=operations, reporter=console
        )
    else:
        if overrides:
            raise typer.BadParameter(f"{overrides[0]}: KEY=VALUE changes a recipe, and {source} is none")
        data = DataOptions(
            source, images, on_bad or "error", limit, encoding or "utf-8", False, allow_outside_root, facts
        )
        options = AugmentOptions(
            copies or 1,
            seed or 0,
            policy or "standard",
            parse_probabilities(probabilities or []),
            evidence or "listed",
            balance,
            operations,
        )
        outcome = engine.augment(data, options, target, reporter=console)
    end(console, outcome)
