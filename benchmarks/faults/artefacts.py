"""What a command left, and whether an interrupted one left the same as those that nothing interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

OF_THE_MACHINE = ("seconds", "tokens_per_s", "peak_memory_gib")  # figures of a step that no two runs share


def read_artefacts(folder: Path) -> dict[str, str]:
    """A hash of every file below a folder, by name; of the log without figures of the machine.

    Files of TensorBoard are left out: each life of a run opens one of its own.
    """
    files = ((path.relative_to(folder), path) for path in folder.rglob("*") if path.is_file())
    return {name.as_posix(): _hash(path) for name, path in files if "tensorboard" not in name.parts[:-1]}


def find_stable(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str | None]:
    """What two uninterrupted runs agree on: every name, and the hash where both have the same.

    Raises:
        ValueError: they left files of different names.
    """
    if first.keys() != second.keys():
        raise ValueError(f"two uninterrupted runs differ in files: {sorted(first.keys() ^ second.keys())}")
    return {name: found if second[name] == found else None for name, found in first.items()}


def compare(stable: Mapping[str, str | None], found: Mapping[str, str]) -> list[str]:
    """How what was found differs from what uninterrupted runs agree on; empty where it does not."""
    absent = [f"{name} is missing" for name in stable.keys() - found.keys()]
    more = [f"{name} is left over" for name in found.keys() - stable.keys()]
    other = [
        f"{name} differs" for name, wanted in stable.items() if wanted and found.get(name, wanted) != wanted
    ]
    return sorted(absent + more + other)


def _hash(path: Path) -> str:
    data = path.read_bytes()
    if path.name == "log.jsonl":
        rows = [json.loads(line) for line in data.split(b"\n") if line]
        kept = [{key: value for key, value in row.items() if key not in OF_THE_MACHINE} for row in rows]
        data = json.dumps(kept).encode()
    return hashlib.sha256(data).hexdigest()
