"""Hidden states of chosen layers at answer positions and over the picture: what stage two refines.

Dimension letters:
    M  chosen layers of the language model
    B  rows of a batch
    L  positions
    A  answer positions of a batch
    E  examples of a batch that are learned from, in the order of `Batch.first`
    C  cells of the grid that a picture is pooled to
    H  width of the language model
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hkdcli.data.batches import Batch
from hkdcli.models import families
from hkdcli.models.views import View, find_image_tokens, find_views

LayerMap = Literal["relative", "last"]


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


def match_layers(layer_map: LayerMap, layers: int, *depths: int) -> tuple[tuple[int, ...], ...]:
    """Say which layers of models of different depth are compared.

    Args:
        layer_map: `relative`: layers at equal fractions of every depth, the last ones included; `last`: the
            last ones alone.
        layers: how many `relative` matches; no more than the shallowest model has.
        *depths: layers of each model.

    Returns:
        For each model its layers, from 0, ascending; as many for every model.
    """
    count = 1 if layer_map == "last" else min(layers, *depths)
    return tuple(
        tuple((2 * part * depth + count) // (2 * count) - 1 for part in range(1, count + 1))
        for depth in depths
    )


@contextmanager
def capture_layers(model: nn.Module, layers: Sequence[int]) -> Iterator[list[Tensor]]:
    """Keep what chosen decoder layers put out, and let go of all others at once.

    Args:
        model: an image-text-to-text model, adapter-wrapped or not.
        layers: of its language model, from 0.

    Yields:
        list[Tensor]: Filled by a forward pass: one output [B, L, H] for each layer, in their order.
    """
    outputs: list[Tensor] = []

    def keep(module: nn.Module, given: Any, output: Any) -> None:
        # No tensor is computed here: with gradient checkpointing this runs in a part that is computed again.
        outputs.append(output if isinstance(output, Tensor) else output[0])

    stack: Any = families.get_language_model(model)[1]
    handles = [stack.layers[layer].register_forward_hook(keep) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def take_states(outputs: Sequence[Tensor], batch: Batch, pooling: Tensor) -> States:
    """Take the states of the answers and of the pooled picture out of whole layers.

    Args:
        outputs: [B, L, H] of each layer.
        batch: on their device.
        pooling: of that batch, as `build_pooling` gives it.

    Returns:
        The states, with the graph of the outputs.
    """
    # One index into flat rows has a fast backward pass; the picture is pooled before any row is left out.
    places = batch.answer_rows * outputs[0].shape[1] + batch.answer_columns
    answer = torch.stack([output.flatten(0, 1).index_select(0, places) for output in outputs])
    weights = pooling.to(outputs[0].dtype)
    image = torch.stack([weights @ output for output in outputs])
    return States(answer, image.index_select(1, batch.answer_rows[batch.first]))


def build_pooling(config: Any, batch: Batch, grid: int) -> Tensor:
    """Weights that pool the tokens of each row's picture to a grid; those of a cell sum to 1.

    Args:
        config: of the model.
        batch: what it reads.
        grid: cells to a side.

    Returns:
        [B, C, L], float32, on the device of the batch. `find_views` says what is refused.
    """
    input_ids = batch.model_inputs["input_ids"]
    weights = torch.zeros(len(input_ids), grid * grid, input_ids.shape[1])
    places = find_image_tokens(config, input_ids).cpu()
    for row, view in enumerate(find_views(config, batch.model_inputs)):
        tokens = places[row].nonzero()[:, 0][view.start : view.start + view.rows * view.columns]
        weights[row, :, tokens] = _pool_view(view, grid)
    return weights.to(input_ids.device)


@lru_cache(maxsize=256)
def _pool_view(view: View, grid: int) -> Tensor:
    """Weights [C, tokens of the view] of mean pooling, adaptive as torch's, in both directions."""
    down, across = _pool_line(view.rows, grid), _pool_line(view.columns, grid)
    return torch.einsum("ir,jc->ijrc", down, across).reshape(grid * grid, -1)


def _pool_line(size: int, cells: int) -> Tensor:
    """Weights [cells, size]: cell i covers floor(i size / cells) up to ceil((i + 1) size / cells)."""
    weights = torch.zeros(cells, size)
    for cell in range(cells):
        start, stop = cell * size // cells, -(-(cell + 1) * size // cells)
        weights[cell, start:stop] = 1.0 / (stop - start)
    return weights
