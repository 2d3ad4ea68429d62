from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_models import save_tiny_llava, save_tiny_qwen
from tiny_records import make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.prompts import identity_presentation
from hkdcli.errors import ModelError
from hkdcli.inference.scoring import Scorer
from hkdcli.models.adapters import attach_lora, merge_adapter
from hkdcli.models.answers import AnswerModel
from hkdcli.models.fingerprints import compute_fingerprint
from hkdcli.models.loading import load_model
from hkdcli.models.quantization import check_quantized, list_quantized

# Blocks of 4-bit weights have 64 entries; the smallest sizes that divide.
SAVERS = {"qwen": save_tiny_qwen, "llava": save_tiny_llava}


@pytest.fixture(scope="module", params=list(SAVERS))
def folder(request, tmp_path_factory):
    return SAVERS[request.param](tmp_path_factory.mktemp("quantized") / request.param, hidden_size=64)


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_the_language_model_alone_is_quantized_and_adapters_learn_on_it(folder, quantization):
    plain = load_model(folder)
    loaded = load_model(folder, quantization=quantization)
    names = list_quantized(loaded.model)
    assert len(names) == 14
    assert all(name.startswith("model.language_model.layers.") for name in names)
    assert loaded.quantization == quantization
    assert compute_fingerprint(loaded.model) == compute_fingerprint(plain.model)

    example = make_hallucination()
    batch = Collator(loaded.processor)([example], [make_image()], [identity_presentation(example)])
    with torch.no_grad():
        exact, rough = AnswerModel(plain.model)(batch).logits, AnswerModel(loaded.model)(batch).logits
    assert torch.isfinite(rough).all()
    assert 0 < (exact - rough).abs().mean() < exact.std()

    wrapped = attach_lora(loaded.model, rank=2, alpha=4)
    logits = AnswerModel(wrapped)(batch).logits
    torch.nn.functional.cross_entropy(logits, batch.answer_targets).backward()
    gradients = [p.grad.abs().sum() for name, p in wrapped.named_parameters() if "lora_B" in name]
    assert all(gradient > 0 for gradient in gradients)
    with pytest.raises(ModelError, match="without loss"):
        merge_adapter(wrapped)


def test_check_names_what_differs(folder):
    loaded = load_model(folder)
    with pytest.raises(ModelError, match=r"nf4 quantized other modules.*self_attn.*and 9 more"):
        check_quantized(loaded.model, "nf4")


def test_quantizing_twice_is_refused(folder, tmp_path):
    load_model(folder, quantization="nf4").model.save_pretrained(tmp_path)
    plain = load_model(folder)
    plain.processor.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="quantized already"):
        load_model(tmp_path, quantization="int8")
    again = load_model(tmp_path)
    assert len(list_quantized(again.model)) == 14


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_answering_first_does_not_change_what_is_learned(folder, quantization):
    """bitsandbytes repacks 4-bit weights in the first evaluation pass on CPUs with AVX512-BF16."""
    gradients = []
    example = make_hallucination()
    for answer_first in (False, True):
        loaded = load_model(folder, quantization=quantization)
        torch.manual_seed(0)
        wrapped = AnswerModel(attach_lora(loaded.model, rank=2, alpha=4))
        batch = Collator(loaded.processor)([example], [make_image()], [identity_presentation(example)])
        if answer_first:
            scorer = Scorer(dataclasses.replace(loaded, model=wrapped.model))
            scorer.score([example], [make_image()], [[identity_presentation(example)]])
        torch.nn.functional.cross_entropy(wrapped.train()(batch).logits, batch.answer_targets).backward()
        gradients.append([p.grad for name, p in wrapped.named_parameters() if "lora_B" in name])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)
