"""Targets that read model folders: weights, settings, adapters, prompt files, processors, templates."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from fuzz_runs import empty_folder
from fuzz_targets import Seeds, Target

from hkdcli.data.chat import find_special_tokens, read_chat_frame
from hkdcli.data.prompts import compute_prompt_hash
from hkdcli.errors import ModelError
from hkdcli.models.adapters import attach_lora, load_adapter, save_adapter
from hkdcli.models.fingerprints import compute_revision
from hkdcli.models.folders import check_model_folder
from hkdcli.models.hub import _list_lost
from hkdcli.models.loading import load_model, load_processor, read_config
from hkdcli.models.prompt_file import check_prompt_file, write_prompt_file
from hkdcli.scenes.pretrained import model_folder

SMALL = Path(model_folder("small"))
SHARDS = ("config.json", "model.safetensors", "model.safetensors.index.json")
PROCESSOR = ("processor_config.json", "tokenizer_config.json", "tokenizer.json", "chat_template.jinja")
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "base.json")


def read_folder(variant: str, content: bytes, folder: Path) -> None:
    """What is asked of a model folder before anything of it is loaded."""
    target = empty_folder(folder / "model")
    for name, whole in make_folder_files():
        if name != "model.safetensors.index.json":
            (target / name).write_bytes(whole)
    (target / variant).write_bytes(content)
    assert isinstance(_list_lost(target), tuple)
    check_model_folder(target)
    assert len(compute_revision(target)) == 64


@cache
def make_folder_files() -> Seeds:
    from safetensors.torch import save

    weights = {"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}
    index = {"metadata": {"total_size": 32}, "weight_map": dict.fromkeys(weights, "model.safetensors")}
    contents = ((SMALL / "config.json").read_bytes(), save(weights), json.dumps(index).encode())
    return list(zip(SHARDS, contents, strict=True))


def read_prompt_file(variant: str, content: bytes, folder: Path) -> None:
    target = empty_folder(folder / "level")
    for _, whole in make_prompt_files():
        (target / "prompt.json").write_bytes(whole)
    if variant == "MANIFEST.json":  # it is asked where the hash is another
        (target / "prompt.json").write_bytes(whole.replace(b'"prompt_hash": "', b'"prompt_hash": "x'))
    (target / variant).write_bytes(content)
    check_prompt_file(target, _load_processor())


@cache
def make_prompt_files() -> Seeds:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        write_prompt_file(Path(name), _load_processor())
        return [("prompt.json", (Path(name) / "prompt.json").read_bytes())]


@cache
def _load_processor() -> Any:
    return load_processor(SMALL)


def read_adapter(variant: str, content: bytes, folder: Path) -> None:
    target = empty_folder(folder / "adapter")
    for name, whole in make_adapter_files():
        (target / name).write_bytes(whole)
    (target / variant).write_bytes(content)
    wrapped = load_adapter(copy.deepcopy(_load_base()), target)
    assert any("lora_" in name for name, _ in wrapped.named_parameters())


@cache
def make_adapter_files() -> Seeds:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        wrapped = attach_lora(copy.deepcopy(_load_base()), rank=2, alpha=4)
        save_adapter(wrapped, Path(name), source="scenes:small")
        return [(each, (Path(name) / each).read_bytes()) for each in ADAPTER]


@cache
def _load_base() -> torch.nn.Module:
    return load_model(SMALL).model


def read_processor(variant: str, content: bytes, folder: Path) -> None:
    target = empty_folder(folder / "processor")
    for name in (*PROCESSOR, "config.json"):
        shutil.copy(SMALL / name, target / name)
    (target / variant).write_bytes(content)
    processor = load_processor(target)
    read_chat_frame(processor)
    find_special_tokens(processor)
    compute_prompt_hash(processor)


def read_settings(variant: str, content: bytes, folder: Path) -> None:
    target = empty_folder(folder / "config")
    (target / "config.json").write_bytes(content)
    read_config(target)


def list_files(*names: str) -> Callable[[], Seeds]:
    return lambda: [(name, (SMALL / name).read_bytes()) for name in names]


TARGETS = {
    "model folder": Target(read_folder, "check_model_folder", SHARDS, (ModelError,), make_folder_files),
    "model config": Target(
        read_settings, "read_config", ("config.json",), (ModelError,), list_files("config.json")
    ),
    "prompt file": Target(
        read_prompt_file,
        "check_prompt_file",
        ("prompt.json", "MANIFEST.json"),
        (ModelError,),
        make_prompt_files,
    ),
    "adapter": Target(read_adapter, "load_adapter", ADAPTER, (ModelError,), make_adapter_files),
    "processor": Target(read_processor, "load_processor", PROCESSOR, (ModelError,), list_files(*PROCESSOR)),
}
