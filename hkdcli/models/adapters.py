"""Low-rank adapters: attach, save, load, merge. peft is imported where it is used: it takes seconds."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from torch import nn

from hkdcli.errors import ModelError
from hkdcli.models import families, projector
from hkdcli.models.fingerprints import compute_fingerprint
from hkdcli.models.folders import check_weights, read_json
from hkdcli.models.hub import list_commits
from hkdcli.models.quantization import list_quantized
from hkdcli.runtime import is_out_of_memory

Targets = Literal["language", "all"]
_BASE_FILE = "base.json"


def attach_lora(
    model: nn.Module,
    *,
    rank: int,
    alpha: int,
    dropout: float = 0.0,
    targets: Targets = "language",
    train_projector: bool = False,
) -> Any:
    """Put fresh low-rank adapters on a model and freeze everything else.

    Args:
        model: an image-text-to-text model, quantized or not, without adapter.
        rank: rank of the two factors.
        alpha: the update is multiplied by alpha / rank.
        dropout: on the input of the adapters.
        targets: `language`: the linear layers of the language model; `all`: those of the vision tower and
            the connector too. Never the head.
        train_projector: whether a copy of the connector between vision tower and language model is trained in
            full beside the adapters, in float32; it is saved, loaded and merged with them.

    Returns:
        The wrapped model; its outputs are those of `model` until it is trained. A connector that is to be
        trained and is quantized, or not known by name, is a ModelError.
    """
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=build_target_pattern(model, targets),
        modules_to_save=projector.find_trainable(model) if train_projector else None,
    )
    with quiet_peft():
        wrapped = get_peft_model(model, settings)
    projector.hold_in_float32(wrapped)
    return wrapped


def build_target_pattern(model: nn.Module, targets: Targets) -> str:
    """Regular expression over full names of the linear layers that get adapters.

    Layer numbers are left open, so that an adapter of a shallower model misses weights on a deeper one, which
    `load_adapter` refuses, where a list of names would fit.

    Args:
        model: an image-text-to-text model.
        targets: as in `attach_lora`.

    Returns:
        Matches exactly those layers of `model`.
    """
    prefix, language = families.get_language_model(model)
    parts = {prefix: language}
    if targets == "all":
        parts |= families.get_vision_parts(model)
    names = (
        f"{part_name}.{name}" if name else part_name
        for part_name, part in parts.items()
        for name, module in part.named_modules()
        if isinstance(module, nn.Linear)
    )
    return "|".join(sorted({re.sub(r"\\\.\d+(?=\\\.)", r"\\.\\d+", re.escape(name)) for name in names}))


def save_adapter(model: nn.Module, folder: Path, *, source: str) -> None:
    """Write the adapter as safetensors, with the name, fingerprint and, of the hub, commit of its base.

    Args:
        model: a wrapped model.
        folder: where to write; made if absent.
        source: the base as a user would name it.
    """
    wrapped: Any = model
    # The default asks the hub whether the embeddings were resized.
    wrapped.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    settings = read_json(folder / "adapter_config.json")
    settings["base_model_name_or_path"] = source
    _write_json(folder / "adapter_config.json", settings)
    told = {"source": source, "fingerprint": compute_fingerprint(model)}
    if commit := list_commits([source]).get(source):
        told["commit"] = commit
    _write_json(folder / _BASE_FILE, told)


def load_adapter(model: nn.Module, folder: Path, *, trainable: bool = False) -> Any:
    """Put a saved adapter on its base.

    Args:
        model: the base.
        folder: holds adapter_config.json and adapter_model.safetensors.
        trainable: whether to go on training it.

    Returns:
        The wrapped model.

    Raises:
        ModelError: the adapter is a pickle, damaged, of another type than LoRA, asks for a module of its own
            choice, or was made for another base.
        Exception: memory ran out, as it came.
    """
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors import safe_open
    from safetensors.torch import load_file

    if not (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder}: no adapter_config.json; is this an adapter?",
            hint="Name the folder that save_pretrained of peft wrote.",
        )
    check_weights(folder, "adapter_model")
    _check_settings(folder)
    _check_base(model, folder)
    try:
        with quiet_peft():
            # peft only warns of weights that it did not find, and leaves them as initialised.
            warnings.filterwarnings("error", message=".*missing adapter keys.*")
            wrapped = PeftModel.from_pretrained(model, folder, is_trainable=trainable, local_files_only=True)
            if projector.hold_in_float32(wrapped):  # it was read in the number type of the base
                set_peft_model_state_dict(wrapped, load_file(folder / "adapter_model.safetensors"))
    except Exception as error:  # peft raises whatever settings lead to, and its warning is an error here
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"{folder}: the adapter does not fit this base: {_shorten(error)}",
            hint="Load it on its own base: give it with --base.",
        ) from error
    with safe_open(folder / "adapter_model.safetensors", framework="np") as file:
        unused = set(file.keys()) - set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    if unused:
        raise ModelError(
            f"{folder}: the adapter does not fit this base: it has no place for {sorted(unused)[0]}",
            hint="Load it on its own base: give it with --base.",
        )
    return wrapped


def merge_adapter(model: nn.Module) -> Any:
    """Add the adapter's update to the weights.

    Args:
        model: a wrapped model whose base is not quantized; used up.

    Returns:
        A plain model with the same outputs.

    Raises:
        ModelError: the base is quantized, or the merged weights would not be finite.
    """
    if list_quantized(model):
        raise ModelError(
            "an adapter cannot be merged into quantized weights without loss",
            hint="Load the base with quantization: none, then merge.",
        )
    wrapped: Any = model
    try:
        with quiet_peft():
            projector.release(wrapped)
            return wrapped.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelError(
            f"the adapter cannot be merged: {error}",
            hint="Use the adapter on its base as it is: hkd export --adapter.",
        ) from error


def _check_settings(folder: Path) -> None:
    """Refuse what makes peft import a module, or fetch other adapters, that the settings name."""
    settings = read_json(folder / "adapter_config.json")
    if (kind := settings.get("peft_type")) != "LORA":
        raise ModelError(
            f"{folder}: an adapter of type {kind}",
            hint="Use one of type LORA, or merge this one where it was made.",
        )
    if settings.get("megatron_config"):
        raise ModelError(
            f"{folder}: adapter_config.json names a module (megatron_config), which is never imported",
            hint='Set "megatron_config": null there: a LoRA needs no Megatron.',
        )


def _check_base(model: nn.Module, folder: Path) -> None:
    path = folder / _BASE_FILE
    if not path.is_file():
        return  # another tool's adapter: names and shapes decide
    expected = read_json(path)
    found = compute_fingerprint(model)
    if expected.get("fingerprint") != found:
        name = families.unwrap(model).config.name_or_path or type(families.unwrap(model)).__name__
        raise ModelError(
            f"{folder}: the adapter was made for another base: expected {expected.get('source')} "
            f"({str(expected.get('fingerprint'))[:12]}), found {name} ({found[:12]})",
            hint="Load it on its own base; if that has moved, give its place with --base.",
        )


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Without the warning that peft asks transformers by an old name: users cannot act upon it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")


def _shorten(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]
