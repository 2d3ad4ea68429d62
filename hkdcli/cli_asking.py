"""Options of `hkd infer` on how records are asked and how answers are chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

_ASKING, _ANSWERING = "How records are asked", "How answers are chosen"

Shift = Annotated[
    bool,
    typer.Option("--shift", help="Average over every cyclic shift of the choices.", rich_help_panel=_ASKING),
]
Shifts = Annotated[
    int | None,
    typer.Option(min=1, help="Average over this many shifts.", show_default="1", rich_help_panel=_ASKING),
]
ShiftWhat = Annotated[
    Literal["letters", "positions", "both"],
    typer.Option(help="What a shift moves.", rich_help_panel=_ASKING),
]
ShiftTask = Annotated[
    Literal["hallucination", "factuality"] | None,
    typer.Option(help="Shift the records of this task alone.", show_default="both", rich_help_panel=_ASKING),
]
FixNone = Annotated[
    bool,
    typer.Option("--fix-none", help="Leave 'No hallucination' where it stands.", rich_help_panel=_ASKING),
]
Combine = Annotated[
    Literal["log-mean", "arithmetic"],
    typer.Option(help="Mean over the shifts.", rich_help_panel=_ASKING),
]
Debias = Annotated[
    Literal["none", "prior"],
    typer.Option(
        help="prior: one order, divided by the letter prior that --calibrate estimated (PriDe).",
        rich_help_panel=_ASKING,
    ),
]
PerShift = Annotated[
    bool,
    typer.Option("--per-shift", help="Add what each shift says to the rows.", rich_help_panel=_ASKING),
]
Blind = Annotated[
    bool,
    typer.Option(
        "--blind",
        help="Show a grey picture in place of each image: a control for hkd evaluate --blind.",
        rich_help_panel=_ASKING,
    ),
]
Decode = Annotated[
    Literal["map", "expected-f1", "threshold"] | None,
    typer.Option(
        help="How the answer is chosen.",
        show_default="as calibrated, or map",
        rich_help_panel=_ANSWERING,
    ),
]
Calibrate = Annotated[
    str | None,
    typer.Option(
        metavar="DEV",
        help="Fit calibration to these labelled records first, and store it with the model.",
        show_default="no",
        rich_help_panel=_ANSWERING,
    ),
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        help="The calibration to use, or to write with --calibrate.",
        show_default="calibration.json of the model",
        rich_help_panel=_ANSWERING,
    ),
]
Uncalibrated = Annotated[
    bool,
    typer.Option("--uncalibrated", help="Leave the calibration alone.", rich_help_panel=_ANSWERING),
]
AbstainBelow = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Give no answer less probable than this.",
        show_default="always answer",
        rich_help_panel=_ANSWERING,
    ),
]
TargetPrecision = Annotated[
    float | None,
    typer.Option(
        help="Abstain so that this share of the answers is right, promised at 95 % by the records of "
        "--calibrate.",
        show_default="no promise",
        rich_help_panel=_ANSWERING,
    ),
]
