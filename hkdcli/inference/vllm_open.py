"""A model -> a scorer that asks vLLM: everything that can be refused is, before the engine starts."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hkdcli.data.collate import Collator
from hkdcli.data.prompts import compute_prompt_hash
from hkdcli.errors import ModelError
from hkdcli.inference.vllm_program import find_vllm
from hkdcli.inference.vllm_prompts import PromptMessages
from hkdcli.inference.vllm_scorer import VllmScorer
from hkdcli.inference.vllm_server import ServedModel, VllmServer
from hkdcli.models.fingerprints import compute_revision
from hkdcli.models.folders import check_model_folder, check_weights, read_json
from hkdcli.models.loading import load_processor
from hkdcli.models.locating import ModelParts, locate_model
from hkdcli.models.prompt_file import check_prompt_file
from hkdcli.reporter import SILENT, Reporter

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what --max-lora-rank takes
_SEEING = re.compile(r"vision|visual|projector|connector")
_MERGE = "Merge it into its base with hkd export, and name that folder."


@contextmanager
def open_vllm(
    model: str | Path,
    *,
    adapter: str | Path | None = None,
    base: str | Path | None = None,
    max_length: int | None = None,
    timeout_s: float = 1800.0,
    reporter: Reporter | None = None,
) -> Iterator[VllmScorer]:
    """Serve a model with vLLM for as long as the context lasts.

    `locate_model`, `check_model_folder` and `check_prompt_file` say which models are refused, `find_vllm` and
    `VllmServer.start` what else can go wrong. Everything that can be checked is, before the engine starts.

    Args:
        model: what `find_model_folder` takes; an adapter folder serves its base with the adapter.
        adapter: an adapter to put on top.
        base: the base of an adapter folder, where it has moved.
        max_length: most tokens of a prompt; a longer context is shortened.
        timeout_s: how long the engine may take to become ready.
        reporter: told that this takes a while.

    Yields:
        VllmScorer: in place of a `Scorer`.
    """
    program = find_vllm()
    parts = locate_model(model, adapter=adapter, base=base)
    processor = load_processor(parts.processor)
    _check_parts(parts, processor)
    messages = PromptMessages(Collator(processor, max_length=max_length))
    revisions = [compute_revision(folder) for folder in (parts.folder, parts.adapter) if folder is not None]
    facts = json.dumps([*revisions, "vllm", program.version])
    weights_hash = hashlib.sha256(facts.encode()).hexdigest()
    (reporter or SILENT).note(f"starting vLLM {program.version}; this can take minutes")
    with tempfile.TemporaryDirectory() as scratch:
        template = Path(scratch) / "chat_template.jinja"
        template.write_text(messages.chat_template, "utf-8")
        served = ServedModel(
            parts.folder.resolve(),
            template,
            adapter=parts.adapter.resolve() if parts.adapter else None,
            lora_rank=_read_rank(parts.adapter),
            max_length=max_length,
        )
        server = VllmServer(program, served, timeout_s=timeout_s)
        try:
            server.start()
            yield VllmScorer(server, messages, weights_hash)
        finally:
            server.stop()


def _check_parts(parts: ModelParts, processor: Any) -> None:
    """Refuse what cannot be served, or not as it would be read here."""
    check_model_folder(parts.folder)
    check_prompt_file(parts.adapter or parts.folder, processor)
    if parts.adapter is not None:
        check_adapter(parts.adapter)
    if parts.processor == parts.folder:
        return
    # vLLM takes the processor of the folder that it serves.
    if compute_prompt_hash(load_processor(parts.folder)) != compute_prompt_hash(processor):
        raise ModelError(
            f"{parts.adapter}: has another chat template, tokenizer or image processor than its base "
            f"{parts.folder}, whose own vLLM would use",
            hint=_MERGE,
        )


def check_adapter(adapter: Path) -> None:
    """Refuse an adapter of which vLLM would leave something out.

    Args:
        adapter: its folder.

    Raises:
        ModelError: it adapts more than the language model, or is no plain low-rank adapter of one rank.
    """
    from safetensors import safe_open

    check_weights(adapter, "adapter_model")
    settings = read_json(adapter / "adapter_config.json")
    with safe_open(adapter / "adapter_model.safetensors", framework="np") as file:
        seeing = [name for name in file.keys() if _SEEING.search(name)]  # noqa: SIM118 (no mapping)
    if seeing or settings.get("modules_to_save"):
        named = seeing[0] if seeing else settings["modules_to_save"]
        raise ModelError(
            f"{adapter}: adapts more than the language model ({named}), which vLLM does not take",
            hint=_MERGE,
        )
    if settings.get("use_dora") or settings.get("rank_pattern") or find_lora_rank(settings.get("r")) is None:
        raise ModelError(
            f"{adapter}: vLLM takes plain low-rank adapters of one rank up to {LORA_RANKS[-1]}", hint=_MERGE
        )


def find_lora_rank(rank: Any) -> int | None:
    """The smallest rank that vLLM can make room for and that holds an adapter of `rank`, if there is one."""
    return next((each for each in LORA_RANKS if isinstance(rank, int) and each >= rank), None)


def _read_rank(adapter: Path | None) -> int:
    settings = read_json(adapter / "adapter_config.json") if adapter else {}
    return find_lora_rank(settings.get("r")) or LORA_RANKS[0]
