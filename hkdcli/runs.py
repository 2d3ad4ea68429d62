"""The run folder: who may write it, and what it says about itself.

runs/<name>/  recipe.resolved.yaml  manifest.json  log.jsonl  student/
  levels/1-medium/checkpoints/  step-000200/{..., MANIFEST.json}  LATEST
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from hkdcli import __version__
from hkdcli.atomic import disk_errors, read_object, write_atomic, write_json
from hkdcli.checkpoints import find_latest_checkpoint, publish_checkpoint
from hkdcli.differences import render_differences
from hkdcli.errors import UsageError
from hkdcli.locks import hold_lock
from hkdcli.masking import mask_secrets
from hkdcli.ranks import find_place, share

__all__ = [
    "Facts",
    "RunFolder",
    "check_output",
    "check_unchanged",
    "find_latest_checkpoint",
    "open_run",
    "publish_checkpoint",
    "write_atomic",
    "write_json",
]

SIGNALS = "signals"  # what upper models said: costly, so it stays with --overwrite where its key still fits
# What a run writes, and all that --overwrite removes; the manifest last, for it makes the folder a run's.
OWN_ENTRIES = (
    "log.jsonl",
    "tensorboard",
    "levels",
    "student",
    "eval",
    "recipe.resolved.yaml",
    "manifest.json",
)
_LOCK = ".lock"
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "tokenizers",
    "safetensors",
    "pillow",
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a run depends on; a run is resumed only with the same.

    Attributes:
        recipe: The resolved recipe as plain values.
        recipe_text: The same as YAML, for recipe.resolved.yaml.
        data: A content hash for every split.
        command: What was typed.
        models: The commit of every hub id in the recipe; a resume goes on with these.
    """

    recipe: Mapping[str, Any]
    recipe_text: str
    data: Mapping[str, str]
    command: str
    models: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run folder that this process holds; `overwritten`: there was another run, which it replaces."""

    path: Path
    resumed: bool
    overwritten: bool = False

    @property
    def student(self) -> Path:
        """The distilled base, ready to infer."""
        return self.path / "student"

    @property
    def signals(self) -> Path:
        """Where stored signals are, unless the recipe names another place."""
        return self.path / SIGNALS

    def level(self, place: int, name: str) -> Path:
        """The folder of one level of the pyramid, made if absent."""
        folder = self.path / "levels" / f"{place}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@contextmanager
def open_run(
    path: Path, facts: Facts, *, resume: bool = False, overwrite: bool = False
) -> Iterator[RunFolder]:
    """Open a run folder for writing and hold its lock; of several processes the main one does so for all.

    Args:
        path: The folder; made if absent.
        facts: What the run depends on.
        resume: Go on with what is there; refused when the facts have changed.
        overwrite: Remove what an earlier run left, and only that.

    Yields:
        RunFolder: The folder, with recipe.resolved.yaml and manifest.json in place.

    Raises:
        UsageError: The folder is not empty and neither option was given, is no run folder, is in use by
            another process, or was begun with other facts.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other", hint="Give one of them.")
    if not find_place().is_main:
        yield RunFolder(path, *share((False, False)))
        return
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    with hold_lock(path / _LOCK):
        manifest = read_manifest(path)
        if manifest is None:
            _check_unused(path)
        elif resume:
            check_unchanged(path, manifest, facts)
        elif overwrite:
            _clear(path)
        else:
            hint = "Give --resume to go on, --overwrite to start anew, or another --out."
            raise UsageError(f"{path}: holds a run already", hint=hint)
        _remove_half_written(path)
        resumed, overwritten = (wanted and manifest is not None for wanted in (resume, overwrite))
        if not resumed:
            write_atomic(path / "recipe.resolved.yaml", mask_secrets(facts.recipe_text).encode())
            write_json(path / "manifest.json", _build_manifest(facts))
        yield RunFolder(path, *share((resumed, overwritten)))


def _remove_half_written(path: Path) -> None:
    """Remove files that a kill caught in `write_atomic`; in stores of signals others may be at work."""
    name = ".*.[0-9]*.tmp"
    below = (found for place in ("levels", "student", "eval") for found in (path / place).rglob(name))
    for leftover in (*path.glob(name), *below):
        leftover.unlink(missing_ok=True)


def check_unchanged(path: Path, manifest: Mapping[str, Any], facts: Facts) -> None:
    """Check that a run goes on with the recipe and the data it was begun with.

    Args:
        path: The run folder.
        manifest: Its manifest.
        facts: What the run would depend on now.

    Raises:
        UsageError: Something differs; the message lists every difference.
    """
    before = {"recipe": manifest.get("recipe"), "data": manifest.get("data")}
    now = json.loads(mask_secrets(json.dumps({"recipe": facts.recipe, "data": facts.data})))
    if lines := render_differences(before, now):
        raise UsageError(
            "\n".join([f"{path}: cannot be resumed, because these have changed since it was begun", *lines]),
            hint="Undo the changes, or start anew with --overwrite or another --out.",
        )


def check_output(
    path: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    resumable: bool = True,
    inputs: Iterable[Path] = (),
) -> None:
    """Check that an output file may be written: absent, or --resume or --overwrite was given.

    Args:
        path: The file; its folder is made.
        resume: Go on with what is there.
        overwrite: Replace what is there.
        resumable: Whether the command has a --resume to be told of.
        inputs: What is read meanwhile; none of it may be the file.

    Raises:
        UsageError: The file exists and neither was given, both were given, it is no regular file, or it is
            one of the inputs.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other", hint="Give one of them.")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        exists = path.exists()
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; give the path of a file")
    if exists and not path.is_file():
        raise UsageError(f"{path}: is a device or a pipe; give the path of a file")
    if exists and any(each.exists() and path.samefile(each) for each in inputs):
        raise UsageError(f"{path}: is read by this command, and would be lost", hint="Give another --out.")
    if exists and not (resume or overwrite):
        ways = "--resume to go on, or --overwrite to start anew" if resumable else "--overwrite to replace it"
        raise UsageError(f"{path}: exists already", hint=f"Give {ways}.")


# The manifest


def _build_manifest(facts: Facts) -> dict[str, Any]:
    manifest = {
        "run_id": uuid.uuid4().hex,
        "command": facts.command,
        "versions": _collect_versions(),
        "data": dict(facts.data),
        "models": dict(facts.models),
        "recipe": dict(facts.recipe),
    }
    return dict(json.loads(mask_secrets(json.dumps(manifest))))


def _collect_versions() -> dict[str, str]:
    versions = {"hkd": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Read the manifest of a run folder; null where there is none, or no whole one."""
    return read_object(path / "manifest.json")


def _check_unused(path: Path) -> None:
    """Refuse a folder that holds what no run wrote.

    The first traces of a killed run do not count, nor do signals that were stored before the run.
    """
    names = sorted(entry.name for entry in path.iterdir())
    traces = {_LOCK, "recipe.resolved.yaml", SIGNALS}
    foreign = [name for name in names if name not in traces and not re.fullmatch(r"\..*\.tmp", name)]
    if foreign:
        raise UsageError(
            f"{path}: not empty, and no run folder (it has {', '.join(foreign[:3])})",
            hint="Give another --out.",
        )


def _clear(path: Path) -> None:
    for name in OWN_ENTRIES:
        entry = path / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
