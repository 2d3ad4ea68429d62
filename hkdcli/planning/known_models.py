"""Models that a plan knows without a download: their shapes, and how they read, as small JSON files.

Of a known model a folder without weights is written: its configuration, and a processor that makes of an
image what the real one does. Only its tokenizer is a stand-in, which counts a word or a piece of eight
letters as a token: the tokens of a record's text are near the truth, those of its image exact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from hkdcli.models.families import allow_missing_torchvision, prepare_processor_class

_KNOWN = Path(__file__).parent / "known"
_PIECES = r" ?\p{L}{1,8}|\p{N}| ?[^\s\p{L}\p{N}]{1,3}|\s+"
_TURN, _END, _PAD = "<|turn|>", "<|end|>", "<|pad|>"


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model by its hub id: `shape` is its own part of the configuration, `family` what it shares."""

    name: str
    shape: dict[str, Any]
    family: dict[str, Any]


@cache
def list_known_models() -> dict[str, KnownModel]:
    """All known models, by hub id."""
    families = [json.loads(path.read_text("utf-8")) for path in sorted(_KNOWN.glob("*.json"))]
    return {
        name: KnownModel(name, shape, family)
        for family in families
        for name, shape in family["models"].items()
    }


def write_known_folder(known: KnownModel, folder: Path) -> Path:
    """Write a model folder that has everything but weights, and a stand-in for its tokenizer.

    Args:
        known: the model.
        folder: where to write; made if absent.

    Returns:
        The folder.
    """
    processor = build_processor(known.family["model_type"])
    folder.mkdir(parents=True, exist_ok=True)
    build_config(known, processor.tokenizer).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def build_config(known: KnownModel, tokenizer: Any | None = None) -> Any:
    """Build the transformers configuration of a known model.

    Args:
        known: the model.
        tokenizer: says where its special tokens are; None: the shapes alone are wanted.

    Returns:
        The configuration.
    """
    from transformers import AutoConfig

    ids = {}
    if tokenizer is not None:
        ids = {key: tokenizer.convert_tokens_to_ids(t) for key, t in known.family["token_ids"].items()}
    return AutoConfig.for_model(known.family["model_type"], **known.shape, **ids)


@cache
def build_processor(model_type: str) -> Any:
    """Build a family's processor: its own class and image settings, with a stand-in tokenizer.

    Args:
        model_type: of the family, as transformers calls it.

    Returns:
        The processor.
    """
    import transformers

    family = next(m.family for m in list_known_models().values() if m.family["model_type"] == model_type)

    allow_missing_torchvision()
    prepare_processor_class(family["processor"])
    images = getattr(transformers, family["image_processor"])(**family["image_processor_settings"])
    return getattr(transformers, family["processor"])(
        images,
        build_tokenizer(family["special_tokens"], family["tokens"]),
        chat_template=_build_template(family["image_text"]),
        **family["processor_settings"],
    )


def build_tokenizer(special: dict[str, str], size: int) -> Any:
    """Build a tokenizer that knows special tokens and single letters, and counts all else in pieces.

    Args:
        special: named special tokens.
        size: how many tokens it says it has, as many as the real one.

    Returns:
        A fast tokenizer.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    own = dict.fromkeys([_PAD, "<|piece|>", _TURN, _END, *special.values()])
    letters = [f"{before}{letter}" for letter in ascii_uppercase for before in ("", " ")]
    known = [*own, *letters, ",", ", ", "\n"]
    vocabulary = {token: place for place, token in enumerate(known)}
    vocabulary |= {f"<|{place}|>": place for place in range(len(known), size)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<|piece|>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        extra_special_tokens={**special, "turn": _TURN},
        eos_token=_END,
        pad_token=_PAD,
        unk_token="<|piece|>",
        clean_up_tokenization_spaces=False,
    )
    for name, token in special.items():  # some processors ask for the ids by name
        setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    return tokenizer


def _build_template(image: str) -> str:
    return (
        "{% for m in messages %}<|turn|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for c in m.content %}{% if c.type == 'image' %}"
        + image
        + "{% elif 'text' in c %}{{ c.text }}{% endif %}{% endfor %}{% endif %}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
    )
