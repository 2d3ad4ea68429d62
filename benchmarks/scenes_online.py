"""Is a student better for its teacher? The same student, data, order and steps with and without it.

    python benchmarks/scenes_online.py --out runs/scenes-online --json benchmarks/scenes_online.json

Each seed draws its own training records and order. Both arms end with the weights of their best evaluation on
the same dev records; the test records are looked at once, at the end. `direct` learns from labels alone
(lambda 0), `distilled` from labels and teacher; `teacher` is what teaches. A run that was interrupted goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scene_table import render_table

from hkdcli.engine import distill_online

RECIPE = Path(__file__).parents[1] / "recipes" / "scenes" / "online.yaml"
ARMS: dict[str, tuple[str, ...]] = {
    "direct": ("distill.lambda.start=0",),
    "distilled": (),
    "teacher alone": ("distill.lambda.start=1",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/scenes-online"), help="where the runs go")
    parser.add_argument("--json", type=Path, help="where the figures go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--records", type=int, nargs="+", default=[2000], help="records to learn from")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to the recipe")
    options = parser.parse_args()
    results = []
    for records in options.records:
        for seed in options.seeds:
            for arm in ARMS:
                scores = run_arm(arm, seed, records, options.overrides, options.out)
                results.append({"records": records, "seed": seed, "arm": arm, **scores["small"]})
                print(f"{records} records, seed {seed}, {arm}: {scores['small']['micro_f1']:.3f}", flush=True)
        results += [
            {"records": records, "arm": name, **scores[name]} for name in ("constant answer", "large")
        ]
        rows = [row for row in results if row["records"] == records]
        print(f"\n{records} labelled records\n{render_table(rows, baseline='direct')}", flush=True)
    if options.json:
        document = {"recipe": RECIPE.name, "overrides": options.overrides, "results": results}
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def run_arm(
    arm: str, seed: int, records: int, overrides: Sequence[str], out: Path
) -> dict[str, Mapping[str, Any]]:
    """Train and score one arm; returns the scores of each level by its name."""
    folder = out / f"{records}-{seed}-{arm.replace(' ', '-')}"
    changes = (f"seed={seed}", f"data.train.scenes.seed={seed}", f"data.train.scenes.size={records}")
    outcome = distill_online(RECIPE, (*changes, *ARMS[arm], *overrides), out=folder, resume=folder.exists())
    return {row["level"]: row for row in outcome.document["scores"]}


if __name__ == "__main__":
    main()
