"""The place of an export: free, or an earlier export that may go; and how the new one takes it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hkdcli.atomic import disk_errors, sync_folder
from hkdcli.checkpoints import publish_folder
from hkdcli.errors import UsageError
from hkdcli.locks import hold_lock


def check_place(out: Path, sources: Iterable[Path], *, card: str, overwrite: bool) -> None:
    """Check that a folder may be written: absent, or an earlier export that is to be replaced.

    Args:
        out: the folder.
        sources: folders that the export is made from.
        card: the file that every export has beside its seal.
        overwrite: replace what is there.

    Raises:
        UsageError: something is there and may not, or must not, go.
    """
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise UsageError(f"{out}: exists already", hint="Give another --out, or --overwrite to replace it.")
    if not out.is_dir() or out.is_symlink() or not _is_ours(out, card):
        raise UsageError(f"{out}: is no exported folder, so it is not replaced", hint="Give another --out.")
    if any(source.resolve().is_relative_to(out.resolve()) for source in sources):
        raise UsageError(f"{out}: the model comes from there itself", hint="Give another --out.")


@contextmanager
def hold_place(out: Path) -> Iterator[None]:
    """Keep other exports away from a place.

    Args:
        out: the folder to be; those above it are made if absent.

    Yields:
        None: While it is held.

    Raises:
        UsageError: it can be no folder, as the root of all.
    """
    if not out.name or out.name == "..":
        raise UsageError(f"{out}: is no place for a folder", hint="Give another --out.")
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(out.with_name(f".{out.name}.lock")):
        yield


def publish_export(out: Path, write: Callable[[Path], None]) -> None:
    """Write a folder aside, seal it, and put it in its place as a whole.

    A kill at any moment leaves the old folder there, the new one, or, between two renames, neither: then both
    are beside it, whole, under names that begin with a dot, and the next export clears them away.

    Args:
        out: where it appears; what is there is replaced.
        write: writes every file into the folder it is given; when it fails nothing is left of it.
    """
    new, old = out.with_name(f".new-{out.name}"), out.with_name(f".old-{out.name}")
    publish_folder(new, write)
    with disk_errors(out):
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
            out.rename(old)
        new.rename(out)
        sync_folder(out.parent)
        if old.exists():
            shutil.rmtree(old)


def _is_ours(folder: Path, card: str) -> bool:
    """Whether it is an earlier export, or empty."""
    names = {path.name for path in folder.iterdir()}
    return not names or {card, "MANIFEST.json"} <= names
