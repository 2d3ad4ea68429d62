"""Checkpoints that are whole or absent.

A checkpoint's MANIFEST.json is written last and names every file with its sha256: a checkpoint without it
does not exist. It also names its run, so that one run neither resumes from nor deletes what another left.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from hkdcli.atomic import disk_errors, read_object, sync_folder, write_atomic, write_json


def publish_checkpoint(
    folder: Path,
    step: int,
    write: Callable[[Path], None],
    *,
    keep: int | None = None,
    spare: Collection[int] = (),
) -> Path:
    """Write a checkpoint aside, then let it appear as a whole, then rotate.

    When writing fails, what was written of it is removed, and every other checkpoint stays as it was.

    Args:
        folder: The checkpoints of one level, inside a run folder.
        step: The optimizer step it was taken after.
        write: Writes every file of the checkpoint into the folder it is given.
        keep: How many of this run's checkpoints stay; null keeps all. Those of another run stay.
        spare: Steps whose checkpoints stay in any case.

    Returns:
        The checkpoint's folder.
    """
    run_id = find_run_id(folder)
    target = folder / f"step-{step:06d}"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".tmp-*"):
            shutil.rmtree(leftover)
        temporary = folder / f".tmp-{target.name}"
        _fill(temporary, write, {"step": step, "run_id": run_id})
        _make_way(target, run_id)
        temporary.rename(target)
        sync_folder(folder)
    write_atomic(folder / "LATEST", f"{target.name}\n".encode())
    if keep is not None:
        _rotate(folder, step, keep, spare)
    return target


def publish_folder(target: Path, write: Callable[[Path], None]) -> Path:
    """Write a folder aside, seal it with a MANIFEST.json, and let it appear as a whole.

    Args:
        target: Where it appears; what is there is replaced.
        write: Writes every file into the folder it is given.

    Returns:
        The target; `is_complete` tells later whether every file is as it was written.
    """
    temporary = target.with_name(f".tmp-{target.name}")
    with disk_errors(target):
        if temporary.exists():
            shutil.rmtree(temporary)
        _fill(temporary, write, {"run_id": find_run_id(target.parent)})
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
        sync_folder(target.parent)
    return target


def find_latest_checkpoint(folder: Path) -> Path | None:
    """Find the newest checkpoint of this run that is complete, with every file as it was written.

    Args:
        folder: The checkpoints of one level.

    Returns:
        The checkpoint's folder, or null where there is none.
    """
    run_id = find_run_id(folder)
    newest_first = sorted(_list_own(folder, run_id), key=lambda found: found[0], reverse=True)
    return next((path for _, path in newest_first if is_complete(path)), None)


def find_checkpoint(folder: Path, step: int) -> Path | None:
    """Find this run's checkpoint of a step, provided that it is complete.

    Args:
        folder: The checkpoints of one level.
        step: The optimizer step it was taken after.

    Returns:
        The checkpoint's folder, or null where there is none.
    """
    own = dict(_list_own(folder, find_run_id(folder)))
    return own[step] if step in own and is_complete(own[step]) else None


def count_checkpoints(folder: Path) -> int:
    """Count the checkpoints that this run has in a folder, whole or damaged.

    Args:
        folder: The checkpoints of one level.

    Returns:
        How many.
    """
    return len(_list_own(folder, find_run_id(folder)))


def is_complete(folder: Path) -> bool:
    """Whether a folder has its MANIFEST.json and every file in it has the sha256 written there.

    Args:
        folder: A checkpoint, or another folder sealed the same way.

    Returns:
        Whether it can be trusted.
    """
    manifest = _read_seal(folder)
    if manifest is None:
        return False
    try:
        return all(_hash_file(folder / name) == digest for name, digest in manifest["files"].items())
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return False


def find_run_id(folder: Path) -> str:
    """Find the id of the run that a folder lies in: that of the nearest manifest.json above it.

    Args:
        folder: Any folder, present or not.

    Returns:
        The id; empty outside of a run.
    """
    for parent in (folder, *folder.parents):
        manifest = read_object(parent / "manifest.json") or {}
        if "run_id" in manifest:
            return str(manifest["run_id"])
    return ""


def _fill(folder: Path, write: Callable[[Path], None], facts: dict[str, Any]) -> None:
    """Make a folder, write and seal it; when that fails, free the space that it took."""
    folder.mkdir(parents=True)
    try:
        write(folder)
        _seal(folder, facts)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _seal(folder: Path, facts: dict[str, Any]) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in names:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    files = {name: _hash_file(folder / name) for name in names}
    write_json(folder / "MANIFEST.json", {**facts, "files": files})


def _read_seal(folder: Path) -> dict[str, Any] | None:
    manifest = read_object(folder / "MANIFEST.json")
    return manifest if manifest is not None and isinstance(manifest.get("files"), dict) else None


def _list_own(folder: Path, run_id: str) -> list[tuple[int, Path]]:
    """The (step, folder) of every checkpoint that this run has published."""
    seals = [(path, _read_seal(path) or {}) for path in folder.glob("step-*")]
    own = [(path, seal.get("step")) for path, seal in seals if seal.get("run_id") == run_id]
    return [(step, path) for path, step in own if isinstance(step, int)]


def _make_way(target: Path, run_id: str) -> None:
    """Free the name of a checkpoint: an incomplete one of ours is removed, another run's set aside."""
    seal = _read_seal(target)
    if seal is not None and seal.get("run_id") != run_id:
        target.rename(target.with_name(f"{target.name}.other-run-{uuid.uuid4().hex[:8]}"))
    elif target.exists():
        shutil.rmtree(target)


def _rotate(folder: Path, newest: int, keep: int, spare: Collection[int]) -> None:
    """Delete all but the `keep` newest; one past `newest` is damaged, for the run did not go on from it."""
    own = sorted(_list_own(folder, find_run_id(folder)))
    kept = {*[step for step, _ in own if step <= newest][-keep:], *spare}
    for step, path in own:
        if step not in kept:
            (path / "MANIFEST.json").unlink()  # first: a half-deleted checkpoint must not look whole
            shutil.rmtree(path)


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
