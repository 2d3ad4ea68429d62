"""CPU seconds and memory of scoring 100,000 records, with and without intervals, on one core.

    python benchmarks/evaluate.py --json benchmarks/evaluate.json

The records have 4 choices each, half of them of either task, two records to an image, tags for slices and for
phenomena, and predictions with whole posteriors, as `hkd infer` writes them. CPU seconds of one
process of one thread, each the least of `--rounds`:

    read       both files, as `hkd evaluate` reads them: JSON, checked strictly
    score      all scores, slices, calibration and the risk-coverage curve, without intervals
    intervals  10,000 resamples of all images besides, for each score of all records, each task and slice
    sklearn    precision_recall_fscore_support on the arrays of decisions: micro scores, those of the classes
               and of each slice, by scikit-learn; no join, no calibration
    naive      micro-F1 of resamples that draw the images one by one with numpy, `--naive` of them, scaled to
               10,000: the bootstrap as it is usually written, of one score

The peak is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from distill_step import describe_machine
from sklearn.metrics import precision_recall_fscore_support

from hkdcli.data.datasets import hash_record
from hkdcli.data.records import Example
from hkdcli.data.rows import parse_row
from hkdcli.evaluation.join import Table
from hkdcli.evaluation.metrics import Bootstrap, join_predictions, score_tables
from hkdcli.evaluation.predictions import Prediction, read_predictions
from hkdcli.evaluation.slices import group_records
from hkdcli.evaluation.tally import join_tallies, tally_records
from hkdcli.opening import DataOptions, open_data
from hkdcli.reporter import SilentReporter
from hkdcli.scored_files import pause_collection

LABELS = ("True", "False", "Partially True", "Not Verifiable")
SETS = ("A", "B", "C", "D", "BC", "BD", "CD", "BCD")
RESAMPLES = 10_000


def write_files(folder: Path, records: int, seed: int = 0) -> tuple[Path, Path]:
    """Draw records and predictions of which about 70 % are right, and write them as files."""
    rng = random.Random(seed)
    rows, said = [], []
    for index in range(records):
        is_caption = index % 2 == 1
        answers = SETS if is_caption else LABELS_BY_LETTER
        gold = rng.choice(answers)
        rows.append(_draw_record(rng, index, gold, is_caption))
        said.append(_draw_row(rng, rows[-1], gold, answers))
        said[-1]["record_hash"] = hash_record(_parse(rows[-1]))
    data, predictions = folder / "records.json", folder / "predictions.jsonl"
    data.write_text(json.dumps(rows))
    predictions.write_text("".join(json.dumps(row) + "\n" for row in said))
    return data, predictions


LABELS_BY_LETTER = ("A", "B", "C", "D")


def _parse(record: Mapping[str, Any]) -> Example:
    example = parse_row(record, "")
    if not isinstance(example, Example):
        raise TypeError(str(example))
    return example


def _draw_record(rng: random.Random, index: int, gold: str, is_caption: bool) -> dict[str, Any]:
    texts = ("No hallucination", "a red ball", "the tall tree", "on a table") if is_caption else LABELS
    task = (
        {"system1_answer": "A red ball lies on a table below the tall tree.", "system2_question": "Which?"}
        if is_caption
        else {"claim": "The ball is red.", "context": "It was bought in May.", "question": "Is it so?"}
    )
    tags = {"phenomena": {"B": "attribute", "C": "object", "D": "relation"}} if is_caption else {}
    return {
        "id": f"r{index}",
        "image_id": f"{index // 2}.jpg",
        **task,
        "choices": [{"id": letter, "choice": text} for letter, text in zip("ABCD", texts, strict=True)],
        "correct_choice": list(gold),
        "meta": {"source": rng.choice(("coco", "drawn", "web")), **tags},
    }


def _draw_row(
    rng: random.Random, record: Mapping[str, Any], gold: str, answers: tuple[str, ...]
) -> dict[str, Any]:
    weights = [rng.expovariate(1) * (6 if answer == gold else 1) for answer in answers]
    whole = sum(weights)
    posterior = sorted(
        ((w / whole, answer) for w, answer in zip(weights, answers, strict=True)), reverse=True
    )
    return {
        "id": record["id"],
        "prediction": list(posterior[0][1]),
        "posterior": [{"answer": list(answer), "p": round(p, 6)} for p, answer in posterior],
        "confidence": round(posterior[0][0], 6),
        "shifts": 4,
        "flip_rate": rng.choice((0.0, 0.25, 0.5)),
        "all_agree": rng.random() < 0.6,
        "approximate": False,
        "status": "ok",
        "error": None,
    }


def measure(records: int, rounds: int, naive: int) -> dict[str, Any]:
    """Time everything; what is timed in a round shares whatever else the machine does."""
    with tempfile.TemporaryDirectory() as folder:
        data, predictions = write_files(Path(folder), records)
        with pause_collection():
            read_s, (examples, rows) = _time(lambda: _read(data, predictions))
    seconds: dict[str, list[float]] = {name: [] for name in ("score", "with_intervals", "sklearn", "naive")}
    peak = {}
    for _ in range(rounds):
        spent, tables = _time(lambda: join_predictions(rows, examples))
        more, _ = _time(lambda: score_tables(tables, rows, examples))  # noqa: B023
        seconds["score"].append(spent + more)
        peak["score"] = _read_peak()
        more, results = _time(lambda: score_tables(tables, rows, examples, Bootstrap(RESAMPLES)))  # noqa: B023
        seconds["with_intervals"].append(spent + more)
        peak["with_intervals"] = _read_peak()
        seconds["sklearn"].append(_time(lambda: score_with_sklearn(tables))[0])  # noqa: B023
        spent, drawn = _time(lambda: draw_naively(tables, naive))  # noqa: B023
        seconds["naive"].append(spent * RESAMPLES / naive)
    best = {name: min(values) for name, values in seconds.items()}
    interval, drawing = results.intervals["micro_f1"], best["with_intervals"] - best["score"]
    return {
        "machine": describe_machine(),
        "records": records,
        "rounds": rounds,
        "resamples": RESAMPLES,
        "seconds": {"read": read_s, **best},
        "peak_mb": {name: round(value) for name, value in peak.items()},
        "ratio_naive_of_one_score_vs_intervals_of_all": best["naive"] / drawing,
        "ratio_sklearn_vs_score": best["sklearn"] / best["score"],
        "half_width": interval and interval["half_width"],
        "half_width_naive": float(np.ptp(np.quantile(drawn, (0.025, 0.975))) / 2),
    }


def score_with_sklearn(tables: Mapping[str, Table]) -> list[Any]:
    """The scores of counts as one would compute them with scikit-learn from arrays of decisions."""
    scores = []
    for table in tables.values():
        parts = [slice(None), *(table.label == place for place in range(len(table.labels)))]
        for groups in group_records(table).values():
            parts += [np.isin(table.record, members) for members in groups.values()]
        for part in parts:
            gold, said = table.gold[part], table.predicted[part]
            scores.append(precision_recall_fscore_support(gold, said, average="binary", zero_division=0))
    return scores


def draw_naively(tables: Mapping[str, Table], resamples: int) -> np.ndarray:
    """Micro-F1 of resamples that draw images one by one."""
    tally = join_tallies([tally_records(table) for table in tables.values()])
    _, owner = np.unique(np.array(tally.images), return_inverse=True)
    counts = np.stack(
        [np.bincount(owner, weights=tally.columns[name]) for name in ("tp", "fp", "fn")], axis=1
    )
    rng = np.random.default_rng(0)
    values = []
    for _ in range(resamples):
        tp, fp, fn = counts[rng.integers(0, len(counts), len(counts))].sum(axis=0)
        values.append(2 * tp / (2 * tp + fp + fn))
    return np.array(values)


def render_table(report: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    seconds, peak = report["seconds"], report["peak_mb"]
    lines = ["| what | CPU seconds | peak of the process, MB |", "|---|---|---|"]
    lines += [f"| {name} | {value:.2f} | {peak.get(name, '-')} |" for name, value in seconds.items()]
    lines += [
        "",
        f"- one score, resampled image by image / all intervals: "
        f"{report['ratio_naive_of_one_score_vs_intervals_of_all']:.1f}",
        f"- scikit-learn / score: {report['ratio_sklearn_vs_score']:.2f}",
        f"- half-width of micro_f1: {report['half_width']:.5f}, "
        f"image by image {report['half_width_naive']:.5f}",
    ]
    return "\n".join(lines)


def _read(data: Path, predictions: Path) -> tuple[tuple[Example, ...], tuple[Prediction, ...]]:
    dataset = open_data(DataOptions(str(data), on_bad="error"), SilentReporter())
    return dataset.examples, read_predictions(predictions)


def _time(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    value = work()
    return time.process_time() - start, value


def _read_peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--naive", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = measure(options.records, options.rounds, options.naive)
    print(render_table(report))
    if options.json:
        report = {"command": " ".join(["python benchmarks/evaluate.py", *sys.argv[1:]]), **report}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
