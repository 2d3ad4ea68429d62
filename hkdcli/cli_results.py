"""The command that takes a model elsewhere, and the one that puts shards together: options and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hkdcli import engine
from hkdcli.cli_options import (
    AllowOutsideRoot,
    Base,
    Data,
    Encoding,
    Images,
    Json,
    Level,
    Model,
    Overwrite,
    end,
)
from hkdcli.console import Console
from hkdcli.opening import DataOptions
from hkdcli.predicting import Output


def export(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    level: Level = None,
    base: Base = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Keep the adapter apart instead of merging it.")
    ] = False,
    dtype: Annotated[
        Literal["auto", "float32", "float16", "bfloat16"],
        typer.Option(help="Number type of the weights; auto: as the base is stored."),
    ] = "auto",
    data: Annotated[
        str | None,
        typer.Option(help="Records to check the export on.", show_default="the run's own, or drawn scenes"),
    ] = None,
    images: Images = None,
    encoding: Encoding = "utf-8",
    allow_outside_root: AllowOutsideRoot = False,
    check: Annotated[int, typer.Option(min=1, help="How many records to check it on.")] = 16,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a model as one folder that plain transformers loads, with its card, if it answers alike there."""
    console = Console(as_json=as_json)
    source = (
        DataOptions(data, images, encoding=encoding, allow_outside_root=allow_outside_root) if data else None
    )
    options = engine.ExportOptions(level, base, adapter, dtype, check)
    end(console, engine.export(model, options, out=out, data=source, overwrite=overwrite, reporter=console))


def merge_shards(
    data: Data,
    shards: Annotated[list[Path], typer.Argument(metavar="SHARD...", help="Files that --shard wrote.")],
    out: Annotated[Path, typer.Option(help="File of predictions to write (JSONL).")],
    images: Images = None,
    encoding: Encoding = "utf-8",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Merge the predictions of all shards, in the order of the data, and see that no record is missing."""
    console, output = Console(as_json=as_json), Output(out, overwrite=overwrite)
    source = DataOptions(data, images, encoding=encoding)
    end(console, engine.merge_shards(source, shards, output=output, reporter=console))
