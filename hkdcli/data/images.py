"""The one image loader: every picture that reaches a model came through here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image

from hkdcli.errors import BadRow, RefusedError


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """What the loader accepts and what it makes of it.

    `max_pixels` refuses (from the header, before decoding); `resize_pixels` shrinks what is larger,
    None leaves it; `max_aspect` is long side over short side; sides below `min_side_px` are padded.
    """

    max_pixels: int = 50_000_000
    resize_pixels: int | None = 1_003_520
    max_aspect: float = 200.0
    min_side_px: int = 28
    max_bytes: int = 256 * 2**20
    allow_outside_root: bool = False


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image as a model sees it: RGB, its pixel hash (sha256 of size and RGB bytes), notes."""

    image: Image.Image
    pixel_hash: str
    notes: tuple[str, ...] = ()


class ImageError(RefusedError):
    """One image cannot be used; `row` says which and why, under a stable `image.*` code."""

    def __init__(self, row: BadRow) -> None:
        super().__init__(str(row), hint=row.hint or None)
        self.row = row

    def __reduce__(self) -> tuple[type[ImageError], tuple[BadRow]]:
        return ImageError, (self.row,)


class ImageSource(Protocol):
    """Where the images of a dataset come from: a folder, or a generator of scenes."""

    def load(self, name: str) -> LoadedImage:
        """Load the image that a record calls `name`; raises ImageError."""


def compute_pixel_hash(image: Image.Image) -> str:
    """Hash an RGB image: sha256 hex of its size and its RGB bytes."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


class ImageFolder:
    """Images in a folder, opened by the names that records give them."""

    def __init__(self, root: Path, policy: ImagePolicy | None = None) -> None:
        self.root = Path(root)
        self.policy = policy or ImagePolicy()

    def load(self, name: str) -> LoadedImage:
        """Load the plain case; the fault rows arrive with the next commit."""
        image = Image.open(self.root / name).convert("RGB")
        return LoadedImage(image, compute_pixel_hash(image))
