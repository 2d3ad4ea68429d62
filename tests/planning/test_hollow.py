"""A hollow model has the very tensors of a loaded one: names, shapes, types, bytes, quantized and adapted."""

import pytest
import torch
from tiny_families import FAMILIES

from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.loading import load_model
from hkdcli.planning.hollow import build_hollow_model, count_bytes


def _describe(model):
    return {name: (p.shape, p.dtype, p.requires_grad) for name, p in model.named_parameters()}


@pytest.fixture(scope="module", params=list(FAMILIES))
def folder(request, tmp_path_factory):
    return FAMILIES[request.param](tmp_path_factory.mktemp("hollow") / "model")


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_a_hollow_model_has_the_tensors_of_a_loaded_one(folder, quantization):
    real = load_model(folder, quantization=quantization)
    hollow = build_hollow_model(folder, quantization=quantization, compute_device="cpu")
    assert _describe(hollow.model) == _describe(real.model)
    assert {p.device.type for p in hollow.model.parameters()} == {"meta"}
    assert count_bytes(hollow.model) == count_bytes(real.model)


def test_what_is_trained_requires_gradients_as_in_a_loaded_one(folder):
    assert _describe(build_hollow_model(folder, trainable=True).model) == _describe(
        load_model(folder, trainable=True).model
    )


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("projector", [True, False])
def test_an_adapter_of_its_own_folder_is_as_large(tmp_path, trainable, projector):
    base = FAMILIES["llava"](tmp_path / "base")
    loaded = load_model(base)
    tuned = attach_lora(loaded.model, rank=3, alpha=6, targets="language", train_projector=projector)
    save_adapter(tuned, tmp_path / "adapter", source=str(base))
    options = {"dtype": torch.bfloat16, "trainable": trainable}
    real = load_model(base, adapter=tmp_path / "adapter", **options)
    hollow = build_hollow_model(base, adapter=tmp_path / "adapter", **options)
    assert _describe(hollow.model) == _describe(real.model)
    assert hollow.adapter == real.adapter


def test_all_parts_can_be_quantized(tmp_path):
    folder = FAMILIES["llava"](tmp_path / "model")
    options = {"quantization": "nf4", "quantized_parts": "all"}
    hollow, real = build_hollow_model(folder, **options), load_model(folder, **options)
    assert count_bytes(hollow.model) == count_bytes(real.model)


def test_no_weight_file_is_needed(tmp_path):
    folder = FAMILIES["qwen2.5-vl"](tmp_path / "model")
    for path in folder.glob("*.safetensors"):
        path.unlink()
    assert count_bytes(build_hollow_model(folder).model) > 100_000
