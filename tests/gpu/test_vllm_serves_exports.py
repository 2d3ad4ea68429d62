"""M08, the half that needs a GPU: an exported folder answers in vLLM as it does in transformers.

Run with: pytest -m gpu tests/gpu/test_vllm_serves_exports.py
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_models import save_tiny_llava, save_tiny_qwen

from hkdcli.engine import ExportOptions, export, infer
from hkdcli.inferring import InferOptions
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.loading import load_model
from hkdcli.opening import DataOptions
from hkdcli.predicting import Output

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(shutil.which("vllm") is None, reason="needs vLLM"),
]


def save_tuned(base: Path, folder: Path) -> Path:
    """An adapter that changes something, as a training leaves it."""
    loaded = load_model(base)
    wrapped = attach_lora(loaded.model, rank=8, alpha=16)
    torch.manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.02)
    save_adapter(wrapped, folder, source=str(base))
    loaded.processor.save_pretrained(folder)
    return folder


def ask(model: Path, out: Path, engine: str) -> list[list[str]]:
    options, data = InferOptions(engine=engine), DataOptions("scenes:test", limit=200)  # type: ignore[arg-type]
    infer(str(model), data, options, output=Output(out))
    return [json.loads(line)["prediction"] for line in out.read_text().splitlines()]


@pytest.mark.parametrize("save", [save_tiny_qwen, save_tiny_llava])
def test_m08_a_merged_folder_answers_alike_in_vllm(save: object, tmp_path: Path) -> None:
    # Attention kernels want heads of 64.
    base = save(tmp_path / "base", hidden_size=256)  # type: ignore[operator]
    tuned = save_tuned(base, tmp_path / "tuned")
    export(str(tuned), ExportOptions(dtype="bfloat16"), out=tmp_path / "merged")
    here = ask(tmp_path / "merged", tmp_path / "here.jsonl", "transformers")
    there = ask(tmp_path / "merged", tmp_path / "there.jsonl", "vllm")
    alike = sum(one == other for one, other in zip(here, there, strict=True)) / len(here)
    assert alike >= 0.99
    assert len({tuple(answer) for answer in here}) > 1  # a model that always says the same shows nothing
