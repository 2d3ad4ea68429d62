"""A dataset of variants on disk: written in order, finished by its last file, gone on with after any kill.

While it is written, its files have other names (`records.partial.jsonl`), and `unfinished.json` holds the
settings. Rows go to the disk before the lines of the manifest that speak of them, so the manifest never says
more than is there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from hkdcli.atomic import disk_errors, read_object, write_json
from hkdcli.augment.making import IMAGES, NAME_DIGITS, Line
from hkdcli.augment.tally import Tally
from hkdcli.differences import render_differences
from hkdcli.errors import DataError, UsageError
from hkdcli.locks import hold_lock

RECORDS, MANIFEST, SUMMARY, UNFINISHED = "records", "manifest", "augment.json", "unfinished.json"
_LOCK = ".lock"
_OWN = re.compile(
    r"(records|manifest)(\.partial)?\.jsonl|augment\.json|unfinished\.json|images|\.lock|\..*\.tmp"
)
_PICTURE = re.compile(rf"[0-9a-f]{{{NAME_DIGITS}}}\.\w{{3,4}}|\..*\.tmp")


class VariantWriter:
    """Appends records and their variants; `done` records are on the disk already."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], copies: Sequence[int]) -> None:
        self.folder, self.settings, self.copies = folder, settings, copies
        self.tally, self.done = Tally(), 0
        with disk_errors(folder):
            self._files = {name: _locate(folder, name).open("a+b") for name in (RECORDS, MANIFEST)}
            try:
                self._go_on()
            except BaseException:
                self.close()
                raise

    def append(self, lines: Sequence[Line]) -> None:
        """Append all lines of some records, in the order of the records."""
        with disk_errors(self.folder):
            self._write(RECORDS, [line.row for line in lines if line.row is not None])
            self._write(MANIFEST, [line.entry for line in lines])
        for line in lines:
            self.tally.add(line.entry)
            self.done += line.entry["copy"] == 0

    def finish(self) -> dict[str, Any]:
        """Give the files their names and write the summary, which makes the dataset a finished one."""
        self.close()
        summary = {"settings": dict(self.settings), "counts": self.tally.to_json()}
        with disk_errors(self.folder):
            for name in (RECORDS, MANIFEST):
                _locate(self.folder, name).replace(self.folder / f"{name}.jsonl")
            write_json(self.folder / SUMMARY, summary)
            (self.folder / UNFINISHED).unlink(missing_ok=True)
        return summary

    def close(self) -> None:
        """Close the files; all of them, even where a full disk does not take what one still holds."""
        with disk_errors(self.folder), ExitStack() as closing:
            for file in self._files.values():
                closing.callback(file.close)

    def _write(self, name: str, values: Sequence[Mapping[str, Any]]) -> None:
        file = self._files[name]
        file.write(b"".join(_render(value) for value in values))
        file.flush()
        os.fsync(file.fileno())

    def _go_on(self) -> None:
        """Count what whole records are there, and cut off what was only begun."""
        entries = list(_read_entries(self._files[MANIFEST], self.folder))
        rows = _measure_lines(self._files[RECORDS])
        kept = written = 0
        while self.done < len(self.copies):
            own = entries[kept : kept + 1 + self.copies[self.done]]
            more = sum(entry["written"] for entry, _ in own)
            if len(own) < 1 + self.copies[self.done] or written + more > len(rows):
                break
            kept, written, self.done = kept + len(own), written + more, self.done + 1
        self._files[MANIFEST].truncate(entries[kept - 1][1] if kept else 0)
        self._files[RECORDS].truncate(rows[written - 1] if written else 0)
        for entry, _ in entries[:kept]:
            self.tally.add(entry)


@contextmanager
def open_writer(
    folder: Path,
    settings: Mapping[str, Any],
    copies: Sequence[int],
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[VariantWriter]:
    """Open a folder for a dataset of variants, and keep other processes away.

    Args:
        folder: made if absent.
        settings: all that decides what is written, as JSON holds it.
        copies: how many variants of each record.
        resume: go on with what is there; a finished dataset stays as it is.
        overwrite: remove an earlier dataset of variants, and only that.

    Yields:
        VariantWriter: While the folder is held.

    Raises:
        UsageError: There is something that neither option speaks of, no dataset of variants, or one that was
            made with other settings.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other", hint="Give one of them.")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder / _LOCK):
        before = _read_settings(folder)
        _check_own(folder, is_dataset=before is not None)
        if before is not None and not (resume or overwrite):
            hint = "Give --resume to go on, --overwrite to start anew, or another --out."
            raise UsageError(f"{folder}: holds a dataset of variants already", hint=hint)
        if before is not None and resume:
            _check_unchanged(folder, before, settings)
            for leftover in (folder / IMAGES).glob(".*.tmp"):
                leftover.unlink()
        else:
            _clear(folder)
            with disk_errors(folder):
                (folder / IMAGES).mkdir(exist_ok=True)
            write_json(folder / UNFINISHED, dict(settings))
        writer = VariantWriter(folder, settings, copies)
        try:
            yield writer
        finally:
            writer.close()


def _locate(folder: Path, name: str) -> Path:
    """Where a file is: under its own name once the dataset is finished, or nearly so."""
    finished = folder / f"{name}.jsonl"
    return finished if finished.exists() else folder / f"{name}.partial.jsonl"


def _read_settings(folder: Path) -> dict[str, Any] | None:
    """The settings that a dataset in this folder was begun with; None where there is none."""
    summary = read_object(folder / SUMMARY) or {}
    for found in (read_object(folder / UNFINISHED), summary.get("settings")):
        if isinstance(found, dict):
            return found
    return None


def _check_own(folder: Path, *, is_dataset: bool) -> None:
    """Refuse a folder that holds anything else: nothing of it would be safe."""
    names = sorted(entry.name for entry in folder.iterdir())
    own = _OWN if is_dataset else re.compile(r"\.lock|\..*\.tmp|images")
    picture = _PICTURE if is_dataset else re.compile(r"\..*\.tmp")
    foreign = [name for name in names if not own.fullmatch(name)]
    images = folder / IMAGES
    if not foreign and images.is_dir():
        others = (entry.name for entry in images.iterdir() if not picture.fullmatch(entry.name))
        foreign = [f"{IMAGES}/{name}" for name in sorted(others)]
    if foreign:
        raise UsageError(
            f"{folder}: not empty, and not a dataset of variants alone (it has {', '.join(foreign[:3])})",
            hint="Give another --out.",
        )


def _check_unchanged(folder: Path, before: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    if lines := render_differences(before, json.loads(json.dumps(settings))):
        raise UsageError(
            "\n".join([f"{folder}: cannot be gone on with, because these have changed", *lines]),
            hint="Undo the changes, or start anew with --overwrite or another --out.",
        )


def _clear(folder: Path) -> None:
    """Remove what an earlier dataset left, its settings last: they tell whose the rest is."""
    images = folder / IMAGES
    for entry in images.iterdir() if images.is_dir() else ():
        entry.unlink()
    for name in (RECORDS, MANIFEST):
        (folder / f"{name}.partial.jsonl").unlink(missing_ok=True)
        (folder / f"{name}.jsonl").unlink(missing_ok=True)
    (folder / SUMMARY).unlink(missing_ok=True)
    (folder / UNFINISHED).unlink(missing_ok=True)


def _render(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _read_entries(file: IO[bytes], folder: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Whole lines of the manifest, each with the byte after it; one that was cut off does not count."""
    file.seek(0)
    end = 0
    for number, line in enumerate(file, start=1):
        if not line.endswith(b"\n"):
            return
        end += len(line)
        if (entry := _parse_entry(line)) is None:
            raise DataError(
                f"{folder}: line {number} of its manifest is damaged", hint="Start anew with --overwrite."
            )
        yield entry, end


def _parse_entry(line: bytes) -> dict[str, Any] | None:
    """A line of the manifest, None where it does not say what is counted of it."""
    kinds = {"copy": int, "written": bool, "task": str, "class": str | None, "applied": dict, "refused": dict}
    try:
        entry = json.loads(line)
        known = all(isinstance(entry[name], kind) for name, kind in kinds.items())
        return entry if known and all(isinstance(why, str) for why in entry["refused"].values()) else None
    except (ValueError, RecursionError, LookupError, TypeError):
        return None


def _measure_lines(file: IO[bytes]) -> list[int]:
    """The byte after each whole line."""
    file.seek(0)
    ends, end = [], 0
    for line in file:
        end += len(line)
        if line.endswith(b"\n"):
            ends.append(end)
    return ends
