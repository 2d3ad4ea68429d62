"""Model folders: found by name, and refused before anything in them is run.

Only safetensors and plain settings are read. Pickles and Python files of a model are neither downloaded nor
opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hkdcli.errors import ModelError, OfflineError
from hkdcli.models import hub
from hkdcli.models.advice import advise_conversion, advise_own_code

SCENES = "scenes:"
_SETTINGS = ("config.json", "processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def find_model_folder(name: str | Path, *, download: bool = True) -> Path:
    """Find, and where needed download, the folder of a model or adapter.

    Args:
        name: `scenes:NAME` (a bundled model), a folder, a run folder (its `student/`), or a hub id with an
            optional `@revision`.
        download: False looks for a hub id in the cache alone.

    Returns:
        An existing folder. `OfflineError` where the model is not, or not wholly, in the hub's cache and could
        not be fetched; `fetch_models` says what else.

    Raises:
        ModelError: there is no such folder, and the name is none of the hub.
    """
    text = str(name)
    if text.startswith(SCENES):
        from hkdcli.scenes.pretrained import model_folder

        return Path(model_folder(text.removeprefix(SCENES)))
    folder = Path(text)
    if os.path.isdir(folder):  # False too for a name that no folder can have
        student = folder / "student"
        return student if student.is_dir() and not is_model_folder(folder) else folder
    if isinstance(name, Path) or not hub.is_hub_id(text):
        raise ModelError(
            f"{text}: no such model folder",
            hint="Give a folder, a run folder, a hub id as org/name, or scenes:NAME.",
        )
    if download:
        from hkdcli.models.fetching import fetch_models

        fetch_models([text])
    found = hub.look_up(text)
    if isinstance(found, hub.Missing):
        hub.refuse_missing([found])
    return found


def find_local_folder(name: str | Path) -> Path | None:
    """Find the folder of a model or adapter without downloading anything.

    Args:
        name: as `find_model_folder` takes it.

    Returns:
        The folder, or None for a hub id that is not in the cache. A name that can be no hub id and is no
        folder is a ModelError.
    """
    try:
        return find_model_folder(name, download=False)
    except OfflineError:
        return None


def is_adapter_folder(folder: Path) -> bool:
    """Whether a folder holds an adapter rather than a whole model."""
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def is_model_folder(folder: Path) -> bool:
    """Whether a folder holds a model or an adapter."""
    return (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder; raises ModelError naming the file."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path}: cannot be read as JSON: {error}", hint="Download or copy the folder again."
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: holds no JSON object", hint="Download or copy the folder again.")
    return value


def check_model_folder(folder: Path) -> dict[str, Any]:
    """Refuse a folder that cannot or must not be loaded, before loading it.

    Args:
        folder: a whole model.

    Returns:
        Its `config.json`.

    Raises:
        ModelError: no configuration, remote code, pickled weights, a shard missing or damaged.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json", hint="Name the folder that save_pretrained wrote.")
    check_no_remote_code(folder)
    check_weights(folder, "model")
    return read_json(folder / "config.json")


def check_no_remote_code(folder: Path) -> None:
    """Refuse a folder whose settings ask for Python code of its own.

    Args:
        folder: a model or adapter folder.

    Raises:
        ModelError: some setting has an `auto_map`; names the files that would run.
    """
    asked: set[str] = set()
    for name in _SETTINGS:
        if (folder / name).is_file():
            asked |= set(_list_code_files(read_json(folder / name).get("auto_map")))
    if asked:
        present = sorted(path.name for path in folder.glob("*.py"))
        raise ModelError(
            f"{folder}: needs code of its own, which is never run: {', '.join(sorted(asked | set(present)))}",
            hint=advise_own_code(folder, _read_model_type(folder)),
        )


def check_weights(folder: Path, kind: str) -> None:
    """Check that the weights are safetensors, all there, and whole; a ModelError names what is not.

    Args:
        folder: a model folder, or an adapter folder.
        kind: how the file names begin: `model` or `adapter_model`.
    """
    for path in list_shards(folder, kind):
        check_shard(path)


def list_shards(folder: Path, kind: str) -> list[Path]:
    """List the files that hold a model's weights; they need not exist.

    Args:
        folder: a model folder, or an adapter folder.
        kind: how the file names begin: `model` or `adapter_model`.

    Returns:
        At least one path, sorted.

    Raises:
        ModelError: there are no weights, or only pickled ones, or the index leads out of the folder.
    """
    index = folder / f"{kind}.safetensors.index.json"
    if index.is_file():
        places = read_json(index).get("weight_map", {})
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise ModelError(
                f"{index}: its weight_map does not say in which file each tensor is",
                hint="Download or copy the folder again.",
            )
        names = sorted(set(places.values()))
        if any(Path(name).name != name for name in names):
            raise ModelError(
                f"{index}: names a shard outside its folder",
                hint="Take the model from elsewhere: its index names files that are not its own.",
            )
    else:
        names = [f"{kind}.safetensors"] if (folder / f"{kind}.safetensors").is_file() else []
    if not names:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise ModelError(
                f"{folder}: has only pickled weights ({', '.join(pickles)}), which can run code when opened",
                hint=advise_conversion(folder, kind),
            )
        raise ModelError(f"{folder}: no {kind}.safetensors", hint="Download or copy the folder again.")
    return [folder / name for name in names]


def check_shard(path: Path) -> None:
    """Check that one file of weights is there and whole, by its header.

    Args:
        path: the file.

    Raises:
        ModelError: it is missing, cut off, or no safetensors; says so where it is a web page.
    """
    from safetensors import SafetensorError, safe_open

    if not os.path.isfile(path):
        raise ModelError(f"{path}: shard is missing", hint="Download or copy the folder again.")
    try:
        with safe_open(path, framework="np") as shard:
            shard.keys()
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{path}: shard is damaged or cut off: {_name_impostor(path) or error}",
            hint="Download or copy the folder again.",
        ) from error


def _name_impostor(path: Path) -> str:
    """What a file is that came in place of weights; empty where it is none of the usual."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "it is a web page"
    return "it is a git-lfs pointer; run git lfs pull" if start.startswith(b"version https://git-lfs") else ""


def _list_code_files(auto_map: Any) -> Iterator[str]:
    """Files named by an auto_map: "org/repo--module.Class" or "module.Class", or lists of these."""
    if isinstance(auto_map, dict):
        for value in auto_map.values():
            for name in value if isinstance(value, list | tuple) else [value]:
                if name:
                    yield str(name).split("--")[-1].split(".")[0] + ".py"


def _read_model_type(folder: Path) -> str:
    settings = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    return str(settings.get("model_type") or "")
