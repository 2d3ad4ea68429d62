"""Telling models apart without reading all of their weights."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from hkdcli.models import families


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
