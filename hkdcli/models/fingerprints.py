"""Telling models apart without reading all of their weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
from torch import nn

from hkdcli.errors import ModelError
from hkdcli.models import families
from hkdcli.models.folders import is_adapter_folder, read_json

_UNTELLING = ("_name_or_path", "base_model_name_or_path", "transformers_version")  # same weights, other words
_WHOLE_BELOW_BYTES = 64 * 2**20
_MOST_HEADER_BYTES = 100 * 2**20


def compute_fingerprint(model: nn.Module) -> str:
    """Sha256 (hex) that tells bases apart, equal for every dtype and quantization of the same base.

    From the shapes and the beginning of the input embeddings, which are never quantized or adapted.
    """
    weight = families.unwrap(model).get_input_embeddings().weight.detach()
    start = weight[:64].to("cpu", torch.bfloat16).contiguous().view(torch.uint8)
    config = families.unwrap(model).config
    shape = (config.model_type, config.get_text_config().num_hidden_layers, tuple(weight.shape))
    return hashlib.sha256(repr(shape).encode() + start.numpy().tobytes()).hexdigest()


def compute_weights_hash(model: nn.Module) -> str:
    """Sha256 (hex) over a sample of every parameter, adapters included, as they are held in memory.

    Another checkpoint, adapter, number type or quantization gives another hash.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        sample = parameter.detach().flatten()[:16].cpu().contiguous().view(torch.uint8)
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()


def compute_revision(folder: Path) -> str:
    """Sha256 (hex) of a model or adapter folder on disk, from its settings and a sample of its weights.

    Of each safetensors file the name, size and header count, and of its data the first and last MiB and the
    beginning, middle and end of every tensor; a file of less than 64 MiB counts as a whole. So a training, a
    merge or a quantization shows, whichever tensors it changed, and 10 GB take a second; single rows of a
    large tensor that somebody edits may not.

    Args:
        folder: it holds a `config.json` or an `adapter_config.json`.

    Returns:
        64 hexadecimal digits; the same wherever the folder is.

    Raises:
        ModelError: settings or weights are absent, or damaged.
    """
    digest = hashlib.sha256()
    name = "adapter_config.json" if is_adapter_folder(folder) else "config.json"
    settings = {key: value for key, value in read_json(folder / name).items() if key not in _UNTELLING}
    digest.update(json.dumps([name, settings], sort_keys=True).encode())
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: holds no safetensors", hint="Download or copy the folder again.")
    for path in files:
        digest.update(f"\n{path.name} {path.stat().st_size}\n".encode())
        try:
            with path.open("rb") as file:
                _sample_weights(file, path.stat().st_size, digest.update)
        except (OSError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"{path}: is damaged or cut off: {ascii(str(error))[:200]}",
                hint="Download or copy the folder again.",
            ) from error
    return digest.hexdigest()


def _sample_weights(file: BinaryIO, size: int, use: Callable[[bytes], None]) -> None:
    """Hand on the header of a safetensors file and what is looked at of its data."""
    if size < _WHOLE_BELOW_BYTES:
        use(file.read())
        return
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= min(_MOST_HEADER_BYTES, size - 8):
        raise ValueError(f"a header of {length} bytes")
    text = file.read(length)
    use(text)
    tensors = [entry for name, entry in json.loads(text).items() if name != "__metadata__"]
    spans = sorted((int(start), int(stop)) for start, stop in (entry["data_offsets"] for entry in tensors))
    places = [at for start, stop in spans for at in (start, (start + stop) // 2, max(start, stop - 4096))]
    ends = [(8 + length, 2**20), (max(8 + length, size - 2**20), 2**20)]
    for start, most in [*ends, *((8 + length + at, 4096) for at in places)]:
        file.seek(start)
        use(file.read(most))
