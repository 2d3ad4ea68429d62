"""Writing what an exported folder holds of a model: weights or adapter, and the files of its processor."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hkdcli.errors import GateError
from hkdcli.models import families
from hkdcli.models.adapters import merge_adapter
from hkdcli.models.folders import SCENES, read_json
from hkdcli.models.loading import LoadedModel, quiet
from hkdcli.models.locating import ModelParts

_PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "*.jinja",
    "additional_chat_templates/*.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.tiktoken",
)
_LOST_HINT = "the update may be lost in the rounding to {}: give --dtype float32, or --adapter"


def write_whole(folder: Path, load: Callable[..., LoadedModel], dtype: torch.dtype, *, merging: bool) -> None:
    """Write a model as plain transformers loads it, an adapter merged into its weights.

    The base is loaded unquantized, on the CPU. The update is added in float32 and the sum rounded once.

    Args:
        folder: where to write.
        load: `load_model` of this model; takes the number type.
        dtype: number type to write.
        merging: whether it has an adapter.
    """
    model = load(dtype=torch.float32 if merging else dtype).model
    if merging:
        model = merge_checked(model, dtype)
    with quiet():
        families.unwrap(model).save_pretrained(folder)


def merge_checked(model: nn.Module, dtype: torch.dtype) -> Any:
    """Merge an adapter, and see that it arrived.

    Args:
        model: a wrapped model, not quantized; used up.
        dtype: what the merged weights are rounded to.

    Returns:
        A plain model.

    Raises:
        GateError: its low-rank factors, or its trained copies of modules, differ from the base, and no weight
            of theirs is another than before.
    """
    before = [(kind, name, _hash(weight, dtype)) for kind, name, weight in _list_updated(model)]
    merged = merge_adapter(model).to(dtype)
    arrived = {kind for kind, name, was in before if _hash(merged.get_parameter(name), dtype) != was}
    for kind in sorted({kind for kind, _, _ in before} - arrived):
        raise GateError(
            f"merging changed nothing: every weight that the {kind} updates is as it was before. Nothing was "
            "exported",
            hint=_LOST_HINT.format(str(dtype).removeprefix("torch.")),
        )
    return merged


def write_adapter(folder: Path, adapter: Path, base: str, **held: str) -> None:
    """Copy an adapter; what names its base then names `base`, and says how it is held.

    Args:
        folder: where to write.
        adapter: its folder.
        base: name of the base.
        **held: `quantization` and `quantized_parts` of the base, for base.json.
    """
    shutil.copyfile(adapter / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    _copy_json(adapter / "adapter_config.json", folder, base_model_name_or_path=base)
    if (adapter / "base.json").is_file():
        _copy_json(adapter / "base.json", folder, source=base, **held)


def name_base(parts: ModelParts) -> str:
    """The base of an adapter, to be found from any folder of this machine: a local one by its whole path."""
    name = parts.source
    beside = () if parts.adapter is None else (parts.adapter / name,)
    is_local = not name.startswith(SCENES) and any(place.is_dir() for place in (Path(name), *beside))
    return str(parts.folder.resolve()) if is_local else name


def copy_processor(source: Path, folder: Path) -> None:
    """Copy tokenizer, image processor and chat template byte for byte.

    Saving them anew could lose what this machine cannot load, as a video processor without torchvision.

    Args:
        source: the folder that the processor is loaded from.
        folder: where to write.
    """
    for pattern in _PROCESSOR_FILES:
        for path in sorted(source.glob(pattern)):
            target = folder / path.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)


def _list_updated(wrapped: nn.Module) -> Iterator[tuple[str, str, Tensor]]:
    """What updates it, name in the plain model, and weight before merging, of all that really changes."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import ModulesToSaveWrapper

    for full_name, module in families.unwrap(wrapped).named_modules():
        if isinstance(module, BaseTunerLayer) and hasattr(module, "get_delta_weight"):
            if any(module.get_delta_weight(name).any() for name in module.active_adapters):
                yield "adapter", f"{full_name}.weight", module.get_base_layer().weight
        elif isinstance(module, ModulesToSaveWrapper):
            copies = dict(module.modules_to_save[module.active_adapters[0]].named_parameters())
            for name, weight in module.original_module.named_parameters():
                if not torch.equal(weight, copies[name]):
                    yield "trained connector", f"{full_name}.{name}", weight


def _hash(weight: Tensor, dtype: torch.dtype) -> str:
    rounded = weight.detach().to("cpu", dtype).contiguous().view(torch.uint8)
    return hashlib.sha256(rounded.numpy().data).hexdigest()


def _copy_json(path: Path, folder: Path, **changed: str) -> None:
    text = json.dumps({**read_json(path), **changed}, indent=2, sort_keys=True) + "\n"
    (folder / path.name).write_text(text, "utf-8")
