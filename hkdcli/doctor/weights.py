"""Weights on disk: whole, finite and complete, told without building the model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hkdcli.doctor.examination import Finding
from hkdcli.errors import ModelError
from hkdcli.models.folders import check_shard, list_shards, read_json
from hkdcli.models.loading import quiet, read_config
from hkdcli.reporter import Reporter

_MOST_NUMBERS = 16 * 2**20  # that are looked at together: 64 MiB in float32
_SHOWN = 3


def check_files(folders: Sequence[tuple[Path, str]]) -> Finding:
    """Check the files of weights of a model and its adapter, every one of them.

    Args:
        folders: (folder, kind), as `list_shards` takes them.

    Returns:
        The value are the shards that are whole.
    """
    whole: list[Path] = []
    problems: list[ModelError] = []
    for folder, kind in folders:
        try:
            shards = list_shards(folder, kind)
        except ModelError as error:
            problems.append(error)
            continue
        for path in shards:
            try:
                check_shard(path)
                whole.append(path)
            except ModelError as error:
                problems.append(error)
    if problems:
        found = "; ".join(error.message for error in problems)
        return Finding(found, "failed", problems[0].hint or "", value=whole)
    size = sum(path.stat().st_size for path in whole) / 2**20
    return Finding(f"{len(whole)} safetensors, {size:.1f} MiB, all whole", value=whole)


def check_finite(shards: Sequence[Path], reporter: Reporter) -> Finding:
    """Look for NaN and infinity in every tensor, a part of one shard at a time.

    Args:
        shards: Files that are whole.
        reporter: Told how far it is.

    Returns:
        Failed where there is one; names the first tensors.
    """
    if not shards:
        return Finding("there is no whole file to look into", "skipped")
    bad: list[str] = []
    count = 0
    reporter.start("looking for NaN", len(shards))
    for place, path in enumerate(shards, start=1):
        for name, parts in _open_tensors(path):
            count += 1
            if not all(_is_finite(part) for part in parts):
                bad.append(f"{name} ({path.name})")
        reporter.advance(place)
    reporter.finish()
    if not bad:
        return Finding(f"{count} tensors, all finite")
    more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
    return Finding(
        f"{len(bad)} of {count} tensors hold NaN or infinite numbers: {', '.join(bad[:_SHOWN])}{more}",
        "failed",
        "The checkpoint is damaged, or its training had diverged: take an earlier one.",
    )


def check_tensors(folder: Path) -> Finding:
    """Hold the names and shapes of the weights against the architecture, on no device.

    Args:
        folder: Of the model, its files whole.

    Returns:
        The value is the model on the meta device: shapes without numbers.
    """
    model, report = build_on_meta(folder)
    name = type(model).__name__
    if report is None:
        return Finding(f"{name}: stored quantized; names are told when it is loaded", "skipped", value=model)
    lost = sorted(map(str, report["missing_keys"]))
    other = sorted(
        f"{name} {tuple(there)} for {tuple(here)}" for name, there, here in report["mismatched_keys"]
    )
    unknown = sorted(map(str, report["unexpected_keys"]))
    said = [f"{len(lost)} missing: {_list(lost)}"] if lost else []
    said += [f"{len(other)} of another shape: {_list(other)}"] if other else []
    if said:
        hint = "Config and weights do not belong together, or a shard is missing: copy the folder again."
        return Finding("; ".join(said), "failed", hint)
    count = sum(1 for _ in model.parameters())
    if unknown:
        hint = "They are left out when it is loaded: see that config.json is the one of these weights."
        return Finding(
            f"{name} has no place for {len(unknown)}: {_list(unknown)}", "warning", hint, value=model
        )
    return Finding(f"{name}: all {count} tensors are there", value=model)


def build_on_meta(folder: Path) -> tuple[Any, Any]:
    """Build a model without numbers, and find out which weights it would lack.

    Args:
        folder: Of the model.

    Returns:
        The model, and what transformers reports of its loading; None of weights that are stored quantized,
        whose names belong to layers that are made while they are loaded.

    Raises:
        ModelError: Transformers cannot make it.
    """
    from transformers import AutoModelForImageTextToText

    config = read_config(folder)
    with quiet(), _no_reports():
        try:
            if is_stored_quantized(folder):
                del config.quantization_config
                with torch.device("meta"):
                    return AutoModelForImageTextToText.from_config(config), None
            model, report = AutoModelForImageTextToText.from_pretrained(
                folder,
                config=config,
                device_map="meta",
                trust_remote_code=False,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
            raise ModelError(
                f"{folder}: the model cannot be made: {error}",
                hint="See that config.json is whole and of a model that transformers knows.",
            ) from error
    return model, report


def is_stored_quantized(folder: Path) -> bool:
    """Whether the weights of a model lie quantized in its folder."""
    return bool(read_json(folder / "config.json").get("quantization_config"))


def _open_tensors(path: Path) -> Iterator[tuple[str, Iterator[Tensor]]]:
    """Each tensor of floating point numbers, in parts that are read when they are asked for."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping)
            yield name, _read_parts(file.get_slice(name))


def _read_parts(tensor: Any) -> Iterator[Tensor]:
    shape = tensor.get_shape()
    if len(shape) == 0:
        yield tensor[...]
        return
    row = max(1, int(torch.Size(shape[1:]).numel()))
    step = max(1, _MOST_NUMBERS // row)
    for start in range(0, shape[0], step):
        yield tensor[start : start + step]


def _is_finite(part: Tensor) -> bool:
    if not part.is_floating_point():
        return True
    if part.dtype.itemsize == 1:  # 8-bit floats know few operations
        part = part.float()
    return bool(torch.isfinite(part).all())


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")


@contextmanager
def _no_reports() -> Iterator[None]:
    """Without the table that transformers logs of missing weights: they are told by us."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
