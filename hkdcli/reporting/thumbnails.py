"""Pictures small enough to stand inside a page, as data URIs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from hkdcli.data.images import ImageError
from hkdcli.data.records import Example
from hkdcli.reporting.cases import Case

SIDE_PX = 256
_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as a data URI, or the reason why there is none; the other of the two is empty."""

    uri: str = ""
    reason: str = ""


def build_thumbnails(cases: Iterable[Case], load: Callable[[Example], Image.Image]) -> dict[str, Thumbnail]:
    """Load the image of each case and make it small; one that several records are about is loaded once.

    Args:
        cases: whose images are shown.
        load: gives the image of a record or raises ImageError.

    Returns:
        By record id.
    """
    found: dict[str, Thumbnail] = {}
    by_id = {}
    for case in cases:
        image = case.example.image
        if image not in found:
            found[image] = _build_thumbnail(case.example, load)
        by_id[case.id] = found[image]
    return by_id


def _build_thumbnail(example: Example, load: Callable[[Example], Image.Image]) -> Thumbnail:
    try:
        return Thumbnail(uri=render_thumbnail(load(example)))
    except ImageError as error:
        return Thumbnail(reason=f"{error.row.code}: {error.row.detail}")


def render_thumbnail(image: Image.Image) -> str:
    """Render a picture as a data URI of a WebP without any metadata of the original.

    No side of it is longer than `SIDE_PX`. An image that fits twice or more is enlarged by a whole number,
    so that it is not blurred.

    Args:
        image: any mode.

    Returns:
        The URI, `data:image/webp;base64,...`.
    """
    scale = SIDE_PX / max(image.size)
    scale = min(scale, 1.0) if scale < 2 else float(int(scale))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    small = image.convert("RGB").resize(size, method)
    file = BytesIO()
    small.save(file, "WEBP", quality=_QUALITY)  # writes no metadata that it is not given
    return f"data:image/webp;base64,{b64encode(file.getvalue()).decode()}"
