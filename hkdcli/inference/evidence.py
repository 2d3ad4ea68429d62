"""Which parts of a picture a verdict rests on: each is covered in turn, and the verdict asked again.

Occlusion sensitivity (arXiv 1311.2901), signed:

    evidence[cell] = p(verdict | picture) - p(verdict | picture with the cell covered)

Positive: the cell supports the verdict, which is less probable without it. Negative: it speaks against it.
What no single cell decides, since two of them tell the same, has no evidence anywhere.

Dimensions: H x W picture, R x C cells.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from hkdcli.atomic import disk_errors, write_atomic
from hkdcli.errors import SetupError, UsageError

Array = npt.NDArray[np.float64]
Score = Callable[[Sequence[Image.Image]], npt.ArrayLike]
"""Probability of one verdict for each of some pictures."""

SUPPORTS = (214, 39, 40)
OPPOSES = (31, 119, 180)
MOST_OPACITY = 0.65


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The map of one verdict: `values` [R, C] in [-1, 1], over `image`, the picture as the model saw it.

    `verdict` says in words what it is evidence for; `probability` is that of the uncovered picture.
    """

    verdict: str
    probability: float
    values: Array
    image: Image.Image

    def render(self) -> Image.Image:
        """The picture under its map; see `render_evidence`."""
        return render_evidence(self.image, self.values)

    def write(self, path: str | Path) -> None:
        """Write the rendered map as a PNG file, which appears whole or not at all.

        Args:
            path: The file, whose name ends in .png in any case; its folder is made if absent.

        Raises:
            SetupError: A folder is there. What else the disk refuses raises as `write_atomic` says.
            UsageError: The name promises another format.
        """
        path = Path(path)
        with disk_errors(path):
            is_folder = path.is_dir()
        if is_folder:
            raise SetupError(f"{path}: is a folder", hint="Name a file in it, such as why.png.")
        if not path.name.lower().endswith(".png"):
            raise UsageError(f"{path}: evidence is written as PNG", hint="Let its name end in .png.")
        buffer = io.BytesIO()
        self.render().save(buffer, format="PNG")
        write_atomic(path, buffer.getvalue())


def compute_evidence(image: Image.Image, score: Score, *, grid: int = 7, batch_size: int = 8) -> Array:
    """Cover each cell of a grid with the mean colour of the picture, and see how far the verdict falls.

    Args:
        image: [H, W], RGB.
        score: Asked for the picture itself first, then for each cell covered, row by row; (1 + R C)
            pictures in all.
        grid: R and C; a side of fewer pixels has a cell for each of them.
        batch_size: How many pictures `score` is given at once, at least 1.

    Returns:
        [R, C], in [-1, 1].

    Raises:
        UsageError: `grid` is no whole number, or below 1.
        ValueError: `score` does not give one number per picture.
    """
    if isinstance(grid, bool) or not isinstance(grid, Integral) or grid < 1:
        hint = "Give a whole number of cells along each side, at least 1."
        raise UsageError(f"evidence cannot be drawn over a grid of {grid} x {grid}", hint=hint)
    rows, columns = _cell_edges(image.height, grid), _cell_edges(image.width, grid)
    pictures = _cover_each(image, rows, columns)
    scores: list[float] = []
    while batch := list(itertools.islice(pictures, batch_size)):
        given = np.asarray(score(batch), dtype=np.float64)
        if given.shape != (len(batch),):
            raise ValueError(f"score gave {list(given.shape)} numbers for {len(batch)} pictures")
        scores += given.tolist()
    evidence: Array = scores[0] - np.array(scores[1:]).reshape(len(rows) - 1, len(columns) - 1)
    return evidence


def render_evidence(image: Image.Image, evidence: npt.ArrayLike) -> Image.Image:
    """Lay a map over its picture: red where a cell supports the verdict, blue where it speaks against it.

    A cell is the more opaque the more it weighs, up to `MOST_OPACITY` for the strongest of this map; maps of
    two verdicts do not share a scale. The picture itself is
    shown in grey, so that the two colours are seen on it.

    Args:
        image: [H, W], RGB.
        evidence: [R, C] of `compute_evidence`, finite.

    Returns:
        A new picture [H, W], RGB.
    """
    values = np.asarray(evidence, dtype=np.float64)
    strongest = np.abs(values).max()
    weights = values / strongest if strongest > 0 else values
    edges = _cell_edges(image.height, values.shape[0]), _cell_edges(image.width, values.shape[1])
    spread = np.repeat(np.repeat(weights, np.diff(edges[0]), axis=0), np.diff(edges[1]), axis=1)
    opacity = MOST_OPACITY * np.abs(spread)[..., None]
    colour = np.where(spread[..., None] > 0, SUPPORTS, OPPOSES)
    blended = (1 - opacity) * np.asarray(
        image.convert("L").convert("RGB"), dtype=np.float64
    ) + opacity * colour
    return Image.fromarray(np.rint(blended).astype(np.uint8))


def _cell_edges(length: int, cells: int) -> list[int]:
    """Pixels at which the cells of a side begin, and its end; no two cells differ by more than a pixel."""
    count = min(cells, length)
    return [length * i // count for i in range(count + 1)]


def _cover_each(image: Image.Image, rows: Sequence[int], columns: Sequence[int]) -> Iterator[Image.Image]:
    """The picture, then with each cell covered, row by row; one at a time, since pictures are large."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    red, green, blue = (round(mean) for mean in pixels.mean(axis=(0, 1)))
    yield image
    for top, bottom in zip(rows, rows[1:], strict=False):
        for left, right in zip(columns, columns[1:], strict=False):
            covered = image.copy()
            covered.paste((red, green, blue), (left, top, right, bottom))
            yield covered
