"""Where among its image tokens a model sees the whole picture; families differ in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from torch import Tensor

from hkdcli.errors import ModelError


@dataclass(frozen=True, slots=True)
class View:
    """The whole picture among the image tokens of a row: `rows` x `columns`, row by row, from `start`."""

    start: int
    rows: int
    columns: int


def find_views(config: Any, inputs: Mapping[str, Tensor]) -> list[View]:
    """Find the whole picture in every row of a batch; tiles that show a part of it larger are passed over.

    Args:
        config: of the model.
        inputs: model inputs with `input_ids` [B, L], and `image_grid_thw` [B, 3] where the model takes it.

    Returns:
        One view for each row. Where it is not known how the image tokens of such a model lie, a ModelError.
    """
    if "image_grid_thw" in inputs:
        merged = config.vision_config.spatial_merge_size
        return [
            View(0, rows // merged, columns // merged)
            for _, rows, columns in inputs["image_grid_thw"].tolist()
        ]
    counts = find_image_tokens(config, inputs["input_ids"]).sum(-1).tolist()
    size, is_last = _find_tile(config)
    views = []
    for count in counts:
        tile = count if size is None else size
        side = math.isqrt(tile)
        if side * side != tile or not 0 < tile <= count:
            _refuse(config, f"{count} image tokens")
        views.append(View(count - tile if is_last else 0, side, side))
    return views


def find_image_tokens(config: Any, input_ids: Tensor) -> Tensor:
    """Which tokens stand for the picture: ids [B, L] -> [B, L], bool."""
    token = getattr(config, "image_token_id", None)
    return input_ids == (config.image_token_index if token is None else token)


def _refuse(config: Any, what: str) -> NoReturn:
    raise ModelError(
        f"how {what} of a {config.model_type} model lie over the picture is not known",
        hint="Refine answers alone: refine.feature=null refine.relation=null.",
    )


def _find_tile(config: Any) -> tuple[int | None, bool]:
    """Tokens of the tile that shows the whole picture (None: all); whether other tiles come before it."""
    vision = config.vision_config
    if config.model_type in ("idefics3", "smolvlm"):
        return (vision.image_size // vision.patch_size) ** 2 // config.scale_factor**2, True
    if config.model_type == "internvl":
        return config.image_seq_length, True
    if config.model_type == "gemma3":
        return config.mm_tokens_per_image, False
    if config.model_type == "llava_onevision":
        return (vision.image_size // vision.patch_size) ** 2, False
    if config.model_type in ("llava", "vipllava", "fast_vlm"):
        return None, False
    _refuse(config, "image tokens")
