"""The commands that choose a recipe and tell what it takes, before any download: options and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hkdcli import engine
from hkdcli.cli_options import Images, Json, Overrides, Overwrite, RecipePath, RunPath, end
from hkdcli.console import Console

Gpu = Annotated[
    float | None,
    typer.Option(
        "--gpu",
        metavar="GB",
        min=1,
        max=10**6,
        help="For a card of 24, 40, 80 ... GB.",
        show_default="this machine",
    ),
]
MemoryGib = Annotated[
    float | None,
    typer.Option(
        "--memory-gib",
        metavar="GIB",
        min=0.01,
        max=10**6,
        help="For a GPU of so much memory.",
        show_default="this machine",
    ),
]


def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    gpu: Gpu = None,
    memory_gib: MemoryGib = None,
    out: RunPath = None,
    as_json: Json = False,
) -> None:
    """Say if a recipe fits on one GPU, what would make it fit, and what it takes, before any download."""
    console = Console(as_json=as_json)
    room = {"gpu_gb": gpu, "memory_gib": memory_gib}
    end(console, engine.plan(recipe, overrides or [], out=out, **room, reporter=console))


def init(
    data: Annotated[Path, typer.Option(metavar="FILE", help="Records to learn from, with gold.")],
    dev: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Records that training is watched on.", show_default="none"),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Records to score every level on.", show_default="none"),
    ] = None,
    images: Images = None,
    gpu: Gpu = None,
    memory_gib: MemoryGib = None,
    out: Annotated[Path, typer.Option(help="The recipe to write.")] = Path("recipe.yaml"),
    name: Annotated[str, typer.Option(help="Name of the run.")] = "mine",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a commented recipe for your own records, with the strongest known models that fit."""
    console = Console(as_json=as_json)
    room = {"gpu_gb": gpu, "memory_gib": memory_gib}
    files = engine.OwnData(data, dev, test, images)
    end(
        console,
        engine.init(files, out=out, name=name, **room, overwrite=overwrite, reporter=console),
    )
