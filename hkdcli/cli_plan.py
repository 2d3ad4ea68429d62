"""The command that tells what a recipe takes before it is run: its options and help."""

from __future__ import annotations

from typing import Annotated

import typer

from hkdcli import engine
from hkdcli.cli_options import Json, Overrides, RecipePath, RunPath, end
from hkdcli.console import Console

Gpu = Annotated[
    float | None,
    typer.Option(
        "--gpu", metavar="GB", min=1, help="Plan for a card of 24, 40, 80 GB ...", show_default="this machine"
    ),
]


def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    gpu: Gpu = None,
    memory_gib: Annotated[
        float | None,
        typer.Option(
            "--memory-gib",
            metavar="GIB",
            min=0.1,
            help="Plan for so much device memory.",
            show_default="this machine",
        ),
    ] = None,
    out: RunPath = None,
    as_json: Json = False,
) -> None:
    """Say if a recipe fits on one GPU, what would make it fit, and what it takes, before any download."""
    console = Console(as_json=as_json)
    end(
        console,
        engine.plan(recipe, overrides or [], out=out, gpu_gb=gpu, memory_gib=memory_gib, reporter=console),
    )
