"""Folder or hub id -> model and processor, ready to answer or to be trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hkdcli.errors import MachineLimitError, ModelError
from hkdcli.models import families
from hkdcli.models.adapters import load_adapter
from hkdcli.models.folders import check_model_folder, check_no_remote_code, read_json
from hkdcli.models.locating import PROCESSOR_FILES, locate_model
from hkdcli.models.prompt_file import check_prompt_file
from hkdcli.models.quantization import (
    Quantization,
    QuantizedParts,
    build_quantization_config,
    check_quantizable,
    check_quantized,
    keep_differentiable,
)
from hkdcli.runtime import give_back_freed_memory, is_out_of_memory

_CHECKED_AT_ONCE = 2**22  # weights; the check takes a few times their memory


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with its processor.

    `source` names the model without its adapter as it was asked for; `adapter` the adapter, None without.
    """

    model: nn.Module
    processor: Any
    source: str
    adapter: str | None
    quantization: Quantization


def load_model(
    model: str | Path,
    *,
    adapter: str | Path | None = None,
    base: str | Path | None = None,
    quantization: Quantization = "none",
    quantized_parts: QuantizedParts = "language",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    trainable: bool = False,
) -> LoadedModel:
    """Load an image-text-to-text model, its adapter if it has one, and its processor.

    Args:
        model: what `find_model_folder` takes; an adapter folder loads its base first.
        adapter: an adapter to put on top.
        base: the base of an adapter folder, where it has moved.
        quantization: how to hold the weights of what is quantized.
        quantized_parts: `language`: the language model alone; `all`: vision tower and connector too. The head
            never is.
        device: where to put the model.
        dtype: type of the weights that are not quantized.
        trainable: False freezes everything; True leaves the adapter (or, without one, all weights) trainable.

    Returns:
        The model in evaluation mode, with its processor. `locate_model`, `check_model_folder`,
        `check_prompt_file` and `load_adapter` say what is refused.
    """
    device = torch.device(device)
    check_quantizable(quantization, device)
    parts = locate_model(model, adapter=adapter, base=base)
    tuned = parts.adapter
    processor = load_processor(parts.processor)
    check_prompt_file(tuned or parts.folder, processor)
    loaded = _load_weights(parts.folder, quantization, quantized_parts, device, dtype)
    loaded.requires_grad_(trainable and tuned is None and quantization == "none")
    if tuned is not None:
        loaded = load_adapter(loaded, tuned, trainable=trainable)
    check_finite(loaded)
    named = adapter if adapter is not None else tuned
    return LoadedModel(loaded.eval(), processor, parts.source, str(named) if named else None, quantization)


def load_processor(folder: Path) -> Any:
    """Load the processor of a model folder, torchvision or not.

    Args:
        folder: holds processor, image processor and tokenizer settings.

    Returns:
        A processor with an image processor and a tokenizer.

    Raises:
        ModelError: the folder has no usable processor, or asks for code of its own.
    """
    from transformers import AutoProcessor

    check_no_remote_code(folder)
    families.allow_missing_torchvision()
    families.prepare_processor_class(_read_processor_class(folder))
    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise whatever damaged settings lead to
        raise ModelError(
            f"{folder}: its processor cannot be loaded: {error}",
            hint="Download or copy the folder again; the processor's files must be in it.",
        ) from error
    if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
        raise ModelError(
            f"{folder}: its processor takes no images and text; is this a vision-language model?",
            hint="Use a model that reads images and text.",
        )
    return processor


def read_config(folder: Path) -> Any:
    """Read the configuration of a model.

    Args:
        folder: of the model.

    Returns:
        The transformers configuration.

    Raises:
        ModelError: transformers does not know such a model.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers raises whatever damaged settings lead to
        raise ModelError(
            f"{folder}: the model cannot be loaded: {error}",
            hint="Use a vision-language model that transformers knows, in a whole folder: hkd doctor MODEL.",
        ) from error


def check_finite(model: nn.Module) -> None:
    """Refuse weights that are NaN or infinite: transformers loads them without a word.

    Args:
        model: any model; quantized (integer) weights are passed over.

    Raises:
        ModelError: names the first few tensors.
    """
    bad = [
        name
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and not _is_finite(parameter.detach())
    ]
    if bad:
        raise ModelError(
            f"{len(bad)} weight tensors hold NaN or infinite numbers: {', '.join(bad[:3])}",
            hint="It is damaged, or its training had diverged: download or copy it again, or use another.",
        )


def _is_finite(weights: torch.Tensor) -> bool:
    """In parts: a whole embedding at once would take several times its memory."""
    parts = weights.reshape(-1).split(_CHECKED_AT_ONCE)
    return all(bool(torch.isfinite(part).all()) for part in parts)


def _load_weights(
    folder: Path,
    quantization: Quantization,
    parts: QuantizedParts,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """A model on its device; `MachineLimitError` where memory runs out on the way."""
    settings = check_model_folder(folder)
    if quantization != "none" and settings.get("quantization_config"):
        raise ModelError(
            f"{folder}: is quantized already", hint="Use quantization: none to load it as it is."
        )
    with _explain_failure(folder):
        options: dict[str, Any] = {"config": read_config(folder), "dtype": dtype}
        if quantization != "none":
            config = build_quantization_config(quantization, options["config"], device, parts)
            options |= {"quantization_config": config, "device_map": {"": device}}
        with quiet(), give_back_freed_memory() if quantization != "none" else nullcontext():
            model = _read_weights(folder, options)
        if not settings.get("quantization_config"):
            check_quantized(model, quantization, parts)
        keep_differentiable(model)
        return model if quantization != "none" else model.to(device)


def _read_weights(folder: Path, options: dict[str, Any]) -> Any:
    """The model with all of its weights.

    What is quantized is read, quantized and put on its device tensor by tensor: beside the quantized weights
    the host holds one tensor as it is computed with, and pages of the mapped files, which the system takes
    back when it needs room.
    """
    from transformers import AutoModelForImageTextToText

    model, report = AutoModelForImageTextToText.from_pretrained(
        folder,
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
        **options,
    )
    if report.get("missing_keys"):
        names = sorted(report["missing_keys"])
        raise ModelError(
            f"{folder}: the weights lack {len(names)} tensors: {', '.join(names[:3])}",
            hint="Download or copy the folder again: config.json and weights do not belong together.",
        )
    return model


@contextmanager
def _explain_failure(folder: Path) -> Iterator[None]:
    """Turn what goes wrong while a model is loaded into errors that say so."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise MachineLimitError(
                f"{folder}: memory ran out while the model was loaded: {str(error).splitlines()[0]}",
                hint="Use quantization: nf4, a smaller model, or a machine with more memory.",
            ) from error
        raise ModelError(
            f"{folder}: the model cannot be loaded: {error}",
            hint="Use a vision-language model that transformers knows, in a whole folder: hkd doctor MODEL.",
        ) from error


def _read_processor_class(folder: Path) -> str:
    for name in (*PROCESSOR_FILES, "tokenizer_config.json"):
        if (folder / name).is_file() and (found := read_json(folder / name).get("processor_class")):
            return str(found)
    return ""


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
