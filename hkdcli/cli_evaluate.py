"""The commands that score predictions and hand them in: options and help; the work is in `engine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hkdcli import engine
from hkdcli.cli_options import Data, Encoding, Images, Json, Limit, Overwrite, end
from hkdcli.console import Console
from hkdcli.engine import EvaluateOptions, PredictionOptions
from hkdcli.opening import DataOptions
from hkdcli.options_evaluate import check_leak_options, check_reports, choose_sources

_OTHERS, _CHECKS = "Other systems' answers", "Controls"

Predictions = Annotated[
    Path, typer.Argument(metavar="PREDICTIONS", help="File that hkd infer wrote, or one of another system.")
]
Parser = Annotated[
    Literal["strict", "lenient"],
    typer.Option(
        help="How answers that are text are read: letters alone, or what people would take for an answer.",
        rich_help_panel=_OTHERS,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="OURS=THEIRS,...",
        help="Which fields hold id, prediction and confidence.",
        show_default="as hkd names them",
        rich_help_panel=_OTHERS,
    ),
]
Out = Annotated[Path | None, typer.Option(help="File of results to write (JSON).", show_default="none")]
Report = Annotated[
    list[Path] | None,
    typer.Option(help="Report to write, .html or .md; give it twice for both.", show_default="none"),
]
Gallery = Annotated[int, typer.Option(min=0, help="How many wrong records the HTML report shows.")]
PerRecord = Annotated[
    Path | None, typer.Option(help="CSV file to write, one row a record.", show_default="none")
]
NoIntervals = Annotated[bool, typer.Option("--no-intervals", help="Leave out the bootstrap.")]
Blind = Annotated[
    Path | None,
    typer.Option(
        help="Predictions of the same model by hkd infer --blind: shows what the images add.",
        show_default="none",
        rich_help_panel=_CHECKS,
    ),
]
TrainedOn = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Records that the model learned from: shows how many of these it knows.",
        show_default="none",
        rich_help_panel=_CHECKS,
    ),
]
FailOnLeak = Annotated[
    bool,
    typer.Option("--fail-on-leak", help="With --trained-on: refuse known records.", rich_help_panel=_CHECKS),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse records whose correct_answer and correct_choice disagree.")
]


def evaluate(
    predictions: Predictions,
    data: Data,
    out: Out = None,
    report: Report = None,
    gallery: Gallery = 200,
    per_record: PerRecord = None,
    no_intervals: NoIntervals = False,
    blind: Blind = None,
    trained_on: TrainedOn = None,
    fail_on_leak: FailOnLeak = False,
    parser: Parser = "lenient",
    columns: Columns = None,
    limit: Limit = None,
    images: Images = None,
    encoding: Encoding = "utf-8",
    strict: Strict = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Score predictions against the answers in the data, joined by id, with intervals and reports."""
    console = Console(as_json=as_json)
    check_leak_options(trained_on, fail_on_leak=fail_on_leak)
    options = EvaluateOptions(
        reading=PredictionOptions(columns, parser),
        intervals=not no_intervals,
        blind=blind,
        trained_on=trained_on,
        fail_on_leak=fail_on_leak,
        reports=check_reports(report or []),
        gallery=gallery,
        per_record=per_record,
        overwrite=overwrite,
    )
    source = DataOptions(data, images, "error", limit, encoding, strict=strict)
    end(console, engine.evaluate(predictions, source, options, out=out, reporter=console))


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Predictions of one system.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Predictions of the other.")],
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="File of the comparison to write (JSON).", show_default="none")
    ] = None,
    fail_if_worse: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Exit with 6 where B's micro-F1 is lower than A's by more than this.",
            show_default="never",
        ),
    ] = None,
    parser: Parser = "lenient",
    columns: Columns = None,
    limit: Limit = None,
    encoding: Encoding = "utf-8",
    strict: Strict = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare two systems on the same records: what B gains over A, how surely, and where it changed."""
    console = Console(as_json=as_json)
    source = DataOptions(data, None, "error", limit, encoding, strict=strict)
    reading = PredictionOptions(columns, parser)
    compared = engine.compare(
        first,
        second,
        source,
        reading,
        fail_if_worse=fail_if_worse,
        out=out,
        overwrite=overwrite,
        reporter=console,
    )
    end(console, compared)


def submit(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="[PREDICTIONS] DATA", help="Predictions, and the challenge's records."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Zip file to write.", show_default="none; needed with PREDICTIONS")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check this zip or JSON file instead.", show_default="none"),
    ] = None,
    task: Annotated[
        Literal["hallucination", "factuality"] | None,
        typer.Option(help="Only the records of this task.", show_default="all"),
    ] = None,
    parser: Parser = "lenient",
    columns: Columns = None,
    encoding: Encoding = "utf-8",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the challenge's results.json from predictions, or check one: every record answered once."""
    console = Console(as_json=as_json)
    predictions, data, out = choose_sources(sources, out=out, check=check)
    source = DataOptions(data, on_bad="error", encoding=encoding)
    if check is not None:
        end(console, engine.check_submission(check, source, task=task, reporter=console))
        return
    reading = PredictionOptions(columns, parser)
    written = engine.submit(
        predictions, source, reading, out=out, task=task, overwrite=overwrite, reporter=console
    )
    end(console, written)
