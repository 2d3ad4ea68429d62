"""Folder or hub id -> the folders of a model's parts: weights, adapter, processor."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hkdcli.errors import ModelError
from hkdcli.models.fetching import fetch_models
from hkdcli.models.folders import (
    find_local_folder,
    find_model_folder,
    is_adapter_folder,
    is_model_folder,
    read_json,
)
from hkdcli.models.hub import is_hub_id, split_hub_id

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class ModelParts:
    """Where the parts of a model are on this machine; `source` names the model as it was asked for."""

    folder: Path
    adapter: Path | None
    processor: Path
    source: str


def locate_model(
    model: str | Path,
    *,
    adapter: str | Path | None = None,
    base: str | Path | None = None,
    download: bool = True,
) -> ModelParts:
    """Find the folders of a model, its adapter and its processor, downloading what is not here yet.

    Args:
        model: what `find_model_folder` takes; of an adapter folder the base is found too.
        adapter: an adapter to put on top.
        base: the base of an adapter folder, where it has moved.
        download: False looks for hub ids in the cache alone.

    Returns:
        The folders. `OfflineError` where the hub is needed and is not asked, or cannot be reached.

    Raises:
        ModelError: the folder is no model, an adapter was asked for on top of an adapter, or a base was given
            for what is none.
    """
    if download:
        named = [name for name in (model, adapter, base) if isinstance(name, str)]
        fetch_models([*named, *(list_bases([model]) if adapter is None and base is None else [])])
    folder, source = find_model_folder(model, download=download), str(model)
    tuned = None if adapter is None else find_model_folder(adapter, download=download)
    processor_folder = folder
    if is_adapter_folder(folder):
        if adapter is not None:
            raise ModelError(
                f"{model}: is an adapter itself; another adapter on top is not supported",
                hint="Merge it into its base with hkd export, and put the other one on that.",
            )
        tuned = folder
        source = str(base or _read_base(folder))
        folder = _find_base(_pin_base(tuned) if base is None else source, tuned, download)
        processor_folder = tuned if any((tuned / name).is_file() for name in PROCESSOR_FILES) else folder
    elif base is not None and adapter is None:
        raise ModelError(f"{model}: is no adapter, so it has no base", hint="Leave --base out.")
    if not is_model_folder(folder):
        raise ModelError(
            f"{folder}: is no model: it has no config.json",
            hint="Name the folder that save_pretrained wrote.",
        )
    return ModelParts(folder, tuned, processor_folder, source)


def list_bases(models: Iterable[str | Path]) -> list[str]:
    """Names of the bases of those models that are adapters, as far as they are on this machine.

    Args:
        models: as `find_model_folder` takes them.

    Returns:
        As their adapters name them, with the commit where they know it; none that lies beside its adapter.
    """
    folders = [folder for model in models if (folder := find_local_folder(model)) is not None]
    bases = [(folder, _pin_base(folder)) for folder in folders if is_adapter_folder(folder)]
    return [base for folder, base in bases if not os.path.isdir(folder / base)]


def _read_base(folder: Path) -> str:
    name = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not name:
        raise ModelError(f"{folder}: the adapter does not say which base it is for", hint="Give --base.")
    return str(name)


def _pin_base(folder: Path) -> str:
    """The base of an adapter as it was when the adapter was trained: of the hub, that very commit."""
    name, told = _read_base(folder), folder / "base.json"
    said = read_json(told) if told.is_file() and is_hub_id(name) else {}
    pinned = said.get("source") == name and said.get("commit")
    return f"{split_hub_id(name)[0]}@{said['commit']}" if pinned else name


def _find_base(name: str, adapter: Path, download: bool) -> Path:
    """A base given by a relative path is looked for from here, then from the adapter's folder."""
    beside = adapter / name
    if not os.path.isdir(name) and os.path.isdir(beside):
        return beside
    try:
        return find_model_folder(name, download=download)
    except ModelError as error:
        raise ModelError(
            f"{adapter}: the adapter's base is not found: expected {name}",
            hint="If it has moved, give its place with --base.",
        ) from error
