"""`hkd infer`: options and help; the work is in `engine`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from hkdcli import engine
from hkdcli.cli_asking import (
    AbstainBelow,
    Blind,
    Calibrate,
    Calibration,
    Combine,
    Debias,
    Decode,
    FixNone,
    PerShift,
    Shift,
    Shifts,
    ShiftTask,
    ShiftWhat,
    TargetPrecision,
    Uncalibrated,
)
from hkdcli.cli_options import (
    AllowOutsideRoot,
    Base,
    Encoding,
    Images,
    Json,
    Level,
    Limit,
    Model,
    Nproc,
    Overwrite,
    Resume,
    end,
)
from hkdcli.console import Console
from hkdcli.errors import EXIT_SOME_RECORDS_FAILED
from hkdcli.inferring import InferOptions
from hkdcli.launch import follow_launcher
from hkdcli.opening import DataOptions
from hkdcli.options import (
    build_options,
    check_places,
    choose_way,
    parse_phrases,
    parse_shard,
    spell_options,
)
from hkdcli.outcome import Outcome
from hkdcli.picture import PictureQuestion
from hkdcli.predicting import Output
from hkdcli.ranks import find_place
from hkdcli.runs import check_output

_PICTURE = "One picture"
_SCALE = "Scale"
# What the process does that starts the others.
_HERE = ("nproc", "resume", "overwrite", "as_json", "calibrate")


Data = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATA]", help="A file of records, scenes:SPLIT, or - for stdin.", show_default=False
    ),
]
Out = Annotated[Path | None, typer.Option(help="File of predictions to write (JSONL).", show_default=False)]
OnBad = Annotated[
    Literal["error", "skip", "keep"],
    typer.Option(help="What an unusable record does; keep writes a row for it."),
]
Image = Annotated[
    Path | None, typer.Option(help="One picture.", show_default=False, rich_help_panel=_PICTURE)
]
Caption = Annotated[
    str | None,
    typer.Option(help="A caption of it to judge.", show_default=False, rich_help_panel=_PICTURE),
]
Phrases = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...",
        help="Phrases of the caption to judge.",
        show_default="proposed",
        rich_help_panel=_PICTURE,
    ),
]
Claim = Annotated[
    str | None,
    typer.Option(help="A claim about it to judge.", show_default=False, rich_help_panel=_PICTURE),
]
Context = Annotated[
    str | None,
    typer.Option(help="Text that belongs to the claim.", show_default="none", rich_help_panel=_PICTURE),
]
Evidence = Annotated[
    Path | None,
    typer.Option(
        help="Draw into this PNG which regions the verdict rests on.",
        show_default="no",
        rich_help_panel=_PICTURE,
    ),
]
BatchSize = Annotated[
    str,
    typer.Option(
        metavar="N|auto",
        help="Records that are on the device at once; auto: as many as fit.",
        rich_help_panel=_SCALE,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that load images ahead.",
        show_default="some beside a GPU",
        rich_help_panel=_SCALE,
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Only this share of the records; see merge-shards.",
        show_default="1/1",
        rich_help_panel=_SCALE,
    ),
]
EngineName = Annotated[
    Literal["transformers", "vllm"],
    typer.Option("--engine", help="What runs the model.", rich_help_panel=_SCALE),
]


def infer(
    command: typer.Context,
    model: Model,
    data: Data = None,
    out: Out = None,
    images: Images = None,
    level: Level = None,
    base: Base = None,
    limit: Limit = None,
    on_bad: OnBad = "keep",
    encoding: Encoding = "utf-8",
    allow_outside_root: AllowOutsideRoot = False,
    image: Image = None,
    caption: Caption = None,
    phrases: Phrases = None,
    claim: Claim = None,
    context: Context = None,
    evidence: Evidence = None,
    shift: Shift = False,
    shifts: Shifts = None,
    shift_what: ShiftWhat = "both",
    shift_task: ShiftTask = None,
    fix_none: FixNone = False,
    combine: Combine = "log-mean",
    debias: Debias = "none",
    per_shift: PerShift = False,
    blind: Blind = False,
    decode: Decode = None,
    calibrate: Calibrate = None,
    calibration: Calibration = None,
    uncalibrated: Uncalibrated = False,
    abstain_below: AbstainBelow = None,
    target_precision: TargetPrecision = None,
    batch_size: BatchSize = "8",
    workers: Workers = None,
    shard: Shard = None,
    nproc: Nproc = None,
    engine_name: EngineName = "transformers",
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Predict an answer, with its posterior, for every record; or judge one picture."""
    console, given = Console(as_json=as_json), command.params
    options, way = build_options(given), choose_way(given)
    check_places(given)
    records = DataOptions(data or "", images, on_bad, limit, encoding, allow_outside_root=allow_outside_root)
    if calibrate is not None:
        fitted = engine.calibrate(model, replace(records, source=calibrate), options, console)
        if way == "calibrate":
            return end(console, fitted)
    if way == "picture" and image is not None:
        if evidence is not None:
            check_output(evidence, overwrite=overwrite, inputs=[image])
        question = PictureQuestion(image, caption, parse_phrases(phrases), claim, context or "")
        end(console, engine.infer_picture(model, question, options, evidence=evidence, reporter=console))
    elif way == "stream":
        end(console, engine.infer_stream(model, records, options, console))
    else:
        _infer_file(command, records, options, Output(out or Path(), resume, overwrite), console)


def _infer_file(
    command: typer.Context, source: DataOptions, options: InferOptions, output: Output, console: Console
) -> None:
    """Predict a file: here, in processes that this one starts, or as one of those."""
    given = command.params
    if (given["nproc"] or 1) > 1 and not (output.resume and output.path.exists()):
        words = spell_options(command.command.params, given, leave_out=_HERE)
        started = engine.infer_in_processes(words, given["nproc"], source, output=output, reporter=console)
        end(console, started)
        return
    follow_launcher()
    place = find_place()
    reporter = console if place.is_main else engine.SILENT
    shard = parse_shard(given["shard"] or "1/1")
    said = engine.infer(given["model"], source, options, output=output, shard=shard, reporter=reporter)
    if place.size == 1:
        end(console, said)
    elif said.failed_records:
        end(Console(as_json=True), Outcome({}, exit_code=EXIT_SOME_RECORDS_FAILED))
