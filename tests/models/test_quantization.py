from __future__ import annotations

import dataclasses
import sys
from types import SimpleNamespace

import pytest
import torch
from tiny_families import FAMILIES
from tiny_models import save_tiny_llava, save_tiny_qwen
from tiny_records import make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.prompts import identity_presentation
from hkdcli.errors import ModelError, SetupError
from hkdcli.inference.scoring import Scorer
from hkdcli.models import families
from hkdcli.models.adapters import attach_lora, merge_adapter
from hkdcli.models.answers import AnswerModel
from hkdcli.models.fingerprints import compute_fingerprint
from hkdcli.models.loading import load_model
from hkdcli.models.quantization import (
    check_quantizable,
    check_quantized,
    describe_quantization,
    list_quantized,
)

# Blocks of 4-bit weights have 64 entries; the smallest sizes that divide.
LANGUAGE = ("model.language_model.", "model.text_model.")
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


def count_linear(model, *prefixes):
    return sum(isinstance(m, torch.nn.Linear) and n.startswith(prefixes) for n, m in model.named_modules())


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_vision_tower_and_connector_are_quantized_on_request_and_the_head_never(
    family, quantization, tmp_path
):
    folder = FAMILIES[family](tmp_path)
    plain = load_model(folder)
    loaded = load_model(folder, quantization=quantization, quantized_parts="all")
    quantized = set(list_quantized(loaded.model))
    kept = {n for n, m in loaded.model.named_modules() if isinstance(m, torch.nn.Linear)} - quantized
    assert {name for name in kept if ".out_proj" not in name} == {"lm_head"}
    assert all(type(loaded.model.get_submodule(name).weight) is torch.nn.Parameter for name in kept)
    vision = count_linear(plain.model, *families.get_vision_parts(plain.model))
    assert len(quantized) + len(kept) == vision + count_linear(plain.model, "lm_head", *LANGUAGE)
    assert compute_fingerprint(loaded.model) == compute_fingerprint(plain.model)
    with pytest.raises(ModelError, match="other modules than the language model's layers"):
        check_quantized(loaded.model, quantization, "language")
    with pytest.raises(ModelError, match="other modules than the backbone's layers"):
        check_quantized(plain.model, quantization, "all")

    example = make_hallucination()
    batch = Collator(loaded.processor)([example], [make_image()], [identity_presentation(example)])
    with torch.no_grad():
        exact, rough = AnswerModel(plain.model)(batch).logits, AnswerModel(loaded.model)(batch).logits
    assert torch.isfinite(rough).all() and not torch.equal(exact, rough)


def test_what_is_quantized_is_said_in_one_line(folder):
    vision = "model.visual" if "qwen" in folder.name else "model.vision_tower"
    connector = "" if "qwen" in folder.name else ", model.multi_modal_projector"
    said = {
        (kind, parts): describe_quantization(
            load_model(folder, quantization=kind, quantized_parts=parts).model
        )
        for kind in ("int8", "nf4")
        for parts in ("language", "all")
    }
    start = "nf4 (double quantization, compute float32): linear layers, 14 of model.language_model"
    assert said["nf4", "language"] == f"{start}; kept: {vision}{connector}, lm_head"
    assert said["nf4", "all"].startswith(f"{start}, 12 of {vision}")
    assert said["nf4", "all"].endswith("; kept: lm_head")
    assert said["int8", "language"].startswith("int8: linear layers, 14 of model.language_model; kept")
    wrapped = attach_lora(load_model(folder, quantization="nf4").model, rank=2, alpha=2)
    assert describe_quantization(wrapped) == said["nf4", "language"]
    assert describe_quantization(load_model(folder).model) == "none: all weights in float32"


@pytest.fixture
def pretend_gpu(monkeypatch):
    """A CUDA device of a given compute capability; a library for it may be missing."""

    def pretend(capability, *, available=True, library=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(
            "bitsandbytes.cextension.lib", SimpleNamespace(compiled_with_cuda=library), raising=True
        )

    return pretend


@pytest.mark.parametrize(
    ("device", "gpu", "reason"),
    [
        ("meta", {}, "bitsandbytes does not support it"),
        ("cuda", {"available": False}, "there is no such GPU"),
        ("cuda", {"library": False}, "no library for this version of CUDA"),
        ("cuda:0", {"capability": (7, 0)}, r"compute capability is 7\.0, below 7\.5"),
    ],
)
def test_m12_a_device_that_cannot_quantize_is_refused_before_anything_is_read(
    pretend_gpu, monkeypatch, device, gpu, reason
):
    pretend_gpu(**{"capability": (8, 0), **gpu})
    monkeypatch.setattr(
        "hkdcli.models.locating.find_model_folder", lambda name: pytest.fail("was looked for")
    )
    with pytest.raises(SetupError, match=reason) as caught:
        load_model("some-org/some-model", quantization="int8", device=device)
    assert caught.value.exit_code == 3 and "quantization: none" in caught.value.hint


def test_m12_a_gpu_that_is_new_enough_is_accepted_and_a_missing_package_refused(pretend_gpu, monkeypatch):
    pretend_gpu((7, 0))
    check_quantizable("nf4", torch.device("cuda"))
    check_quantizable("int8", torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    check_quantizable("none", torch.device("cuda"))
    with pytest.raises(SetupError, match="needs bitsandbytes"):
        check_quantizable("nf4", torch.device("cpu"))


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
