"""Commands killed again and again, each then resumed: is what they leave what nobody interrupted leaves?

    python benchmarks/faults/kill.py --kills 220 --json benchmarks/kill.json

Every command of `kill_jobs.py` runs twice to its end first; what both runs agree on, file names and bytes,
is what an interrupted one must leave. Then a folder is begun, its process is killed (SIGKILL) after a
random part of the time that a whole run takes, begun again with `--resume`, killed again, until one life
reaches its end before its kill; then the files are compared, and the next folder is begun. No process may
outlive a command.

Three more faults, each made at a random place and then resumed in the same way: no file may grow beyond so
many bytes, as on a full disk; the output folder is read-only; a second process is given the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}

sys.path.insert(0, str(Path(__file__).parents[1]))
from campaign import Campaign
from distill_step import describe_machine
from kill_jobs import Job, write_jobs
from other_faults import FAULTS


def run_campaign(job: Job, folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill one job so many times, and make the other faults; the figures."""
    campaign = Campaign(job, folder / job.name.replace(" ", ""), random.Random(f"{seed} {job.name}"))
    campaign.run_whole()
    number = 0
    while campaign.kills < kills:
        number += 1
        campaign.kill_until_done(campaign.make_folder(f"killed-{number}"), kills - campaign.kills)
        print(f"{job.name}: {campaign.kills} of {kills} kills, {campaign.compared} compared", file=sys.stderr)
    others = {name: fault(campaign) for name, fault in FAULTS.items()}
    return {
        "command": job.name,
        "whole_s": round(campaign.whole_s, 2),
        "files": len(campaign.stable),
        "files_equal_byte_for_byte": sum(found is not None for found in campaign.stable.values()),
        "kills": campaign.kills,
        "lives": campaign.lives,
        "folders_compared": campaign.compared,
        "others": others,
        "problems": campaign.problems,
        "last_written_when_killed": dict(campaign.moments.most_common()),
    }


def render(rows: list[dict[str, Any]]) -> str:
    """The figures as a table in Markdown."""
    names = ["kills", "folders_compared", "files", "files_equal_byte_for_byte", *FAULTS, "problems"]
    lines = ["| command | " + " | ".join(name.replace("_", " ") for name in names) + " |"]
    lines.append("|---|" + "---|" * len(names))
    for row in rows:
        known = {**row, **row["others"], "problems": len(row["problems"])}
        lines.append(f"| `{row['command']}` | " + " | ".join(str(known[name]) for name in names) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the campaign, print the table, and exit 1 where anything was lost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=220, help="in all, shared out among the commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one command alone; its row replaces the one in --json")
    parser.add_argument("--json", type=Path, help="where the figures go, after each command")
    options = parser.parse_args()
    load_everything()
    with tempfile.TemporaryDirectory() as name:
        jobs = write_jobs(Path(name))
        each = -(-options.kills // len(jobs))
        rows = read_rows(options.json, jobs)
        for job in [jobs[options.only]] if options.only else jobs.values():
            rows[job.name] = run_campaign(job, Path(name), each, options.seed)
            if options.json:
                document = {"machine": describe_machine(), "seed": options.seed, "rows": list(rows.values())}
                options.json.write_text(json.dumps(document, indent=1) + "\n")
    print(render(list(rows.values())))
    problems = [problem for row in rows.values() for problem in row["problems"]]
    print("\n".join(problems), file=sys.stderr)
    sys.exit(1 if problems else 0)


def read_rows(path: Path | None, jobs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What earlier calls found, by command, in the order of the jobs."""
    found = json.loads(path.read_text())["rows"] if path and path.exists() else []
    by_name = {row["command"]: row for row in found}
    return {name: by_name[name] for name in jobs if name in by_name}


def load_everything() -> None:
    """Import what the commands import, once for all the copies of this process."""
    import torch

    torch.set_num_threads(1)
    from hkdcli.distill import online, refine  # noqa: F401
    from hkdcli.models.adapters import attach_lora
    from hkdcli.models.loading import load_model
    from hkdcli.scenes.pretrained import model_folder

    # transformers imports the classes of a model, and peft layers of adapters, when they are first used.
    attach_lora(load_model(model_folder("small")).model, rank=1, alpha=1)


if __name__ == "__main__":
    main()
