"""What each level of a pyramid reaches on held-out records, beside the best constant answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hkdcli.atomic import write_json
from hkdcli.data.datasets import Dataset
from hkdcli.distill.online import TrainedLevel, load_level
from hkdcli.evaluation.metrics import Metrics, evaluate_predictions, read_predictions
from hkdcli.inference.predict import predict
from hkdcli.inference.scoring import Scorer
from hkdcli.reporter import Reporter
from hkdcli.runs import RunFolder
from hkdcli.runtime import Runtime

BATCH_SIZE = 32
SHOWN = ("micro_f1", "hallucinated_f1", "exact_match")


def score_levels(
    levels: Sequence[TrainedLevel], data: Dataset, run: RunFolder, runtime: Runtime, reporter: Reporter
) -> list[dict[str, Any]]:
    """Predict and score held-out records with every level; keep predictions and metrics in the run.

    Args:
        levels: apex first.
        data: records with answers that no level has learned from.
        run: the open run folder.
        runtime: what to run on.
        reporter: told how it goes.

    Returns:
        One row a level with its figures, and first the best constant answer's.
    """
    rows: list[dict[str, Any]] = []
    for level in levels:
        reporter.note(f"scoring {level.name} on {len(data.examples)} held-out records")
        metrics = _score_level(level, data, run, runtime, reporter)
        if not rows:
            rows.append({"level": "constant answer", "micro_f1": metrics.metrics["constant_micro_f1"]})
        tasks = {f"{name}_micro_f1": task.metrics["micro_f1"] for name, task in metrics.tasks.items()}
        rows.append({"level": level.name, **{name: metrics.metrics.get(name) for name in SHOWN}, **tasks})
    return rows


def _score_level(
    level: TrainedLevel, data: Dataset, run: RunFolder, runtime: Runtime, reporter: Reporter
) -> Metrics:
    folder = run.path / "eval" / "test" / level.name
    folder.mkdir(parents=True, exist_ok=True)
    predictions = folder / "predictions.jsonl"
    scorer = Scorer(load_level(level, runtime))
    predict(
        data, scorer, out=predictions, resume=predictions.exists(), batch_size=BATCH_SIZE, reporter=reporter
    )
    metrics = evaluate_predictions(read_predictions(predictions), data.examples)
    write_json(folder / "metrics.json", metrics.to_json())
    return metrics
