"""The files of records that a first recipe is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OwnData:
    """Somebody's own files of records."""

    train: Path
    dev: Path | None = None
    test: Path | None = None
    images: Path | None = None

    @property
    def splits(self) -> dict[str, Path]:
        """Those that are there, by the name that a recipe has for them."""
        named = {"train": self.train, "dev": self.dev, "test": self.test}
        return {name: path for name, path in named.items() if path is not None}
