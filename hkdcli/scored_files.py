"""Files of predictions, read and scored against the records: what three commands share."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hkdcli.errors import UsageError

if TYPE_CHECKING:
    from hkdcli.data.records import Example
    from hkdcli.evaluation.join import Table
    from hkdcli.evaluation.predictions import Prediction
    from hkdcli.evaluation.resampling import Bootstrap
    from hkdcli.evaluation.results import Parsing, Results

Parser = Literal["strict", "lenient"]


@dataclass(frozen=True, slots=True)
class PredictionOptions:
    """How files of predictions are read: which fields hold what, and how answers that are text are parsed."""

    columns: str | None = None
    parser: Parser = "lenient"


@dataclass(frozen=True, slots=True)
class Scored:
    """Gold and predictions by task, and what they score."""

    tables: Mapping[str, Table]
    results: Results


def score_file(
    path: Path, examples: Sequence[Example], reading: PredictionOptions, bootstrap: Bootstrap | None = None
) -> Scored:
    """Read a file of predictions and score it.

    Args:
        path: The file.
        examples: The records with their answers.
        reading: How the file is read.
        bootstrap: How intervals are drawn; None: there are none.

    Returns:
        The joined tables and their scores.
    """
    from hkdcli.evaluation.metrics import join_predictions, score_tables

    rows, parsing = read_rows(path, examples, reading)
    tables = join_predictions(rows, examples)
    results = score_tables(tables, rows, examples, bootstrap)
    return Scored(tables, results.model_copy(update={"parsing": parsing}))


def read_rows(
    path: Path, examples: Sequence[Example], reading: PredictionOptions
) -> tuple[Sequence[Prediction], Parsing | None]:
    """Read a file of predictions, its texts included.

    Args:
        path: The file.
        examples: The records that texts are about.
        reading: How the file is read.

    Returns:
        The predictions, and what reading the texts was worth; None where there are none.
    """
    from hkdcli.evaluation.columns import Columns, parse_columns
    from hkdcli.evaluation.predictions import read_predictions
    from hkdcli.evaluation.texts import read_texts

    columns = parse_columns(reading.columns) if reading.columns is not None else Columns()
    return read_texts(read_predictions(path, columns), examples, reading.parser)


def check_outputs(outputs: Sequence[Path], inputs: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse outputs that are there already, or would overwrite inputs or each other.

    Args:
        outputs: The files to write.
        inputs: The files that are read.
        overwrite: Outputs may be replaced.

    Raises:
        UsageError: One of them would be lost.
    """
    from hkdcli.runs import check_output

    for place, path in enumerate(outputs):
        if path.resolve() in [other.resolve() for other in outputs[:place]]:
            raise UsageError(
                f"{path}: two outputs of this command, and one of them would be lost",
                hint="Give each a name of its own.",
            )
        check_output(path, overwrite=overwrite, resumable=False, inputs=[*inputs, *outputs[:place]])


@contextmanager
def pause_collection() -> Iterator[None]:
    """Millions of small objects are made, none of them garbage: looking for it takes half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
