"""Quantized weights on a CUDA device: what the tests on a CPU show, there."""

from __future__ import annotations

import pytest
import torch
from tiny_models import save_tiny_llava, save_tiny_qwen
from tiny_records import make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.prompts import identity_presentation
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model
from hkdcli.models.memory import enable_gradient_checkpointing
from hkdcli.models.quantization import describe_quantization

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("save", [save_tiny_qwen, save_tiny_llava])
@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_adapters_and_projector_learn_beside_quantized_weights_and_come_back(save, quantization, tmp_path):
    folder = save(tmp_path / "model", hidden_size=64)
    options = {"quantization": quantization, "device": "cuda", "dtype": torch.bfloat16}
    loaded = load_model(folder, **options)
    assert describe_quantization(loaded.model).startswith(quantization)
    wrapped = attach_lora(loaded.model, rank=2, alpha=4, train_projector=True)
    enable_gradient_checkpointing(wrapped)
    example = make_hallucination()
    batch = Collator(loaded.processor)([example], [make_image()], [identity_presentation(example)]).to("cuda")
    with torch.autocast("cuda", torch.bfloat16):
        logits = AnswerModel(wrapped).train()(batch).logits
        torch.nn.functional.cross_entropy(logits, batch.answer_targets).backward()
    trained = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained.values())
    assert all(p.grad.any() for name, p in trained.items() if "lora_A" not in name)
    for parameter in trained.values():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    save_adapter(wrapped, tmp_path / "adapter", source=str(folder))
    again = load_model(tmp_path / "adapter", **options)
    with torch.no_grad():
        expected = AnswerModel(wrapped).eval()(batch).logits
        torch.testing.assert_close(AnswerModel(again.model)(batch).logits, expected)


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_vision_tower_and_connector_can_be_quantized_too(quantization, tmp_path):
    folder = save_tiny_llava(tmp_path, hidden_size=64)
    loaded = load_model(
        folder, quantization=quantization, quantized_parts="all", device="cuda", dtype=torch.bfloat16
    )
    assert describe_quantization(loaded.model).endswith("kept: lm_head")
    example = make_hallucination()
    batch = Collator(loaded.processor)([example], [make_image()], [identity_presentation(example)]).to("cuda")
    with torch.no_grad():
        assert torch.isfinite(AnswerModel(loaded.model)(batch).logits).all()
