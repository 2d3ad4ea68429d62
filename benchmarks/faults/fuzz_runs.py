"""Targets that read what runs leave: manifests, checkpoints, stored signals."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from fuzz_targets import Seeds, Target

from hkdcli.checkpoints import find_latest_checkpoint, find_run_id, publish_checkpoint
from hkdcli.distill import record_file
from hkdcli.distill.checkpoint import (
    Progress,
    TrainingState,
    collect_training,
    load_weights,
    read_training,
    write_training,
)
from hkdcli.distill.signal_store import SignalStore, StoredRecord
from hkdcli.errors import DataError, ModelError, UsageError
from hkdcli.exporting.origin import read_origin
from hkdcli.opening import find_model
from hkdcli.runs import Facts, check_unchanged, read_manifest

PYRAMID = [
    {"name": "top", "model": "scenes:large", "adapter": None, "train": None, "quantization": "nf4"},
    {"name": "base", "model": "scenes:small", "adapter": None, "train": {}, "quantization": "none"},
]
RECIPE = {"name": "night", "seed": 7, "data": {"train": {"scenes": {}}}, "pyramid": PYRAMID}
MANIFEST = {"run_id": "ab" * 16, "data": {"train": "cd" * 32}, "models": {}, "recipe": RECIPE}
STORE_KEY = {"model": "m" * 64, "adapter": None, "signal": {"top_k": 5, "states": {"layers": [1], "grid": 2}}}
RESULTS = {"metrics": {"micro_f1": 0.5}, "tasks": {"factuality": {"metrics": {"micro_f1": 0.5}}}}


def empty_folder(folder: Path) -> Path:
    """A folder without anything in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def read_run(variant: str, content: bytes, folder: Path) -> None:
    run = empty_folder(folder / "run")
    (run / "student").mkdir()
    files = dict(make_run_files()) | {variant: content}
    for name, whole in files.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_bytes(whole)
    manifest = read_manifest(run)
    assert isinstance(find_run_id(run / "levels"), str)
    for model in (run, run / "student"):
        origin = read_origin(str(model), None, None)
        assert all(isinstance(value, float) for each in origin.runs for _, _, value in each.list_scores())
    find_model(str(run / "student"), None)
    for level in (None, "top"):
        assert isinstance(find_model(str(run), level).model, str)
    check_unchanged(run, manifest or {}, Facts(RECIPE, "", MANIFEST["data"], "hkd"))


def make_run_files() -> Seeds:
    yield "manifest.json", json.dumps(MANIFEST).encode()
    yield "student/base.json", b'{"source": "scenes:small", "quantization": "nf4", "quantized_parts": "all"}'
    yield "student/README.md", b"---\nlicense: apache-2.0\ntags: [a]\n---\ntext\n"
    yield "eval/test/base/results.json", json.dumps(RESULTS).encode()


def read_checkpoint(variant: str, content: bytes, folder: Path) -> None:
    """A file of a checkpoint, sealed as if it had been written so; or the seal itself."""
    level = empty_folder(folder / "run") / "checkpoints"
    (folder / "run" / "manifest.json").write_bytes(json.dumps(MANIFEST).encode())
    files = dict(make_checkpoint_files())
    seal = files.pop("MANIFEST.json")
    written = files if variant == "MANIFEST.json" else files | {variant: content}
    publish_checkpoint(level, 3, lambda into: write_files(into, written))
    (level / "step-000003" / "MANIFEST.json").write_bytes(
        content if variant == "MANIFEST.json" else _seal(seal, written)
    )
    found = find_latest_checkpoint(level)
    if found is None:
        raise ModelError("no complete checkpoint")
    state = _build_state()
    progress = read_training(found, state)
    assert progress.step >= 0 and progress.seconds >= 0 and progress.evaluations_since >= 0
    load_weights(found, state.modules)
    state.modules["student"](torch.ones(1, 3)).sum().backward()
    state.optimizer.step()  # what was loaded has to be usable


@cache
def make_checkpoint_files() -> Seeds:
    import tempfile

    state = _build_state()
    state.modules["student"](torch.ones(1, 3)).sum().backward()
    state.optimizer.step()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_training(folder, collect_training(state), Progress(3, 1.5, 2, 0.5, 1))
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    seal = {"step": 3, "run_id": MANIFEST["run_id"], "files": {}}
    return [*files.items(), ("MANIFEST.json", _seal(json.dumps(seal).encode(), files))]


def _build_state() -> TrainingState:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    return TrainingState({"student": model}, torch.optim.AdamW(model.parameters()))


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files by name into a folder."""
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _seal(seal: bytes, files: dict[str, bytes]) -> bytes:
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return json.dumps({**json.loads(seal), "files": hashes}).encode()


def read_signals(variant: str, content: bytes, folder: Path) -> None:
    """A store with a damaged file is read as far as it goes, and can be written to again."""
    store = empty_folder(folder / "store")
    key = json.dumps(STORE_KEY).encode()
    (store / "key.json").write_bytes(content if variant == "key.json" else key)
    records = _mend_records(content) if variant == "checksums mended" else content
    (store / "a.records").write_bytes(b"" if variant == "key.json" else records)
    opened = SignalStore.open(store, STORE_KEY)
    with opened.write_shard("a") as writer:
        writer.append([_make_record("new")])
    again = SignalStore.open(store, STORE_KEY)
    assert again.keys() == opened.keys() and again.keys() >= {_make_key("new")}
    for name in sorted(again.keys()):
        again.read(name)


def make_signal_files() -> Seeds:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        store = SignalStore.open(Path(name), STORE_KEY)
        with store.write_shard("a") as writer:
            writer.append([_make_record("one"), _make_record("two")])
            writer.append([_make_record("three")])
        whole = (Path(name) / "a.records").read_bytes()
    yield "key.json", json.dumps(STORE_KEY).encode()
    yield "a.records", whole
    yield "checksums mended", whole


def _make_key(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def _make_record(name: str) -> StoredRecord:
    arrays = {"log_truth": np.zeros(1, np.float32), "choices": np.arange(3.0)[None]}
    return StoredRecord(_make_key(name), name, arrays)


def _mend_records(content: bytes) -> bytes:
    """Give every record the checksums of what it holds now, and the length that reaches to the next."""
    seed = hashlib.sha256(json.dumps(STORE_KEY, sort_keys=True).encode()).digest()
    magic, *parts = content.split(record_file._MAGIC)
    mended = [magic]
    for part in parts:
        key, payload = part[12:44].ljust(32, b"\0"), part[76:]
        core = struct.pack("<Q32s", len(payload), key)
        rest = core + hashlib.sha256(seed + core + payload).digest()
        mended.append(record_file._MAGIC + struct.pack("<I", zlib.crc32(rest)) + rest + payload)
    return b"".join(mended)


def list_names(files: Seeds) -> tuple[str, ...]:
    """What seeds stand for, each once."""
    return tuple(dict.fromkeys(name for name, _ in files))


TARGETS = {
    "run": Target(read_run, "find_model", list_names(make_run_files()), (UsageError,), make_run_files),
    "checkpoint": Target(
        read_checkpoint,
        "read_training",
        (
            "weights.safetensors",
            "optimizer.safetensors",
            "random.safetensors",
            "progress.json",
            "MANIFEST.json",
        ),
        (ModelError,),
        make_checkpoint_files,
    ),
    "signal store": Target(
        read_signals,
        "SignalStore",
        ("key.json", "a.records", "checksums mended"),
        (DataError, UsageError),
        make_signal_files,
    ),
}
