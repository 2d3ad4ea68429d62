"""Pictures that a program hands over: a path, a file's bytes, an opened picture or an array of pixels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from hkdcli.data.images import ImageError, ImageFolder, ImagePolicy, LoadedImage, fit_image
from hkdcli.data.pixels import convert_opened, decode_image
from hkdcli.data.refusals import RefusedRowError

ImageInput = str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[np.uint8]
"""A path; the bytes of an image file; a PIL image; or pixels, uint8 [height, width] (gray),
[height, width, 3] (RGB) or [height, width, 4] (RGBA)."""


def load_given_image(image: ImageInput, policy: ImagePolicy | None = None) -> LoadedImage:
    """Load a picture under the policy of the dataset loader.

    A file given as its path, as its bytes or as an opened picture has one pixel hash; `convert_opened` says
    where an opened picture is refused although its file is not.

    Args:
        image: The picture. A path is taken as its giver wrote it: links and ".." may lead anywhere.
        policy: What is accepted, and what is made of it; None is the default policy.

    Returns:
        The picture as a model sees it, its pixel hash, and notes on what was done to it. The pixels that
        were handed over are not changed, nor shared.

    Raises:
        ImageError: It cannot be used; `.row` has the code (`image.missing`, `image.truncated`, ...).
    """
    policy = policy or ImagePolicy()
    if isinstance(image, (str, os.PathLike)):
        return ImageFolder(Path(), replace(policy, allow_outside_root=True)).load(os.fspath(image))
    try:
        picture, notes = _decode(image, policy)
    except RefusedRowError as error:
        raise ImageError(error.locate(f"<{type(image).__name__}>")) from error
    return fit_image(picture, notes, policy)


class GivenImages:
    """Pictures as the images of a dataset: a record's `image` is the index of its picture.

    `refused` holds, by that name, why a picture could not be loaded.
    """

    def __init__(self, pictures: Sequence[ImageInput], policy: ImagePolicy | None = None) -> None:
        self._pictures = pictures
        self._policy = policy
        self.refused: dict[str, ImageError] = {}

    def load(self, name: str) -> LoadedImage:
        """Load the picture of index `name`; raises ImageError, and remembers it."""
        try:
            return load_given_image(self._pictures[int(name)], self._policy)
        except ImageError as error:
            self.refused[name] = error
            raise


def _decode(image: Any, policy: ImagePolicy) -> tuple[Image.Image, tuple[str, ...]]:
    limits: dict[str, Any] = {"max_pixels": policy.max_pixels, "max_aspect": policy.max_aspect}
    if isinstance(image, bytes):
        if len(image) > policy.max_bytes:
            detail = f"{len(image)} bytes; at most {policy.max_bytes} are read"
            raise RefusedRowError("image.too_large", detail)
        return decode_image(image, **limits)
    if isinstance(image, np.ndarray):
        image = _build_from_pixels(image)
    if not isinstance(image, Image.Image):
        hint = "give a path, bytes, a PIL image or a numpy array"
        raise RefusedRowError("image.type", f"a {type(image).__name__} is no picture", hint)
    return convert_opened(image, **limits)


def _build_from_pixels(pixels: npt.NDArray[Any]) -> Image.Image:
    colours = pixels.shape[2:] in ((), (3,), (4,)) and pixels.ndim >= 2
    if pixels.dtype != np.uint8 or not colours:
        raise RefusedRowError(
            "image.array",
            f"an array of {pixels.dtype} {list(pixels.shape)}",
            "give uint8 of [height, width], [height, width, 3] or [height, width, 4]",
        )
    if not pixels.size:
        raise RefusedRowError("image.empty", f"an array {list(pixels.shape)} has no pixels")
    return Image.fromarray(np.ascontiguousarray(pixels))
