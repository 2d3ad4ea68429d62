"""A model, from its folder to its answers: everything that `hkd infer` and training would stumble over."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hkdcli.data.prompts import PromptBuilder, compute_prompt_hash, identity_presentation
from hkdcli.doctor import quantizing
from hkdcli.doctor.adapter import check_adapter
from hkdcli.doctor.examination import Examination, Finding
from hkdcli.doctor.weights import check_files, check_finite, check_tensors, is_stored_quantized
from hkdcli.errors import ModelError, OfflineError
from hkdcli.inferring import find_calibration
from hkdcli.models.folders import check_no_remote_code
from hkdcli.models.loading import LoadedModel, load_model, load_processor
from hkdcli.models.locating import ModelParts, locate_model
from hkdcli.models.prompt_file import FILE_NAME as PROMPT_FILE
from hkdcli.models.prompt_file import check_prompt_file
from hkdcli.models.quantization import Quantization, describe_quantization
from hkdcli.opening import ModelSource
from hkdcli.runtime import Runtime, has_room
from hkdcli.scenes.source import load_scenes

_CHECKS = (
    "code",
    "files",
    "finite",
    "tensors",
    "processor",
    "template",
    "prompt",
    "quantization",
    "calibration",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model is examined.

    Attributes:
        source: What is to be loaded.
        runtime: Where it would run.
        base: Where an adapter's base is, should it have moved.
        quantization: Hold it this way too, and compare the answers; "none" compares nothing.
    """

    source: ModelSource
    runtime: Runtime
    base: str | None = None
    quantization: Quantization = "none"


def examine_model(examination: Examination, plan: Plan, prefix: str = "model") -> None:
    """Check a model; nothing is downloaded.

    Args:
        examination: Told what was found.
        plan: What is examined, and how far.
        prefix: What the names of the checks begin with.
    """
    wanted = plan.source.quantization if plan.quantization == "none" else plan.quantization
    if wanted != "none":
        examination.look(f"{prefix}.device", quantizing.check_device, wanted, plan.runtime.device)
    parts = examination.look(f"{prefix}.folder", find_parts, plan.source, plan.base)
    if parts is None:
        examination.skip([f"{prefix}.{name}" for name in _CHECKS], "there is no folder to look into")
        return
    model = _examine_weights(examination, parts, prefix)
    processor = _examine_processor(examination, parts, prefix)
    if model is None:
        rest = ["quantization", "calibration", *(["adapter"] if parts.adapter else [])]
        examination.skip([f"{prefix}.{name}" for name in rest], "the model cannot be built")
        return
    if parts.adapter is not None:
        examination.look(f"{prefix}.adapter", check_adapter, parts.folder, parts.adapter)
    is_sound = not any(examination.has_failed(f"{prefix}.{name}") for name in ("device", "adapter", *_CHECKS))
    examination.look(f"{prefix}.quantization", _check_quantization, plan, parts, model, is_sound)
    examination.look(f"{prefix}.calibration", _check_calibration, plan, parts, processor, is_sound)


def find_parts(source: ModelSource, base: str | None = None) -> Finding:
    """Find the folders of a model on this machine.

    Args:
        source: The model.
        base: Where an adapter's base is, should it have moved.

    Returns:
        The value are its parts.

    Raises:
        OfflineError: A hub id of it is not in the cache.
    """
    try:
        parts = locate_model(source.model, adapter=source.adapter, base=base, download=False)
    except OfflineError as error:
        name = source.model if source.adapter is None else f"{source.model} or {source.adapter}"
        told = error.message if "lacks files" in error.message else f"{name}: is not on this machine"
        raise OfflineError(f"{told}; doctor downloads nothing", hint=error.hint) from error
    adapted = f", adapter {parts.adapter}" if parts.adapter else ""
    return Finding(f"{parts.folder}{adapted}", value=parts)


def _examine_weights(examination: Examination, parts: ModelParts, prefix: str) -> Any:
    """Files, numbers and names of the weights; the model on the meta device where it can be built."""
    folders = list(dict.fromkeys(each for each in (parts.folder, parts.adapter, parts.processor) if each))
    examination.look(f"{prefix}.code", _check_code, folders)
    files = [(parts.folder, "model"), *([(parts.adapter, "adapter_model")] if parts.adapter else [])]
    whole = examination.look(f"{prefix}.files", check_files, files) or []
    examination.look(f"{prefix}.finite", check_finite, whole, examination.reporter)
    if any(examination.has_failed(f"{prefix}.{name}") for name in ("code", "files")):
        examination.skip([f"{prefix}.tensors"], "code or files of the model are refused")
        return None
    return examination.look(f"{prefix}.tensors", check_tensors, parts.folder)


def _examine_processor(examination: Examination, parts: ModelParts, prefix: str) -> Any:
    processor = examination.look(f"{prefix}.processor", _check_processor, parts.processor)
    if processor is None:
        examination.skip([f"{prefix}.template", f"{prefix}.prompt"], "there is no processor")
        return None
    examination.look(f"{prefix}.template", _check_template, processor)
    examination.look(f"{prefix}.prompt", _check_prompt, parts.adapter or parts.folder, processor)
    return processor


def _check_code(folders: list[Path]) -> Finding:
    problems = []
    for folder in folders:
        try:
            check_no_remote_code(folder)
        except ModelError as error:
            problems.append(error)
    if problems:
        return Finding("; ".join(each.message for each in problems), "failed", problems[0].hint or "")
    return Finding("needs no code of its own")


def _check_processor(folder: Path) -> Finding:
    processor = load_processor(folder)
    names = ", ".join(type(each).__name__ for each in (processor, processor.image_processor))
    return Finding(f"{names}; {len(processor.tokenizer)} tokens", value=processor)


def _check_template(processor: Any) -> Finding:
    """Build the prompts of a drawn record of each task."""
    builder = PromptBuilder(processor)
    for example in load_scenes("test", size=2).examples:
        builder.build(example, identity_presentation(example))
    return Finding("the chat template takes one image and text, and opens the answer")


def _check_prompt(folder: Path, processor: Any) -> Finding:
    check_prompt_file(folder, processor)
    own = compute_prompt_hash(processor)[:12]
    if (folder / PROMPT_FILE).is_file():
        return Finding(f"prompts are those that it was trained on ({own})")
    return Finding(f"prompt hash {own}; no {PROMPT_FILE} says what it was trained on")


def _check_quantization(plan: Plan, parts: ModelParts, model: Any, is_sound: bool) -> Finding:
    stored = is_stored_quantized(parts.folder)
    if plan.quantization == "none" and not stored:
        return quantizing.describe_plan(model, plan.source.quantized_parts)
    if reason := _find_obstacle(plan, parts, is_sound):
        return Finding(f"it was not loaded: {reason}", "skipped")
    if stored:  # a wish to quantize it once more is refused by the loader
        return Finding(describe_quantization(_load(plan, parts, plan.quantization).model))
    return quantizing.compare_answers(partial(_load, plan, parts), plan.quantization)


def _check_calibration(plan: Plan, parts: ModelParts, processor: Any, is_sound: bool) -> Finding:
    """Whether the calibration beside the weights belongs to them and their prompts."""
    from hkdcli.inference.calibration_file import read_calibration
    from hkdcli.models.fingerprints import compute_weights_hash

    path = find_calibration(plan.source)
    if path is None or not path.is_file():
        return Finding("there is none: probabilities are the model's own")
    calibration = read_calibration(path)
    hint = "Calibrate again: hkd infer MODEL --calibrate DEV."
    if processor is not None and calibration.prompt_hash != compute_prompt_hash(processor):
        return Finding(f"{path}: belongs to other prompts", "warning", hint)
    if reason := _find_obstacle(plan, parts, is_sound):
        return Finding(f"{path}: whether it belongs to these weights was not checked: {reason}", "skipped")
    loaded = _load(plan, parts, plan.source.quantization)
    if calibration.weights_hash != compute_weights_hash(loaded.model):
        found = f"{path}: belongs to other weights, or another number type or engine; it is left aside"
        return Finding(found, "warning", hint)
    return Finding(f"{path}: belongs to these weights, {len(calibration.fits)} ways of asking")


def _find_obstacle(plan: Plan, parts: ModelParts, is_sound: bool) -> str:
    """Why a model is not loaded; empty where it can be."""
    if not is_sound:
        return "an earlier check has failed"
    return "" if has_room(parts.folder, plan.runtime.device) else "there is too little memory to load it"


def _load(plan: Plan, parts: ModelParts, quantization: Quantization) -> LoadedModel:
    """Load by the folders that were found, so that the hub is not asked."""
    options: dict[str, Any] = {"quantization": quantization, "quantized_parts": plan.source.quantized_parts}
    options |= {"device": plan.runtime.device, "dtype": plan.runtime.dtype}
    if plan.source.adapter is None and parts.adapter is not None:  # the model is an adapter itself
        return load_model(parts.adapter, base=parts.folder, **options)
    return load_model(parts.folder, adapter=parts.adapter, **options)
