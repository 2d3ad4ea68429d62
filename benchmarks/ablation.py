"""What does each part of the method add? Every arm on drawn scenes, both tasks, three seeds.

    python benchmarks/ablation.py --json docs/results/ablation.json --write docs/results/ablation.md

Each seed draws its own training records and order. All arms of a seed share them, the pretrained weights, and
the dev records by whose evaluations each arm's best weights are chosen. The test records are looked at once
an arm, in one order of the choices and in all (`--shift`). Arms whose figures the JSON file has already, from
the same settings, are not trained again; a run that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ablation_arms import Arm, build_chains

ONLINE_STEPS, REFINE_STEPS = 600, 400
# Steps at which an arm has cost as many CPU seconds as "online, short" and "online, refine" together.
COMPUTE: Mapping[str, int] = {
    "labels, as dear": 3000,
    "medium, labels, as dear": 1300,
    "large, labels, as dear": 500,
    "labels, variants, as dear": 2300,
    "online, as dear": 800,
    "online, variants, as dear": 750,
}
TEST = 1000
BATCH_SIZE = 50

Row = dict[str, Any]


def main() -> None:
    options = parse_options()
    chains = build_chains(ONLINE_STEPS, REFINE_STEPS, COMPUTE)
    rows = read_rows(options.json, options.out)
    write_rows(rows, options.json)
    jobs = [(seed, chain) for chain in chains for seed in options.seeds]
    jobs = [(seed, chain) for seed, chain in jobs if options.only in (None, *(arm.name for arm in chain))]
    # torch reads this when a process starts: one thread each.
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        work = partial(run_chain, out=options.out, known=rows)
        for done in as_completed([pool.submit(work, seed, chain) for seed, chain in jobs]):
            new = {key(row): row for row in done.result()}
            rows = [row for row in rows if key(row) not in new] + list(new.values())
            write_rows(rows, options.json)
    if options.write:
        from ablation_page import write_page

        write_page(rows, options.write)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="where the runs go")
    parser.add_argument("--json", type=Path, required=True, help="where the figures are and go")
    parser.add_argument("--write", type=Path, help="where the page and its plots go")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="arms that are trained side by side")
    parser.add_argument("--only", help="only the chain of this arm")
    return parser.parse_args()


def read_rows(path: Path, out: Path) -> list[Row]:
    """The figures that are there already, and those of arms that an interrupted run has finished."""
    rows = list(json.loads(path.read_text("utf-8"))["results"]) if path.exists() else []
    finished = [json.loads(each.read_text("utf-8")) for each in sorted(out.glob("*/*.json"))]
    return list({key(row): row for row in [*rows, *finished]}.values())


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write the figures, in an order that does not depend on which process was quicker."""
    arms = [arm.name for chain in build_chains(ONLINE_STEPS, REFINE_STEPS, COMPUTE) for arm in chain]
    rows = sorted(
        (row for row in rows if row["arm"] in arms), key=lambda row: (row["seed"], arms.index(row["arm"]))
    )
    document = {"online_steps": ONLINE_STEPS, "refine_steps": REFINE_STEPS, "test": TEST, "results": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def key(row: Row) -> tuple[int, str]:
    return row["seed"], row["arm"]


def run_chain(seed: int, chain: Sequence[Arm], *, out: Path, known: Sequence[Row]) -> list[Row]:
    """Train and score the arms of a chain, one after the other.

    Args:
        seed: of training records and order.
        chain: the arms.
        out: folder of all runs.
        known: rows that are there already; arms with the same settings are left alone.

    Returns:
        A row for each arm that was trained.
    """
    rows: list[Row] = []
    folders = {
        arm.name: out / str(seed) / arm.name.replace(", ", "-").replace(": ", "-").replace(" ", "-")
        for arm in chain
    }
    settings = {(row["seed"], row["arm"], row["settings"]) for row in known}
    wanted = [arm for arm in chain if (seed, arm.name, arm.hash_settings(seed)) not in settings]
    for arm in chain:
        # What is known is trained again only where an arm that is not known goes on from it.
        needed = any(f"<{arm.name}>" in change for each in wanted for change in each.changes)
        if arm in wanted or needed:
            seconds = train(arm, seed, folders)
        if arm in wanted:
            row = {
                "seed": seed,
                "arm": arm.name,
                "settings": arm.hash_settings(seed),
                "steps": arm.steps,
                "start": arm.start,
            }
            row |= {"cpu_seconds": seconds, **score(folders[arm.name])}
            folders[arm.name].with_suffix(".json").write_text(json.dumps(row), "utf-8")
            print(f"seed {seed}, {arm.name}: {row['plain']['micro_f1']:.3f}", flush=True)
            rows.append(row)
    return rows


def train(arm: Arm, seed: int, folders: Mapping[str, Path]) -> float | None:
    """Train an arm, or go on with it; returns its CPU seconds, None where another process began it."""
    from hkdcli.engine import distill_online, distill_refine

    command = {"online": distill_online, "refine": distill_refine}[arm.stage]
    folder = folders[arm.name]
    is_new, begin = not folder.exists(), time.process_time()
    command(arm.path, arm.list_changes(seed, folders), out=folder, resume=not is_new)
    return round(time.process_time() - begin, 1) if is_new else None


def score(run: Path) -> dict[str, dict[str, float | None]]:
    """What the student of a run reaches on the test records.

    Args:
        run: its folder.

    Returns:
        Scores of `plain` (one order of the choices), `shift` (every cyclic order) and `shift_hallucination`
        (every cyclic order of the choices of captions, verdicts as they stand: `--shift-task hallucination`).
    """
    from hkdcli.inference.asking import Asking, Judge
    from hkdcli.inference.scoring import Scorer
    from hkdcli.models.loading import load_model
    from hkdcli.scenes.source import load_scenes

    scorer, data = Scorer(load_model(str(run / "student"))), load_scenes("test", size=TEST)
    plain, shift = (_answer(Judge(scorer, Asking(shifts=count)), data) for count in (1, None))
    mixed = [
        other if example.task == "hallucination" else one
        for example, one, other in zip(data.examples, plain, shift, strict=True)
    ]
    ways = {"plain": plain, "shift": shift, "shift_hallucination": mixed}
    return {name: _score(answers, data) for name, answers in ways.items()}


def _answer(judge: Any, data: Any) -> list[Any]:
    from hkdcli.evaluation.predictions import Prediction
    from hkdcli.inference.predict import answer_examples
    from hkdcli.inference.rows import RunHashes

    answers = []
    for start in range(0, len(data.examples), BATCH_SIZE):
        asked = data.examples[start : start + BATCH_SIZE]
        rows = answer_examples(data, asked, judge, RunHashes("", {}))
        answers += [Prediction(row["id"], frozenset(row["prediction"] or ())) for row in rows]
    return answers


def _score(answers: Sequence[Any], data: Any) -> dict[str, float | None]:
    from hkdcli.evaluation.metrics import evaluate_predictions

    metrics = evaluate_predictions(answers, data.examples)
    tasks = {f"{task}_micro_f1": each.metrics["micro_f1"] for task, each in metrics.tasks.items()}
    names = ("micro_f1", "hallucinated_f1", "exact_match")
    return {**{name: metrics.metrics[name] for name in names}, **tasks}


if __name__ == "__main__":
    main()
