"""What each way of asking and answering is worth to one model: shifts, letter prior, calibration, decoding.

python benchmarks/asking.py --out benchmarks/asking.json

Everything that is fitted is fitted on the dev split; the figures are of the test split.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from hkdcli import engine
from hkdcli.inferring import InferOptions
from hkdcli.opening import DataOptions
from hkdcli.predicting import Output

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "plain, expected-f1": {"decoding": "expected-f1"},
    "plain, calibrated": {"is_calibrated": True},
    "2 shifts": {"shifts": 2},
    "all shifts": {"shifts": None},
    "all shifts, arithmetic": {"shifts": None, "combination": "arithmetic"},
    "all shifts, calibrated": {"shifts": None, "is_calibrated": True},
    "letter prior": {"debias": "prior", "is_calibrated": True, "decoding": "map"},
}
FIGURES = ("micro_f1", "hallucinated_f1", "exact_match", "ece", "brier", "aurc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="scenes:large-tuned")
    parser.add_argument("--dev", default="scenes:dev")
    parser.add_argument("--test", default="scenes:test")
    parser.add_argument("--limit", type=int, help="only the first so many records of each")
    parser.add_argument("--out", type=Path, help="JSON to write")
    given = parser.parse_args()
    rows = [measure(name, way, given) for name, way in WAYS.items()]
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    if given.out:
        given.out.write_text(json.dumps({"model": given.model, "rows": rows}, indent=1) + "\n")


def measure(name: str, way: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "calibration.json"
        options = InferOptions(**{"is_calibrated": False, **way})
        if options.is_calibrated:
            options = InferOptions(**way, calibration=place)
            engine.calibrate(given.model, DataOptions(given.dev, limit=given.limit), options)
        predictions, data = Path(folder) / "p.jsonl", DataOptions(given.test, limit=given.limit)
        started_s = time.process_time()
        engine.infer(given.model, data, options, output=Output(predictions))
        spent_s = time.process_time() - started_s
        metrics = engine.evaluate(predictions, data).document
    figures = {figure: metrics["metrics"][figure] for figure in FIGURES}
    tasks = {f"{task}_micro_f1": found["metrics"]["micro_f1"] for task, found in metrics["tasks"].items()}
    return {"way": name, **figures, **tasks, "cpu_s": round(spent_s, 1)}


if __name__ == "__main__":
    main()
