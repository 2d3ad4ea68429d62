"""Hidden states of chosen layers at answer positions and over the picture: what stage two refines.

Dimension letters:
    M  chosen layers of the language model
    A  answer positions of a batch
    E  examples of a batch that are learned from, in the order of `Batch.first`
    C  cells of the grid that a picture is pooled to
    H  width of the language model
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class StatePlan:
    """Which states to take.

    Attributes:
        layers: decoder layers of the language model whose outputs are taken, from 0, ascending.
        grid: cells to a side that the picture's tokens are pooled to; C = grid * grid.
    """

    layers: tuple[int, ...]
    grid: int

    @property
    def cells(self) -> int:
        """C."""
        return self.grid * self.grid


@dataclass(frozen=True, slots=True)
class States:
    """`answer` [M, A, H]: at the positions that predict the answer tokens; `image` [M, E, C, H]: pooled."""

    answer: Tensor
    image: Tensor

    def detach(self) -> States:
        """The same without a graph."""
        return States(self.answer.detach(), self.image.detach())
