"""Whether an adapter fits its base, told from names, shapes and the beginning of the embeddings alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from hkdcli.doctor.examination import Finding
from hkdcli.doctor.weights import build_on_meta
from hkdcli.errors import ModelError
from hkdcli.models.adapters import load_adapter
from hkdcli.models.folders import list_shards, read_json


def check_adapter(folder: Path, adapter: Path) -> Finding:
    """Put an adapter on its base, of which the embeddings alone are read.

    Args:
        folder: Of the base, its files whole.
        adapter: Its folder.

    Returns:
        What it adapts. `ModelError` where it does not fit.
    """
    model, _ = build_on_meta(folder)
    _read_embeddings(model, folder)
    with warnings.catch_warnings():
        # Numbers that are put where there are none: their names and shapes are what is compared.
        warnings.filterwarnings("ignore", message=".*which is a no-op.*")
        load_adapter(model, adapter)
    settings = read_json(adapter / "adapter_config.json")
    more = f", and trains {settings['modules_to_save']}" if settings.get("modules_to_save") else ""
    return Finding(f"{adapter}: rank {settings.get('r')}, fits {folder}{more}")


def _read_embeddings(model: Any, folder: Path) -> None:
    """Give a model without numbers its own input embeddings, by which adapters know their base."""
    weight = model.get_input_embeddings().weight
    rows = _find_rows(folder, tuple(weight.shape))
    whole = torch.zeros(weight.shape, dtype=rows.dtype)
    whole[: len(rows)] = rows
    model.get_input_embeddings().weight = nn.Parameter(whole, requires_grad=False)


def _find_rows(folder: Path, shape: tuple[int, ...]) -> Tensor:
    """The first rows of the input embeddings, whatever the model is called inside."""
    for path in list_shards(folder, "model"):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                tensor = file.get_slice(name)
                if name.endswith("embed_tokens.weight") and tuple(tensor.get_shape()) == shape:
                    rows: Tensor = tensor[:64]
                    return rows
    raise ModelError(
        f"{folder}: its input embeddings are not found, so its adapters cannot be checked",
        hint="Merge the adapter where it was made, and use the merged folder.",
    )
