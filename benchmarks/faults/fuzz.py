"""Every reader of hkd against damaged and invented inputs, by two engines, with limits on time and memory.

    python benchmarks/faults/fuzz.py --seconds 60 --json benchmarks/fuzz.json

hypothesis damages valid inputs by structure: cuts, swaps, flipped bytes, repeated pieces, other JSON values,
big numbers, deep nesting. atheris (`pip install atheris`; left out where it is not installed) is led by the
coverage of hkd's own code. Each target and engine has a process of its own. An escape is anything that a
reader raises beside the errors of its contract, a promise that does not hold, an input that takes more than 5
CPU seconds, more than 1 GiB of address space, or the process. The smallest input of each kind of escape is
kept in --keep, reduced; `--replay TARGET FILE` reads one such input and shows what comes out. The exit code
is 1 where something escaped.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
ENGINES = ("hypothesis", "atheris")
MOST_DEATHS = 5
STARTUP_S = 120.0  # for the imports and valid inputs of a child


def run_target(module: str, name: str, engine: str, seconds: float, keep: Path) -> dict[str, Any]:
    """Try one target with one engine, again from where a process died.

    Args:
        module: that has it, so that no other is imported.
        name: of the target.
        engine: one of ENGINES.
        seconds: of trying.
        keep: folder for the inputs that escaped.

    Returns:
        The row of the table.
    """
    row: dict[str, Any] = {"target": name, "engine": engine, "inputs": 0, "outcomes": Counter()}
    row |= {"slowest_s": 0.0, "memory_mib": 0.0}
    escapes: dict[str, bytes] = {}
    end, deaths = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 0 and deaths < MOST_DEATHS:
        with tempfile.TemporaryDirectory(dir=_choose_memory()) as folder:
            code = _run_child((module, name, engine), left, deaths, Path(folder))
            _add(row, escapes, Path(folder))
            if code == 0:
                break
            deaths += 1
            died = (Path(folder) / "current").read_bytes() if (Path(folder) / "current").exists() else b""
            escapes[f"the process ended with {code}"] = died
            row["outcomes"]["escaped"] += 1
            print((Path(folder) / "log").read_text(errors="replace")[-2000:], file=sys.stderr, flush=True)
    row["inputs"] = sum(row["outcomes"].values())
    row["escapes"] = sorted(escapes)
    _keep(name, escapes, keep)
    return row


def _run_child(which: tuple[str, str, str], seconds: float, seed: int, folder: Path) -> int:
    """One process; gives its exit code, negative for a signal."""
    options = [*which, f"{seconds:.1f}", str(seed), str(folder)]
    command = [sys.executable, str(HERE / "fuzz_engines.py"), *options]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            code = child.wait(seconds + 2 * STARTUP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
    if code and not (folder / "result.json").exists():
        raise SystemExit(f"{which}: did not start\n{(folder / 'log').read_text(errors='replace')[-3000:]}")
    return code


def _add(row: dict[str, Any], escapes: dict[str, bytes], folder: Path) -> None:
    found = json.loads((folder / "result.json").read_bytes())
    row["outcomes"].update(found["outcomes"])
    row["slowest_s"] = max(row["slowest_s"], found["slowest_s"])
    row["memory_mib"] = max(row["memory_mib"], found["memory_mib"])
    for kind, data in found["escapes"].items():
        escapes[kind] = bytes.fromhex(data)
    row["slowest_input_bytes"] = len(found["slowest"]) // 2


def _keep(name: str, escapes: Mapping[str, bytes], folder: Path) -> None:
    for place, (kind, data) in enumerate(sorted(escapes.items())):
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{name.replace(' ', '-')}-{kind.split(' ')[0].replace('/', '-')}-{place}"
        (folder / f"{stem}.input").write_bytes(data)
        print(f"  escaped: {name}: {kind}: {folder / stem}.input", flush=True)


def _choose_memory() -> str | None:
    """A file system in memory where there is one: inputs become files."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def render_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures as Markdown, one row a target and engine, and their sum."""
    lines = [
        "| target | engine | inputs | read to the end | kinds of escapes | slowest, CPU s | memory, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['target']} | {row['engine']} | {row['inputs']:,} | {row['outcomes'].get('read', 0):,} | "
            f"{len(row['escapes'])} | {row['slowest_s']:.2f} | {row['memory_mib']:.0f} |"
        )
    total, escapes = sum(row["inputs"] for row in rows), sum(len(row["escapes"]) for row in rows)
    lines.append(f"| all | | {total:,} | | {escapes} | {max(row['slowest_s'] for row in rows):.2f} | |")
    return "\n".join(lines)


def replay(name: str, path: Path) -> None:
    """Read one input; what escapes comes with its traceback."""
    from fuzz_targets import collect_targets, run_input

    with tempfile.TemporaryDirectory() as folder:
        print(run_input(collect_targets()[name], path.read_bytes(), Path(folder)) or "read to its end")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target and engine")
    parser.add_argument("--engine", choices=ENGINES, help="one alone; default: each that is installed")
    parser.add_argument("--target", nargs="+", help="these alone")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-escapes"), help="where escapes go")
    parser.add_argument("--replay", nargs=2, metavar=("TARGET", "FILE"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.replay:
        replay(options.replay[0], Path(options.replay[1]))
        return
    from distill_step import describe_machine
    from fuzz_targets import collect_targets

    known = {name: target.read.__module__ for name, target in collect_targets().items()}
    if unknown := set(options.target or ()) - set(known):
        parser.error(f"no target {sorted(unknown)[0]!r}; there are: {', '.join(known)}")
    installed = [each for each in ENGINES if importlib.util.find_spec(each)]
    engines = [options.engine] if options.engine else installed
    rows: list[dict[str, Any]] = []
    for name, engine in itertools.product(options.target or known, engines):
        rows.append(run_target(known[name], name, engine, options.seconds, options.keep))
        if options.json:  # after each, for a campaign is long
            command = " ".join(["python benchmarks/faults/fuzz.py", *sys.argv[1:]])
            report = {"command": command, "machine": describe_machine(), "seconds": options.seconds}
            options.json.write_text(json.dumps({**report, "rows": rows}, indent=2) + "\n")
    print(render_table(rows))
    sys.exit(any(row["escapes"] for row in rows))


if __name__ == "__main__":
    main()
