"""The commands before any training: split records, choose a recipe, tell what it takes; options and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hkdcli import engine
from hkdcli.cli_options import Encoding, Images, Json, Overrides, Overwrite, RecipePath, RunPath, end
from hkdcli.console import Console


def _build_room_option(flag: str, unit: str, least: float, text: str) -> Any:
    """An option that says how much memory is planned for; without one it is this machine's."""
    return typer.Option(flag, metavar=unit, min=least, max=10**6, help=text, show_default="this machine")


Gpu = Annotated[float | None, _build_room_option("--gpu", "GB", 1, "For a card of 24, 40, 80 ... GB.")]
MemoryGib = Annotated[
    float | None, _build_room_option("--memory-gib", "GIB", 0.01, "For a GPU of so much memory.")
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


def split(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Records, of one or both tasks.")],
    out: Annotated[Path, typer.Option(help="Folder of the new files.")] = Path("data"),
    dev: Annotated[int, typer.Option(metavar="PERCENT", min=0, max=99, help="Pictures for dev.json.")] = 10,
    test: Annotated[int, typer.Option(metavar="PERCENT", min=0, max=99, help="Pictures for test.json.")] = 20,
    encoding: Encoding = "utf-8",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Share records out to train.json, dev.json and test.json, so that no picture is in two of them."""
    console = Console(as_json=as_json)
    shares = {"dev": dev, "test": test}
    end(
        console,
        engine.split(files, out=out, **shares, encoding=encoding, overwrite=overwrite, reporter=console),
    )
