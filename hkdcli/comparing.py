"""Two systems on the same records: `hkd compare`."""

from __future__ import annotations

from pathlib import Path

from hkdcli.opening import DataOptions, open_data
from hkdcli.outcome import Outcome
from hkdcli.reporter import SILENT, Reporter
from hkdcli.result_tables import tabulate_comparison
from hkdcli.scored_files import PredictionOptions, check_outputs, pause_collection, score_file

ROUNDING = 1e-12  # 0.8 - 0.7 is more than 0.1


def compare(
    first: Path,
    second: Path,
    data: DataOptions,
    reading: PredictionOptions | None = None,
    *,
    fail_if_worse: float | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Outcome:
    """Compare two systems on the same records.

    Args:
        first: Predictions of one, a.
        second: Predictions of the other, b.
        data: The records with their answers.
        reading: How the predictions are read.
        fail_if_worse: The gate is not met where micro-F1 over all records falls by more than this.
        out: Where to write the comparison as JSON; null writes nothing.
        overwrite: Replace an earlier one.
        reporter: Told about warnings.

    Returns:
        The comparison.
    """
    from hkdcli.atomic import write_json
    from hkdcli.evaluation.compare import compare_tables
    from hkdcli.evaluation.metrics import Bootstrap

    inputs = [first, second, Path(data.source)]
    check_outputs([] if out is None else [out], inputs, overwrite=overwrite)
    reading = reading or PredictionOptions()
    with pause_collection():
        dataset = open_data(data, reporter)
        a, b = (score_file(path, dataset.examples, reading) for path in (first, second))
    comparison = compare_tables(a.tables, b.tables, (a.results, b.results), Bootstrap())
    for warning in comparison.warnings:
        reporter.warn(warning)
    document = comparison.to_json()
    if out is not None:
        write_json(out, document)
    loss = comparison.scores["micro_f1"].loss
    is_worse = fail_if_worse is not None and loss > fail_if_worse + ROUNDING
    said = f"micro_f1 falls by {loss:.4f}, and {fail_if_worse:g} is allowed" if is_worse else ""
    return Outcome(document, tables=tabulate_comparison(comparison), failed_gate=said)
