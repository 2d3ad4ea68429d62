"""The file that a trained level carries, prompt.json: which form of prompt it was trained on.

A judge that reads another chat template, tokenizer or image size than in its training answers worse, and
nothing fails: so the form is written down, and another one is refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from hkdcli.atomic import write_json
from hkdcli.data.prompts import PROMPT_VERSION, compute_prompt_hash
from hkdcli.errors import ModelError
from hkdcli.models.folders import read_json

FILE_NAME = "prompt.json"


def write_prompt_file(folder: Path, processor: Any) -> None:
    """Write down which form of prompt a model has been trained on.

    Args:
        folder: of the model or adapter.
        processor: that it was trained with.
    """
    write_json(folder / FILE_NAME, _describe(processor))


def check_prompt_file(folder: Path, processor: Any) -> None:
    """Check that prompts still have the form that a model was trained on.

    Args:
        folder: of the model or adapter; without a prompt.json anything goes.
        processor: that it is to be used with.

    Raises:
        ModelError: they have another; names the files that were edited, where that is known.
    """
    if not (folder / FILE_NAME).is_file():
        return
    trained, now = read_json(folder / FILE_NAME), _describe(processor)
    if trained.get("prompt_hash") == now["prompt_hash"]:
        return
    raise ModelError(
        f"{folder / FILE_NAME}: the model was trained on other prompts than it would be given now: "
        f"{_explain(folder, trained, now)}",
        hint="Put the files of its processor back as they were, or train it again as it is to be used.",
    )


def _describe(processor: Any) -> dict[str, Any]:
    return {
        "prompt_version": PROMPT_VERSION,
        "prompt_hash": compute_prompt_hash(processor),
        "image_processor": type(getattr(processor, "image_processor", None)).__name__,
    }


def _explain(folder: Path, trained: dict[str, Any], now: dict[str, Any]) -> str:
    for name in ("prompt_version", "image_processor"):
        if trained.get(name) != now[name]:
            return f"{name} was {trained.get(name)}, is {now[name]}"
    if changed := _list_changed(folder):
        return f"{', '.join(changed)} changed"
    hashes = (str(found.get("prompt_hash"))[:12] for found in (trained, now))
    return "its chat template, tokenizer or image processor has changed (hash {}, now {})".format(*hashes)


def _list_changed(folder: Path) -> list[str]:
    """Settings that are not what the folder was sealed with, or are gone; empty where it has no seal."""
    if not (folder / "MANIFEST.json").is_file():
        return []
    sealed = read_json(folder / "MANIFEST.json").get("files")
    settings = {} if not isinstance(sealed, dict) else sealed
    return [
        name
        for name, digest in settings.items()
        if not name.endswith(".safetensors") and _hash_file(folder / name) != digest
    ]


def _hash_file(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
