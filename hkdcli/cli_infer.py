"""`hkd infer`: options and help; the work is in `engine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hkdcli import engine
from hkdcli.cli_options import Encoding, Images, Json, Nproc, Overwrite, Resume, end
from hkdcli.console import Console
from hkdcli.errors import EXIT_SOME_RECORDS_FAILED
from hkdcli.inferring import InferOptions
from hkdcli.launch import follow_launcher
from hkdcli.opening import DataOptions
from hkdcli.options import (
    check_calibrated_options,
    check_places,
    choose_shifts,
    choose_way,
    parse_batch_size,
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
_ASKING, _ANSWERING, _SCALE = "How records are asked", "How answers are chosen", "Scale"
# What the process does that starts the others.
_HERE = ("nproc", "resume", "overwrite", "as_json", "calibrate")


def infer(
    command: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run folder, model folder, hub id or scenes:NAME.")
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]", help="A file of records, scenes:SPLIT, or - for stdin.", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of predictions to write (JSONL).", show_default=False)
    ] = None,
    images: Images = None,
    level: Annotated[
        str | None, typer.Option(help="Level of the run to use.", show_default="the base")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Where an adapter's base model is.", show_default="as the adapter says")
    ] = None,
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
    image: Annotated[
        Path | None, typer.Option(help="One picture.", show_default=False, rich_help_panel=_PICTURE)
    ] = None,
    caption: Annotated[
        str | None,
        typer.Option(help="A caption of it to judge.", show_default=False, rich_help_panel=_PICTURE),
    ] = None,
    phrases: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Phrases of the caption to judge.",
            show_default="proposed",
            rich_help_panel=_PICTURE,
        ),
    ] = None,
    claim: Annotated[
        str | None,
        typer.Option(help="A claim about it to judge.", show_default=False, rich_help_panel=_PICTURE),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(help="Text that belongs to the claim.", show_default="none", rich_help_panel=_PICTURE),
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(
            help="Draw into this PNG which regions the verdict rests on.",
            show_default="no",
            rich_help_panel=_PICTURE,
        ),
    ] = None,
    shift: Annotated[
        bool,
        typer.Option(
            "--shift", help="Average over every cyclic shift of the choices.", rich_help_panel=_ASKING
        ),
    ] = False,
    shifts: Annotated[
        int | None,
        typer.Option(min=1, help="Average over this many shifts.", show_default="1", rich_help_panel=_ASKING),
    ] = None,
    shift_what: Annotated[
        Literal["letters", "positions", "both"],
        typer.Option(help="What a shift moves.", rich_help_panel=_ASKING),
    ] = "both",
    fix_none: Annotated[
        bool,
        typer.Option("--fix-none", help="Leave 'No hallucination' where it stands.", rich_help_panel=_ASKING),
    ] = False,
    combine: Annotated[
        Literal["log-mean", "arithmetic"],
        typer.Option(help="Mean over the shifts.", rich_help_panel=_ASKING),
    ] = "log-mean",
    debias: Annotated[
        Literal["none", "prior"],
        typer.Option(
            help="prior: one order, divided by the letter prior that --calibrate estimated (PriDe).",
            rich_help_panel=_ASKING,
        ),
    ] = "none",
    per_shift: Annotated[
        bool,
        typer.Option("--per-shift", help="Add what each shift says to the rows.", rich_help_panel=_ASKING),
    ] = False,
    decode: Annotated[
        Literal["map", "expected-f1", "threshold"] | None,
        typer.Option(
            help="How the answer is chosen.",
            show_default="as calibrated, or map",
            rich_help_panel=_ANSWERING,
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="DEV",
            help="Fit calibration to these labelled records first, and store it with the model.",
            show_default="no",
            rich_help_panel=_ANSWERING,
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="The calibration to use, or to write with --calibrate.",
            show_default="calibration.json of the model",
            rich_help_panel=_ANSWERING,
        ),
    ] = None,
    uncalibrated: Annotated[
        bool,
        typer.Option("--uncalibrated", help="Leave the calibration alone.", rich_help_panel=_ANSWERING),
    ] = False,
    abstain_below: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Give no answer less probable than this.",
            show_default="always answer",
            rich_help_panel=_ANSWERING,
        ),
    ] = None,
    target_precision: Annotated[
        float | None,
        typer.Option(
            help="Abstain so that this share of the answers is right, promised at 95 % by the records of "
            "--calibrate.",
            show_default="no promise",
            rich_help_panel=_ANSWERING,
        ),
    ] = None,
    batch_size: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Records that are on the device at once; auto: as many as fit.",
            rich_help_panel=_SCALE,
        ),
    ] = "8",
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that load images ahead.",
            show_default="some beside a GPU",
            rich_help_panel=_SCALE,
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only this share of the records; see merge-shards.",
            show_default="1/1",
            rich_help_panel=_SCALE,
        ),
    ] = None,
    nproc: Nproc = None,
    engine_name: Annotated[
        Literal["transformers", "vllm"],
        typer.Option("--engine", help="What runs the model.", rich_help_panel=_SCALE),
    ] = "transformers",
    resume: Resume = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Predict an answer, with its posterior, for every record; or judge one picture."""
    console = Console(as_json=as_json)
    options = InferOptions(
        level=level,
        base=base,
        shifts=choose_shifts(shift, shifts),
        shift_what=shift_what,
        move_none=not fix_none,
        combination="log_mean" if combine == "log-mean" else "arithmetic",
        debias=debias,
        decoding=decode,
        per_shift=per_shift,
        calibration=calibration,
        is_calibrated=not uncalibrated,
        abstain_below=abstain_below,
        target_precision=target_precision,
        batch_size=parse_batch_size(batch_size),
        workers=workers,
        engine=engine_name,
    )
    check_calibrated_options(options)
    way = choose_way(command.params)
    check_places(command.params)

    def open_options(source: str) -> DataOptions:
        return DataOptions(source, images, on_bad, limit, encoding, allow_outside_root=allow_outside_root)

    if calibrate is not None:
        fitted = engine.calibrate(model, open_options(calibrate), options, console)
        if way == "calibrate":
            end(console, fitted)
            return
    if way == "picture" and image is not None:
        if evidence is not None:
            check_output(evidence, overwrite=overwrite, inputs=[image])
        question = PictureQuestion(image, caption, parse_phrases(phrases), claim, context or "")
        end(console, engine.infer_picture(model, question, options, evidence=evidence, reporter=console))
        return
    source = open_options(data or "")
    if way == "stream":
        end(console, engine.infer_stream(model, source, options, console))
        return
    output = Output(out or Path(), resume, overwrite)
    if nproc is not None and nproc > 1 and not (resume and output.path.exists()):
        words = spell_options(command.command.params, command.params, leave_out=_HERE)
        end(console, engine.infer_in_processes(words, nproc, source, output=output, reporter=console))
        return
    follow_launcher()
    is_main = find_place().is_main
    said = engine.infer(
        model,
        source,
        options,
        output=output,
        shard=parse_shard(shard or "1/1"),
        reporter=console if is_main else engine.SILENT,
    )
    if find_place().size == 1:
        end(console, said)
    elif said.failed_records:
        end(Console(as_json=True), Outcome({}, exit_code=EXIT_SOME_RECORDS_FAILED))
