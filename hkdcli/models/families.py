"""What a model family needs: the one place where families differ.

Dimensions: B rows, L positions.
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from hkdcli.errors import ModelError, SetupError

LANGUAGE_MODEL_NAMES = ("language_model", "text_model")
CONNECTOR_NAMES = ("multi_modal_projector", "connector", "visual.merger", "visual.deepstack_merger_list")


def allow_missing_torchvision() -> None:
    """Let processors load without torchvision, by leaving their video part out.

    Still images never reach a video processor, and the image processors choose their PIL backend themselves.
    """
    from transformers.processing_utils import ProcessorMixin
    from transformers.utils import is_torchvision_available

    if is_torchvision_available() or getattr(ProcessorMixin, "_hkd_without_video", False):
        return
    get_attributes = ProcessorMixin.get_attributes.__func__

    def get_still_attributes(cls: type) -> list[str]:
        return [name for name in get_attributes(cls) if not name.startswith("video")]

    ProcessorMixin.get_attributes = classmethod(get_still_attributes)
    ProcessorMixin.video_processor = None
    ProcessorMixin._hkd_without_video = True


def prepare_processor_class(name: str) -> None:
    """Make a processor class ready to be used; most need nothing.

    Args:
        name: of the class, as a model folder gives it.

    Raises:
        SetupError: it needs a package that is not installed.
    """
    if name != "SmolVLMProcessor":
        return
    if importlib.util.find_spec("num2words") is None:
        raise SetupError("SmolVLM models need the package num2words", hint='pip install "hkd[smolvlm]"')
    allow_missing_torchvision()
    from transformers import SmolVLMProcessor
    from transformers.utils import is_torchvision_available

    if not is_torchvision_available():
        # The one processor that must be given a video processor; its chat template asks for two settings.
        SmolVLMProcessor.__init__.__defaults__ = (None, *SmolVLMProcessor.__init__.__defaults__[-2:])
        SmolVLMProcessor.video_processor = SimpleNamespace(num_frames=None, fps=None)


def unwrap(model: nn.Module) -> Any:
    """The transformers model inside an adapter wrapper; LoRA layers stay in place."""
    get_base_model = getattr(model, "get_base_model", None)
    return get_base_model() if callable(get_base_model) else model


def get_backbone(model: nn.Module) -> Any:
    """The part of an image-text-to-text model that ends before the language-model head."""
    return unwrap(model).model


def get_language_model(model: nn.Module) -> tuple[str, nn.Module]:
    """Full name (for example `model.language_model`) and module of the language model."""
    backbone = get_backbone(model)
    for name in LANGUAGE_MODEL_NAMES:
        if (module := getattr(backbone, name, None)) is not None:
            return f"model.{name}", module
    raise AttributeError(f"{type(backbone).__name__} has none of {', '.join(LANGUAGE_MODEL_NAMES)}")


def get_vision_parts(model: nn.Module) -> dict[str, nn.Module]:
    """Full name -> module of all that is not the language model: vision tower, connector."""
    children = get_backbone(model).named_children()
    return {f"model.{name}": module for name, module in children if name not in LANGUAGE_MODEL_NAMES}


def find_connector(model: nn.Module) -> list[str]:
    """Full names of the modules that bring vision features to the width of the language model.

    Args:
        model: an image-text-to-text model, adapter-wrapped or not.

    Returns:
        At least one name, for example `model.multi_modal_projector`.

    Raises:
        ModelError: none is known by name.
    """
    backbone, found = get_backbone(model), []
    for name in CONNECTOR_NAMES:
        with suppress(AttributeError):
            module = backbone.get_submodule(name)
            entries = (
                [str(index) for index in range(len(module))] if isinstance(module, nn.ModuleList) else []
            )
            found += [f"model.{name}.{entry}" for entry in entries] or [f"model.{name}"]
    if not found:
        raise ModelError(
            f"the projector is not found: {type(backbone).__name__} has none of {', '.join(CONNECTOR_NAMES)}",
            hint="Set train_projector: false.",
        )
    return found


def compute_position_ids(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Positions of a padded batch, and where each row goes on.

    Models with multimodal rotary embeddings count an image by its longer side, so that the next position is
    not the number of tokens; and they remember the last batch on the module, which goes stale. Explicit
    positions avoid both.

    Args:
        model: an image-text-to-text model, adapter-wrapped or not.
        inputs: model inputs with `input_ids` and `attention_mask` of shape [B, L].

    Returns:
        Position ids, [B, L] or [3, B, L] as the model takes them; the next free position of each row, [B].
    """
    backbone, mask = get_backbone(model), inputs["attention_mask"]
    get_rope_index = getattr(backbone, "get_rope_index", None)
    if get_rope_index is None:
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
        return positions, mask.long().sum(-1)
    accepted = inspect.signature(get_rope_index).parameters
    positions, _ = get_rope_index(**{name: value for name, value in inputs.items() if name in accepted})
    masked = positions.masked_fill(mask[None] == 0, -1)
    return positions, masked.amax(dim=(0, 2)) + 1


def continue_positions(position_ids: Tensor, continued: Tensor) -> Tensor:
    """Bring continuation positions [B, L] of text to the form of `position_ids` (three axes or one)."""
    return continued[None].expand(position_ids.shape[0], -1, -1) if position_ids.dim() == 3 else continued


def can_share_prefix(model: nn.Module, length: int) -> bool:
    """Whether branches of up to `length` tokens in all can attend to one cached prefix through a mask.

    Not so where a layer keeps a running state instead of keys and values, or where its window is shorter.

    Args:
        model: an image-text-to-text model, adapter-wrapped or not.
        length: tokens of prefix and branches together.

    Returns:
        True where sharing gives the same numbers as whole passes.
    """
    config = unwrap(model).config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= {"full_attention", "sliding_attention"}:
        return False
    window = getattr(config, "sliding_window", None)
    return "sliding_attention" not in kinds or not window or length <= window


def cap_logits(model: nn.Module, logits: Tensor) -> Tensor:
    """Apply the model's own soft cap on logits, which lives outside its head; most models have none."""
    cap = getattr(unwrap(model).config.get_text_config(), "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def get_vocabulary_size(model: nn.Module) -> int:
    """Columns of the language-model head, padding included."""
    return int(unwrap(model).get_output_embeddings().weight.shape[0])
