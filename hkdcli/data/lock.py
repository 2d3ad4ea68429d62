"""A lock on data: the hashes of records and image files, so that silent rot is noticed.

Damage that still decodes (40 random bytes in a JPEG) shows in no decoder; only a hash taken while the
file was whole finds it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hkdcli.atomic import write_json
from hkdcli.data.datasets import Dataset, hash_examples
from hkdcli.data.images import ImageError
from hkdcli.errors import BadRow, DataError

LOCK_VERSION = 1


@runtime_checkable
class FileSource(Protocol):
    """An image source whose images are files; scenes are drawn and have nothing to lock."""

    def read_bytes(self, name: str) -> bytes:
        """Read the file of one image; raises ImageError."""


def write_data_lock(dataset: Dataset, path: Path) -> None:
    """Write the hash of the records, and the sha256 of every image file.

    Args:
        dataset: What to lock.
        path: Where to, for example `data.lock`.

    Raises:
        DataError: An image cannot be read; nothing is written then.
    """
    images, rows = _hash_images(dataset)
    if rows:
        raise DataError(
            f"{dataset.name}: cannot be locked",
            rows,
            hint="Put these images right first: a lock is of data that are whole.",
        )
    records = hash_examples(dataset.examples)
    write_json(path, {"version": LOCK_VERSION, "records": records, "images": images})


def verify_data_lock(dataset: Dataset, path: Path) -> None:
    """Compare a dataset with its lock.

    Args:
        dataset: What to check.
        path: What `write_data_lock` wrote.

    Raises:
        DataError: With one row per difference: `data.lock_mismatch` (content changed),
            `data.not_locked` (an image that the lock does not know), or the image's own code.
    """
    locked = _read_lock(path)
    images, rows = _hash_images(dataset)
    if hash_examples(dataset.examples) != locked["records"]:
        rows.append(BadRow("data.lock_mismatch", "", dataset.name, "the records are not the locked ones"))
    for name, digest in images.items():
        known = locked["images"].get(name)
        if known is None:
            rows.append(BadRow("data.not_locked", "", name, f"not in {path.name}"))
        elif known != digest:
            rows.append(BadRow("data.lock_mismatch", "", name, "the file's bytes have changed"))
    if rows:
        raise DataError(
            f"{dataset.name}: differs from {path.name}",
            rows,
            hint="Bring the files back as they were; if the change was meant, lock the data anew.",
        )


def _hash_images(dataset: Dataset) -> tuple[dict[str, str], list[BadRow]]:
    hashes: dict[str, str] = {}
    rows: list[BadRow] = []
    if isinstance(dataset.images, FileSource):
        first_ids = {example.image: example.id for example in reversed(dataset.examples)}
        for name in dict.fromkeys(example.image for example in dataset.examples):
            try:
                hashes[name] = hashlib.sha256(dataset.images.read_bytes(name)).hexdigest()
            except ImageError as error:
                rows.append(replace(error.row, id=first_ids[name]))
    return hashes, rows


def _read_lock(path: Path) -> dict[str, Any]:
    try:
        lock = json.loads(path.read_bytes())
        if lock["version"] == LOCK_VERSION and isinstance(lock["images"], dict) and lock["records"]:
            return lock
        detail = "not a lock of this version"
    except OSError as error:
        detail = error.strerror or "cannot be read"
    except (ValueError, KeyError, TypeError, RecursionError):
        detail = "not a data lock"
    raise DataError(
        "the lock cannot be used",
        [BadRow("data.lock", "", str(path), detail)],
        hint="Name the file that --lock-data wrote, or lock the data anew.",
    )
