"""Models to export as a run leaves them: an adapter folder with a trained projector, and a run around it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.loading import load_model
from hkdcli.models.prompt_file import write_prompt_file
from hkdcli.reporter import SilentReporter

SCENES = {"scenes": {"split": "test", "size": 4, "seed": 3, "tasks": ["hallucination", "factuality"]}}
VERSIONS = {"hkd": "0.1.0", "torch": "2.13.0"}


class Heard(SilentReporter):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def save_tuned(base: Path, folder: Path, *, scale: float = 0.3, projector: bool = True) -> Path:
    """An adapter (and projector) that moved by `scale` from where it began."""
    loaded = load_model(base)
    wrapped = attach_lora(loaded.model, rank=4, alpha=8, train_projector=projector)
    torch.manual_seed(0)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, scale)
        elif ".modules_to_save." in name:
            parameter.data.add_(torch.randn_like(parameter) * scale)
    save_adapter(wrapped, folder, source=str(base))
    loaded.processor.save_pretrained(folder)
    write_prompt_file(folder, loaded.processor)
    return folder


def write_run(
    folder: Path, model: str, *, name: str = "night-shift", test: Any = SCENES, **level: Any
) -> Path:
    """What a run folder says, without its weights: manifest.json and scores of the base on test."""
    top = {"name": "top", "model": "org/teacher-7b@main", "adapter": None, "train": None}
    base = {"name": "base", "model": model, "adapter": None, "train": {}, "tuning": {"lora": {"rank": 4}}}
    recipe = {
        "name": name,
        "seed": 7,
        "data": {"train": {"file": "/secret/place/judged.jsonl"}, "dev": None, "test": test},
        "pyramid": [{**top, "quantization": "nf4"}, {**base, **level}],
    }
    hashes = {"train": "ab" * 32, "test": "cd" * 32}
    folder.mkdir(parents=True, exist_ok=True)
    manifest = {"run_id": "x", "versions": VERSIONS, "data": hashes, "recipe": recipe}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    scores = folder / "eval" / "test" / "base"
    scores.mkdir(parents=True)
    metrics = {"micro_f1": 0.81234567, "exact_match": 0.5, "constant_micro_f1": 0.25}
    document = {
        "metrics": {**metrics, "hallucinated_f1": None},
        "tasks": {"hallucination": {"metrics": {**metrics, "hallucinated_f1": 0.625}}},
        "counts": {"records": 600},
    }
    (scores / "results.json").write_text(json.dumps(document))
    return folder


def list_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
