"""The one image loader: every picture that reaches a model came through here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageOps

from hkdcli.data.image_files import read_image_bytes, resolve_image
from hkdcli.data.pixels import decode_image
from hkdcli.data.refusals import RefusedRowError
from hkdcli.errors import BadRow, RefusedError


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """What the loader accepts, and what it makes of it.

    Attributes:
        max_pixels: Width times height above which an image is refused from its header.
        resize_pixels: Width times height that larger images are shrunk to; None leaves them.
        max_aspect: Long side over short side above which an image is refused.
        min_side_px: Shorter sides are padded with white.
        max_bytes: The largest file that is read.
        allow_outside_root: Let names and links lead out of the image folder.
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
        return ImageError, (self.row,)  # so that it survives the way back from a loader's process


class ImageSource(Protocol):
    """Where the images of a dataset come from: a folder, or a generator of scenes."""

    def load(self, name: str) -> LoadedImage:
        """Load the image that a record calls `name`; raises ImageError."""


def compute_pixel_hash(image: Image.Image) -> str:
    """Hash an RGB image: sha256 hex of its size and its RGB bytes."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def paint_grey(size: tuple[int, int], notes: tuple[str, ...] = ()) -> LoadedImage:
    """A picture that shows nothing: mid-grey all over."""
    grey = Image.new("RGB", size, (128, 128, 128))
    return LoadedImage(grey, compute_pixel_hash(grey), notes)


def fit_image(image: Image.Image, notes: tuple[str, ...], policy: ImagePolicy) -> LoadedImage:
    """Shrink what is larger than `resize_pixels`, aspect kept; pad sides below `min_side_px` with white.

    Args:
        image: An RGB picture.
        notes: On what was done to it so far.
        policy: What is made of it.

    Returns:
        The picture as a model sees it, with `image.resized` and `image.padded` among its notes.
    """
    pixels = image.width * image.height
    if policy.resize_pixels is not None and pixels > policy.resize_pixels:
        scale = (policy.resize_pixels / pixels) ** 0.5
        image = image.resize(
            _shrink(image.size, scale, policy.max_aspect), Image.Resampling.BICUBIC, reducing_gap=3.0
        )
        notes += ("image.resized",)
    if min(image.size) < policy.min_side_px:
        size = (max(image.width, policy.min_side_px), max(image.height, policy.min_side_px))
        image = ImageOps.pad(image, size, color="white")
        notes += ("image.padded",)
    return LoadedImage(image, compute_pixel_hash(image), notes)


def _shrink(size: tuple[int, int], scale: float, max_aspect: float) -> tuple[int, int]:
    """A size scaled and rounded down, which may not make a picture longer than image processors take."""
    width, height = (max(1, int(side * scale)) for side in size)
    longest = min(width, height) * max_aspect
    return int(min(width, longest)), int(min(height, longest))


class ImageFolder:
    """Images in a folder, opened by the names that records give them."""

    def __init__(self, root: Path, policy: ImagePolicy | None = None) -> None:
        self.root = Path(root)
        self.policy = policy or ImagePolicy()

    def load(self, name: str) -> LoadedImage:
        """Load one image: checked, decoded in full, upright, RGB, within the policy's sizes.

        Args:
            name: The image's path below the root.

        Returns:
            The picture, its pixel hash, and notes on what was done to it.

        Raises:
            ImageError: It cannot be used; `.row` has the code and the path, and an empty id.
        """
        policy = self.policy
        data = self.read_bytes(name)
        try:
            image, notes = decode_image(data, max_pixels=policy.max_pixels, max_aspect=policy.max_aspect)
        except RefusedRowError as error:
            raise ImageError(error.locate(str(self.root / name))) from error
        return fit_image(image, notes, policy)

    def read_bytes(self, name: str) -> bytes:
        """Read the file of one image as it lies on disk.

        Args:
            name: The image's path below the root.

        Returns:
            Its bytes.

        Raises:
            ImageError: There is no such file below the root, or it cannot be read.
        """
        where = str(self.root / name)
        try:
            path = resolve_image(self.root, name, allow_outside_root=self.policy.allow_outside_root)
            return read_image_bytes(path, self.policy.max_bytes)
        except RefusedRowError as error:
            if error.code in ("image.url", "image.path_escape"):
                where = str(self.root)  # the name is in the detail, escaped: it may be hostile
            raise ImageError(error.locate(where)) from error
