"""The command that looks for what is wrong before hours are spent: options and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hkdcli import engine
from hkdcli.cli_options import AllowOutsideRoot, Base, Encoding, Images, Json, Level, end
from hkdcli.console import Console
from hkdcli.engine import DoctorOptions

Target = Annotated[
    str | None,
    typer.Argument(
        metavar="[TARGET]",
        help="A recipe (.yaml), a model (folder, run, hub id, scenes:NAME) or records (file, scenes:SPLIT).",
        show_default="the machine and hkd alone",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to a recipe.", show_default=False),
]
_RECORDS, _MODELS = "Records", "Models"
Against = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DATA",
        help="Other records that must not share ids or images with these; may be given again.",
        show_default="none",
        rich_help_panel=_RECORDS,
    ),
]
Predictions = Annotated[
    Path | None,
    typer.Option(
        help="What hkd infer wrote for these records: shows labels that are probably wrong.",
        show_default="none",
        rich_help_panel=_RECORDS,
    ),
]
LockData = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write hashes of these records and of their image files to FILE.",
        show_default="none",
        rich_help_panel=_RECORDS,
    ),
]
VerifyData = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Compare these records and image files with what --lock-data wrote.",
        show_default="none",
        rich_help_panel=_RECORDS,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Only the first so many records.", show_default="all", rich_help_panel=_RECORDS),
]
Quantization = Annotated[
    Literal["none", "int8", "nf4"],
    typer.Option(help="Load the model so too, and compare its answers.", rich_help_panel=_MODELS),
]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="What to check hkd and models on.")]


def doctor(
    target: Target = None,
    overrides: Overrides = None,
    against: Against = None,
    predictions: Predictions = None,
    lock_data: LockData = None,
    verify_data: VerifyData = None,
    images: Images = None,
    limit: Limit = None,
    encoding: Encoding = "utf-8",
    allow_outside_root: AllowOutsideRoot = False,
    level: Level = None,
    base: Base = None,
    quantization: Quantization = "none",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find what is wrong with the machine, with hkd itself, and with a recipe, model or records."""
    console = Console(as_json=as_json)
    options = DoctorOptions(
        overrides or (),
        against or (),
        predictions,
        images,
        encoding,
        limit,
        allow_outside_root,
        level,
        base,
        quantization,
        device,
        lock_data,
        verify_data,
    )
    end(console, engine.diagnose(target, options, reporter=console))
