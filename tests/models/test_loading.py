from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_families import save_smolvlm
from tiny_records import plant_pickles

from hkdcli.errors import ModelError, OfflineError, SetupError
from hkdcli.models import loading
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.folders import find_model_folder
from hkdcli.models.loading import check_finite, load_model, load_processor

WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tiny_llava: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llava, tmp_path / "model"))


def edit_json(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_loads_both_families_frozen_and_in_evaluation(tiny_model):
    loaded = load_model(tiny_model)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert (loaded.source, loaded.adapter, loaded.quantization) == (str(tiny_model), None, "none")
    assert all(p.requires_grad for p in load_model(tiny_model, trainable=True).model.parameters())
    assert load_model(str(tiny_model), dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_saved_model_loads_bit_equal(tiny_model, tmp_path):
    loaded = load_model(tiny_model)
    loaded.model.save_pretrained(tmp_path)
    loaded.processor.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    for one, two in zip(loaded.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_run_folder_stands_for_its_student(folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(folder, run / "student")
    assert load_model(run).model.config.model_type == "llava"


def test_m01_pickled_weights_are_refused_unopened(folder):
    evil = folder / "pytorch_model.bin"
    (folder / WEIGHTS).unlink()
    evil.write_bytes(b"cos\nsystem\n(S'touch /tmp/hkd-pwned'\ntR.")
    with pytest.raises(ModelError, match=r"only pickled weights \(pytorch_model.bin\)") as caught:
        load_model(folder)
    assert "safetensors" in str(caught.value.hint)
    assert not Path("/tmp/hkd-pwned").exists()


@pytest.mark.parametrize("name", ["config.json", "processor_config.json", "tokenizer_config.json"])
def test_m02_remote_code_is_refused_and_listed(folder, name):
    marker = folder / "ran"
    (folder / "modeling_evil.py").write_text(f"open({str(marker)!r}, 'w')")
    edit_json(folder / name, auto_map={"AutoModel": "modeling_evil.Evil", "AutoConfig": "org/x--conf.C"})
    with pytest.raises(ModelError, match=r"code of its own.*conf.py, modeling_evil.py"):
        load_model(folder)
    assert not marker.exists()


@pytest.mark.parametrize("damage", ["cut", "header", "html", "empty"])
def test_m04_damaged_safetensors_name_the_shard(folder, damage):
    shard = folder / WEIGHTS
    data = shard.read_bytes()
    shard.write_bytes(
        {
            "cut": data[: len(data) // 2],
            "header": data[:20],
            "html": b"<!DOCTYPE html><html>404</html>" * 20,
            "empty": b"",
        }[damage]
    )
    with pytest.raises(ModelError, match=r"model.safetensors: shard is damaged or cut off"):
        load_model(folder)


def test_m03_pickles_beside_the_weights_are_never_opened(folder, tmp_path):
    """A folder that another trainer left, with its optimizer and random state, is a model like any other."""
    plant_pickles(folder, tmp_path / "ran")
    load_model(folder, trainable=True)
    assert not (tmp_path / "ran").exists()


def test_m04_missing_shard_and_shard_outside(folder):
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    with pytest.raises(ModelError, match=r"model-00001-of-00002.safetensors: shard is missing"):
        load_model(folder)
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/x.safetensors"}}))
    with pytest.raises(ModelError, match="outside its folder"):
        load_model(folder)


def test_m05_nan_weights_are_refused_by_name(folder):
    tensors = load_file(folder / WEIGHTS)
    name = next(key for key in tensors if key.endswith("layers.1.mlp.up_proj.weight"))
    tensors[name][0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weight tensors hold NaN.*layers.1.mlp.up_proj.weight"):
        load_model(folder)


def test_m05_an_adapter_s_weights_are_looked_at_too(folder, tmp_path):
    wrapped = attach_lora(load_model(folder).model, rank=2, alpha=4)
    next(weight for name, weight in wrapped.named_parameters() if "lora_B" in name).data[0] = float("nan")
    save_adapter(wrapped, tmp_path / "tuned", source=str(folder))
    with pytest.raises(ModelError, match=r"1 weight tensors hold NaN.*lora_B") as caught:
        load_model(folder, adapter=tmp_path / "tuned")
    assert caught.value.exit_code == 3 and "another" in str(caught.value.hint)


def test_m05_the_last_weight_of_a_tensor_is_looked_at_too(monkeypatch):
    monkeypatch.setattr(loading, "_CHECKED_AT_ONCE", 7)
    layer = torch.nn.Linear(5, 4)
    check_finite(layer)
    layer.weight.data[-1, -1] = float("inf")
    with pytest.raises(ModelError, match="1 weight tensors hold NaN or infinite numbers: weight"):
        check_finite(layer)


def test_missing_tensors_are_not_made_up(folder):
    tensors = load_file(folder / WEIGHTS)
    del tensors[next(key for key in tensors if key.endswith("layers.1.mlp.up_proj.weight"))]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors: .*layers.1.mlp.up_proj.weight"):
        load_model(folder)


def test_m14_no_chat_template_is_refused_where_a_prompt_is_built(folder):
    from hkdcli.data.prompts import PromptBuilder

    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        PromptBuilder(load_processor(folder))


def test_broken_or_missing_settings(folder, tmp_path):
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json: cannot be read as JSON"):
        load_model(folder)
    with pytest.raises(ModelError, match="no such model folder"):
        load_model(tmp_path / "absent")
    with pytest.raises(ModelError, match="no such model folder"):
        load_model("./absent/folder/deep")
    (tmp_path / "blank").mkdir()
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path / "blank")
    assert caught.value.message == f"{tmp_path / 'blank'}: is no model: it has no config.json"
    assert "save_pretrained" in str(caught.value.hint)


def test_c18_smolvlm_without_its_package_is_refused_with_the_extra_to_install(tmp_path, monkeypatch):
    folder = save_smolvlm(tmp_path)
    assert load_model(folder).model.config.model_type == "smolvlm"
    monkeypatch.setitem(sys.modules, "num2words", None)
    with pytest.raises(SetupError, match="num2words") as caught:
        load_model(folder)
    assert caught.value.exit_code == 3 and caught.value.hint == 'pip install "hkd[smolvlm]"'


def test_unknown_architecture(folder):
    edit_json(folder / "config.json", model_type="bert")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder)


def test_unknown_scenes_model():
    with pytest.raises(ModelError, match="scenes:nope"):
        find_model_folder("scenes:nope")


def test_m10_offline_and_not_cached(monkeypatch, tmp_path):
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    with pytest.raises(OfflineError, match="does not hold the model") as caught:
        find_model_folder("some-org/some-model@main")
    assert "hf download some-org/some-model" in str(caught.value.hint)
    assert caught.value.exit_code == 7
