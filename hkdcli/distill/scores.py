"""What each level of a pyramid reaches on held-out records, beside the best constant answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hkdcli.atomic import write_atomic, write_json
from hkdcli.data.datasets import Dataset
from hkdcli.distill.levels import Stage, TrainedLevel, load_level
from hkdcli.evaluation.join import Table
from hkdcli.evaluation.metrics import (
    Bootstrap,
    Results,
    join_predictions,
    read_predictions,
    score_tables,
)
from hkdcli.inference.asking import Judge
from hkdcli.inference.predict import predict
from hkdcli.inference.scoring import Scorer
from hkdcli.reporting.report import render_report

if TYPE_CHECKING:
    from hkdcli.recipe import RunRecipe


def score_levels(stage: Stage[RunRecipe], levels: Sequence[TrainedLevel]) -> list[dict[str, Any]]:
    """Predict and score the test split with every level; keep predictions and results in the run.

    Args:
        stage: the run; its split `test` holds records with answers that no level has learned from.
        levels: apex first.

    Returns:
        A row for the best constant answer, then one for each level; none where there is no test split.
    """
    data = stage.data.get("test")
    rows: list[dict[str, Any]] = []
    if data is None:
        return rows
    for level in levels:
        stage.reporter.note(f"scoring {level.name} on {len(data.examples)} held-out records")
        results = _score_level(stage, level, data)
        if not rows:
            rows.append(_list_figures("constant answer", results, ("constant_micro_f1",)))
        rows.append(_list_figures(level.name, results, ("micro_f1", "hallucinated_f1", "exact_match")))
    return rows


def _list_figures(name: str, results: Results, wanted: Sequence[str]) -> dict[str, Any]:
    """One row: the first wanted figure over all records and per task, the others over all records."""
    first, *others = wanted
    scores: dict[str, Any] = {**results.metrics}
    overall = {"micro_f1": scores[first]} | {other: scores[other] for other in others}
    tasks = {f"{task}_micro_f1": {**found.metrics}[first] for task, found in results.tasks.items()}
    return {"level": name, **overall, **tasks}


def _score_level(stage: Stage[RunRecipe], level: TrainedLevel, data: Dataset) -> Results:
    folder = stage.run.path / "eval" / "test" / level.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "predictions.jsonl"
    predict(
        data,
        Judge(Scorer(load_level(level, stage.runtime))),
        out=path,
        resume=path.exists(),
        batch_size=level.batch_size,
        reporter=stage.reporter,
    )
    rows = read_predictions(path)
    tables = join_predictions(rows, data.examples)
    results = score_tables(tables, rows, data.examples, Bootstrap())
    write_json(folder / "results.json", results.to_json())
    _write_reports(folder, results, tables, level.name, data)
    return results


def _write_reports(
    folder: Path, results: Results, tables: Mapping[str, Table], name: str, data: Dataset
) -> None:
    """The same page and Markdown that `hkd evaluate --report` writes."""
    for file in ("report.html", "report.md"):
        text = render_report(folder / file, results, tables, data, title=f"{name} on {data.name}")
        write_atomic(folder / file, text.encode())
