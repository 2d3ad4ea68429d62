"""Who does the operations on pictures in the benchmark of augmentation: hkd, torchvision v2, albumentations.

A rival gets the parameters that our operation drew, and its own kind of picture; what it does is built
before the clock starts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hkdcli.augment.operations import Change, Operation, Sample, apply_operation
from hkdcli.data.records import Choice, Example

STANDARD = 0.7
"""Strength of the policy "standard"."""
EXAMPLE = Example(
    id="f0",
    task="factuality",
    image="f0.png",
    question="Based on the provided information, please determine whether the claim is factual.",
    choices=(Choice("A", "True"), Choice("B", "False")),
    claim="A dog sits on a sofa.",
    context="A man walks his dog.",
)
"""Speaks of nothing that an operation may falsify, so that all of them are done."""
Run = Callable[[], Any]


class Rival(Protocol):
    """A library that does our operations.

    Attributes:
        name: of the library.
        version: of the library.
    """

    name: str
    version: str

    def build(self, operation: str, parameters: Mapping[str, Any], image: Image.Image) -> Run:
        """A call that does the operation on the library's own kind of picture, which is made here."""
        ...

    def convert(self, image: Image.Image) -> Run:
        """A call that turns a Pillow picture into its own kind and back."""
        ...

    def read(self, result: Any) -> NDArray[np.uint8]:
        """Levels of what a call gave, rows x columns x 3."""
        ...


class Draw(NamedTuple):
    """One application of our operation: the call, and with which parameters it was made."""

    run: Run
    parameters: Mapping[str, Any]
    image: Image.Image


def draw(operation: Operation, image: Image.Image, seed: int) -> Draw:
    """Our operation on a picture, with the first seed from `seed` on that is not refused."""
    sample = Sample(EXAMPLE, image)
    for number in range(seed, seed + 1000):
        run = partial(apply_operation, operation, sample, strength=STANDARD)
        made = run(rng=Random(number))
        if isinstance(made, Change):
            return Draw(partial(_run_anew, run, number), made.parameters, image)
    raise ValueError(f"{operation.name} refuses this picture: {made.reason}")


def _run_anew(run: Callable[..., Change], number: int) -> Change:
    return run(rng=Random(number))


class TorchVision:
    """`torchvision.transforms.v2.functional` on tensors of bytes, channels x rows x columns."""

    name = "torchvision"

    def __init__(self) -> None:
        import torch
        import torchvision
        from torchvision.transforms.v2 import functional

        torch.set_num_threads(1)
        self.version = str(torchvision.__version__)
        self._f = functional

    def build(self, operation: str, parameters: Mapping[str, Any], image: Image.Image) -> Run:
        """As `Rival` says."""
        f, p, (width, height) = self._f, parameters, image.size
        x = f.pil_to_tensor(image)
        cubic = f.InterpolationMode.BICUBIC
        if operation == "crop":
            left, top, right, bottom = p["box"]
            place = (top, left, bottom - top, right - left)
            return lambda: f.resized_crop(x, *place, [height, width], cubic, antialias=True)
        if operation == "rescale":
            small = [round(side * p["scale"]) for side in (height, width)]
            return lambda: f.resize(
                f.resize(x, small, antialias=True), [height, width], cubic, antialias=True
            )
        runs: dict[str, Callable[[], Any]] = {
            "brightness": lambda: f.adjust_brightness(x, p["factor"]),
            "contrast": lambda: f.adjust_contrast(x, p["factor"]),
            "saturation": lambda: f.adjust_saturation(x, p["factor"]),
            "hue": lambda: f.adjust_hue(x, p["degrees"] / 360),
            "blur": lambda: f.gaussian_blur(x, [_size_kernel(p["radius_px"])] * 2, [p["radius_px"]] * 2),
            "noise": lambda: f.gaussian_noise(x, 0.0, p["deviation"] / 255),
            "jpeg": lambda: f.jpeg(x, p["quality"]),
            "flip": lambda: f.horizontal_flip(x),
        }
        return runs[operation]

    def convert(self, image: Image.Image) -> Run:
        """As `Rival` says."""
        return lambda: self._f.to_pil_image(self._f.pil_to_tensor(image))

    def read(self, result: Any) -> NDArray[np.uint8]:
        """As `Rival` says."""
        return np.asarray(result.permute(1, 2, 0))


class Albumentations:
    """Transforms of albumentations (AlbumentationsX) on arrays of bytes, rows x columns x channels."""

    name = "albumentations"

    def __init__(self) -> None:
        import albumentations
        import cv2

        cv2.setNumThreads(1)
        self.version = str(albumentations.__version__)
        self._a, self._cv2 = albumentations, cv2

    def build(self, operation: str, parameters: Mapping[str, Any], image: Image.Image) -> Run:
        """As `Rival` says."""
        pixels = np.asarray(image)
        if operation == "crop":
            crop, resize = self._build_crop(parameters["box"], image.size)
            return lambda: resize(**crop(image=pixels))["image"]
        transform = self._build_transform(operation, parameters)
        return lambda: transform(image=pixels)["image"]

    def _build_crop(self, box: Sequence[int], size: tuple[int, int]) -> tuple[Any, Any]:
        names = ("x_min", "y_min", "x_max", "y_max")
        crop = self._a.Crop(**dict(zip(names, box, strict=True)), p=1)
        return crop, self._a.Resize(size[1], size[0], interpolation=self._cv2.INTER_CUBIC, p=1)

    def _build_transform(self, operation: str, p: Mapping[str, Any]) -> Any:
        a, cv2 = self._a, self._cv2
        if operation in ("brightness", "contrast", "saturation", "hue"):
            changed = p["degrees"] / 360 if operation == "hue" else p["factor"]
            none = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
            factors = none | {operation: changed}
            return a.ColorJitter(**{f"{name}_range": (value, value) for name, value in factors.items()}, p=1)
        if operation == "rescale":
            ways = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_CUBIC}
            return a.Downscale(scale_range=(p["scale"], p["scale"]), interpolation_pair=ways, p=1)
        builders: dict[str, Callable[[], Any]] = {
            "blur": lambda: a.GaussianBlur(
                blur_range=(_size_kernel(p["radius_px"]),) * 2, sigma_range=(p["radius_px"],) * 2, p=1
            ),
            "noise": lambda: a.GaussNoise(std_range=(p["deviation"] / 255,) * 2, per_channel=True, p=1),
            "jpeg": lambda: a.ImageCompression(quality_range=(p["quality"],) * 2, p=1),
            "flip": lambda: a.HorizontalFlip(p=1),
        }
        return builders[operation]()

    def convert(self, image: Image.Image) -> Run:
        """As `Rival` says."""
        return lambda: Image.fromarray(np.asarray(image))

    def read(self, result: Any) -> NDArray[np.uint8]:
        """As `Rival` says."""
        return np.asarray(result)


RIVALS: Mapping[str, Callable[[], Rival]] = {
    "torchvision": TorchVision,
    "albumentations": Albumentations,
}


def open_rivals() -> tuple[list[Rival], dict[str, str]]:
    """The rivals that are installed and work, and of the others why not."""
    found, missing = [], {}
    for name, build in RIVALS.items():
        try:
            found.append(build())
        except (ImportError, OSError, RuntimeError) as error:
            # A torchvision that was built for CUDA beside a torch for CPUs is a RuntimeError.
            missing[name] = str(error).partition("\n")[0]
    return found, missing


def _size_kernel(deviation: float) -> int:
    """Three standard deviations to each side."""
    return 2 * math.ceil(3 * deviation) + 1
