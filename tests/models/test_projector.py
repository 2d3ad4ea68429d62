"""A connector trained in full beside the adapters: attached, saved, loaded, merged, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES
from tiny_models import save_tiny_llava, save_tiny_qwen
from tiny_records import make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.prompts import identity_presentation
from hkdcli.errors import ModelError
from hkdcli.models import families
from hkdcli.models.adapters import attach_lora, merge_adapter, save_adapter
from hkdcli.models.answers import AnswerModel
from hkdcli.models.fingerprints import compute_fingerprint, compute_weights_hash
from hkdcli.models.loading import LoadedModel, load_model

CONNECTORS = {
    "qwen2.5-vl": ["model.visual.merger"],
    "qwen3-vl": ["model.visual.merger"] + [f"model.visual.deepstack_merger_list.{i}" for i in (0, 1)],
    "gemma3": ["model.multi_modal_projector"],
    "internvl": ["model.multi_modal_projector"],
    "idefics3": ["model.connector"],
    "smolvlm": ["model.connector"],
    "llava": ["model.multi_modal_projector"],
    "llava-onevision": ["model.multi_modal_projector"],
}


def answer(loaded: LoadedModel, model: torch.nn.Module | None = None) -> torch.Tensor:
    example = make_hallucination()
    batch = Collator(loaded.processor)([example], [make_image()], [identity_presentation(example)])
    with torch.no_grad():
        return AnswerModel(model or loaded.model)(batch).logits


def attach(loaded: LoadedModel, **options) -> torch.nn.Module:
    return attach_lora(loaded.model, rank=2, alpha=4, train_projector=True, **options)


def shake(model: torch.nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)


def get_copies(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if ".modules_to_save." in name}


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_s_connector_is_found_with_and_without_adapters(name, tmp_path):
    model = load_model(FAMILIES[name](tmp_path)).model
    assert families.find_connector(model) == CONNECTORS[name]
    wrapped = attach_lora(model, rank=2, alpha=2, train_projector=True)
    assert families.find_connector(wrapped) == CONNECTORS[name]


def test_a_model_whose_connector_is_not_known_is_refused(tiny_llava):
    model = load_model(tiny_llava).model
    model.model.bridge = model.model.multi_modal_projector
    del model.model.multi_modal_projector
    with pytest.raises(ModelError, match="LlavaModel has none of multi_modal_projector"):
        attach_lora(model, rank=2, alpha=2, train_projector=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_comes_back_bit_for_bit_from_its_folder(tiny_model, tmp_path, dtype):
    loaded = load_model(tiny_model, dtype=dtype)
    plain = answer(loaded)
    wrapped = attach(loaded)
    assert all(tensor.dtype == torch.float32 for tensor in get_copies(wrapped).values())
    if dtype == torch.float32:
        torch.testing.assert_close(answer(loaded, wrapped), plain)
    fresh = compute_weights_hash(wrapped)
    shake(wrapped)
    expected = answer(loaded, wrapped)
    assert not torch.allclose(expected, plain)
    save_adapter(wrapped, tmp_path, source=str(tiny_model))
    again = load_model(tmp_path, dtype=dtype)
    assert torch.equal(answer(again), expected)
    for name, tensor in get_copies(again.model).items():
        assert torch.equal(tensor, get_copies(wrapped)[name]) and not tensor.requires_grad
    assert compute_fingerprint(again.model) == compute_fingerprint(load_model(tiny_model).model)
    assert compute_weights_hash(again.model) == compute_weights_hash(wrapped) != fresh
    learns_on = load_model(tmp_path, dtype=dtype, trainable=True).model
    trained = {name for name, p in learns_on.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in wrapped.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merged_model_has_the_trained_projector_and_the_base_s_number_type(tiny_model, tmp_path, dtype):
    loaded = load_model(tiny_model, dtype=dtype)
    wrapped = attach(loaded)
    shake(wrapped)
    expected = answer(loaded, wrapped)
    merged = merge_adapter(wrapped)
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.5}
    torch.testing.assert_close(answer(loaded, merged), expected, **tolerance)
    assert {p.dtype for p in merged.parameters()} == {dtype}
    merged.save_pretrained(tmp_path)
    loaded.processor.save_pretrained(tmp_path)
    assert torch.equal(answer(load_model(tmp_path, dtype=dtype)), answer(loaded, merged))


def test_its_input_may_be_bfloat16_under_autocast_too(tiny_model):
    loaded = load_model(tiny_model, dtype=torch.bfloat16)
    wrapped = AnswerModel(attach(loaded)).train()
    example = make_hallucination()
    batch = Collator(loaded.processor)([example], [make_image()], [identity_presentation(example)])
    with torch.autocast("cpu", torch.bfloat16):
        torch.nn.functional.cross_entropy(wrapped(batch).logits, batch.answer_targets).backward()
    gradients = [tensor.grad for tensor in get_copies(wrapped.model).values()]
    assert gradients
    assert all(g is not None and g.dtype == torch.float32 and g.any() for g in gradients)


@pytest.mark.parametrize("damage", ["missing", "extra"])
def test_a_projector_that_does_not_fit_is_refused(tiny_llava, tmp_path, damage):
    loaded = load_model(tiny_llava)
    save_adapter(attach(loaded), tmp_path, source=str(tiny_llava))
    if damage == "missing":
        tensors = load_file(tmp_path / "adapter_model.safetensors")
        del tensors[next(name for name in tensors if "multi_modal_projector.linear_1.weight" in name)]
        save_file(tensors, tmp_path / "adapter_model.safetensors")
    else:
        settings = json.loads((tmp_path / "adapter_config.json").read_text())
        settings["modules_to_save"] = None
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"does not fit this base.*multi_modal_projector"):
        load_model(tmp_path)


@pytest.mark.parametrize("save", [save_tiny_qwen, save_tiny_llava])
@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_it_is_trained_beside_a_quantized_language_model_but_not_when_quantized(save, quantization, tmp_path):
    folder = save(tmp_path / "model", hidden_size=64)
    loaded = load_model(folder, quantization=quantization)
    wrapped = attach(loaded)
    example = make_hallucination()
    batch = Collator(loaded.processor)([example], [make_image()], [identity_presentation(example)])
    logits = AnswerModel(wrapped).train()(batch).logits
    torch.nn.functional.cross_entropy(logits, batch.answer_targets).backward()
    assert all(tensor.grad.any() for tensor in get_copies(wrapped).values())
    shake(wrapped)
    expected = answer(loaded, wrapped.eval())
    save_adapter(wrapped, tmp_path / "adapter", source=str(folder))
    assert torch.equal(answer(load_model(tmp_path / "adapter", quantization=quantization)), expected)
    whole = load_model(folder, quantization=quantization, quantized_parts="all")
    with pytest.raises(ModelError, match="quantized projector cannot be trained"):
        attach(whole)


def test_the_frozen_tower_before_it_stays_in_evaluation(tiny_model):
    model = AnswerModel(attach(load_model(tiny_model))).train()
    frozen = [
        module
        for module in model.modules()
        if (parameters := list(module.parameters())) and not any(p.requires_grad for p in parameters)
    ]
    assert frozen
    assert not any(child.training for module in frozen for child in module.modules())
    assert all(
        families.unwrap(model.model).get_submodule(name).training
        for name in families.find_connector(model.model)
    )
