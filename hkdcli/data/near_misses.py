"""Names that a missing file may have been meant to have."""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path

MAX_LISTED = 200_000


def find_near_misses(path: Path) -> list[str]:
    """Find files beside `path` that differ in case, extension or Unicode form alone.

    Args:
        path: The file that is not there.

    Returns:
        At most three names, the nearest kind first; in ASCII (`ascii()`), since NFC and NFD print alike.
    """
    stem = _fold(path.stem)
    names = _list_folder(str(path.parent)).get(stem, ())
    ranked = sorted(names, key=lambda name: (_fold(name) != _fold(path.name), name))
    return [name if name.isascii() else ascii(name) for name in ranked[:3]]


@lru_cache(maxsize=64)
def _list_folder(folder: str) -> dict[str, tuple[str, ...]]:
    """Group a folder's names by folded stem; kept, since a thousand images may be missing at once."""
    names: dict[str, tuple[str, ...]] = {}
    try:
        with os.scandir(folder) as entries:
            for _, entry in zip(range(MAX_LISTED), entries, strict=False):
                stem = _fold(Path(entry.name).stem)
                names[stem] = (*names.get(stem, ()), entry.name)
    except (OSError, ValueError):
        return {}
    return names


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
