"""Exports of tiny models: what is in the folder, and that it answers alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_exports import SCENES, Heard, list_names, read_bytes, save_tuned, write_run
from tiny_families import FAMILIES
from tiny_records import DrawnImages, make_factuality, make_hallucination

from hkdcli.checkpoints import is_complete
from hkdcli.data.datasets import Dataset
from hkdcli.errors import UsageError
from hkdcli.exporting import export
from hkdcli.exporting.export import export_model
from hkdcli.exporting.parity import TOLERANCES
from hkdcli.models.fingerprints import compute_weights_hash
from hkdcli.models.loading import load_model
from hkdcli.runtime import Runtime

RECORDS = Dataset("mine", (make_hallucination(), make_factuality(), make_factuality("f2")), DrawnImages())
PROCESSOR = {"chat_template.jinja", "processor_config.json", "tokenizer.json", "tokenizer_config.json"}
ALWAYS = PROCESSOR | {"MANIFEST.json", "README.md", "prompt.json"}


def test_a_merged_student_is_a_whole_model_with_its_trained_projector(tuned_run, tiny_llava, out):
    summary = export_model(str(tuned_run), out=out, data=RECORDS)
    assert summary.kind == "merged" and summary.parity.records == 3
    assert summary.parity.largest_difference < 1e-3
    assert list_names(out) == ALWAYS | {"config.json", "generation_config.json", "model.safetensors"}
    assert is_complete(out)
    merged = load_model(out)
    assert merged.adapter is None and summary.weights_hash == compute_weights_hash(merged.model)
    trained = load_file(tuned_run / "student" / "adapter_model.safetensors")
    before = load_model(tiny_llava).model.get_parameter("model.multi_modal_projector.linear_1.weight")
    copy = next(value for name, value in trained.items() if name.endswith("projector.linear_1.weight"))
    found = merged.model.get_parameter("model.multi_modal_projector.linear_1.weight")
    assert torch.equal(found, copy) and not torch.equal(found, before)
    document = json.loads(json.dumps(summary.to_json()))
    assert document["kind"] == "merged" and document["records"] == 3 and document["tolerance"] == "0.001"


def test_an_adapter_is_copied_byte_for_byte_and_names_its_base_by_its_whole_path(
    tuned_run, tiny_llava, out, monkeypatch
):
    monkeypatch.chdir(tiny_llava.parent)
    settings = tuned_run / "student" / "adapter_config.json"
    run = Path(shutil.copytree(tuned_run, out.parent.parent / "run"))
    moved = {**json.loads(settings.read_text()), "base_model_name_or_path": tiny_llava.name}
    (run / "student" / "adapter_config.json").write_text(json.dumps(moved))
    summary = export_model(str(run), out=out, adapter=True, data=RECORDS)
    assert summary.kind == "adapter" and summary.parity.largest_difference == 0.0
    assert list_names(out) == ALWAYS | {"adapter_config.json", "adapter_model.safetensors", "base.json"}
    for name in (*PROCESSOR, "adapter_model.safetensors"):
        assert (out / name).read_bytes() == (run / "student" / name).read_bytes()
    monkeypatch.chdir(out.parent)
    assert load_model(out).source == str(tiny_llava.resolve())


def test_a_student_trained_in_full_is_exported_bit_for_bit(tiny_qwen, out):
    run = write_run(out.parent.parent / "run", "org/base", tuning="full")
    shutil.copytree(tiny_qwen, run / "student")
    summary = export_model(str(run), out=out, data=RECORDS)
    assert summary.kind == "whole" and summary.parity.largest_difference == 0.0
    found, expected = (load_file(place / "model.safetensors") for place in (out, run / "student"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_is_merged_and_exported(name, tmp_path, out):
    tuned = save_tuned(FAMILIES[name](tmp_path / "base"), tmp_path / "tuned")
    summary = export_model(str(tuned), out=out, data=RECORDS)
    assert summary.kind == "merged" and summary.parity.records == 3


@pytest.mark.parametrize("model", ["scenes:small", "folder"])
def test_a_model_that_no_run_made_is_exported_too(model, tiny_llava, out):
    summary = export_model(model if model != "folder" else str(tiny_llava), out=out, check=2)
    assert (summary.kind, summary.parity.data, summary.parity.records) == ("whole", "scenes:test", 2)
    assert summary.dtype == ("float16" if model == "scenes:small" else "float32")
    assert load_model(out).model is not None


def test_weights_are_rounded_when_that_is_asked_for(tiny_llava, out):
    summary = export_model(str(tiny_llava), out=out, dtype="bfloat16", check=1)
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    assert summary.dtype == "bfloat16" and summary.parity.largest_difference > 0
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.parametrize("adapter", [False, True])
def test_two_exports_are_equal_to_the_byte(tuned_run, out, adapter):
    folders = [out, out.with_name("again")]
    for folder in folders:
        export_model(str(tuned_run), out=folder, adapter=adapter, data=RECORDS)
    assert read_bytes(folders[0]) == read_bytes(folders[1])
    place = str(tuned_run.parent.parent).encode()  # of this machine; only an adapter has to name its base
    named = {name for name, content in read_bytes(out).items() if place in content}
    assert named == ({"adapter_config.json", "base.json"} if adapter else set())


def test_overwrite_replaces_an_export_and_nothing_else_does(tuned_run, tiny_llava, out):
    export_model(str(tiny_llava), out=out, data=RECORDS)
    before = read_bytes(out)
    with pytest.raises(UsageError, match="exists already"):
        export_model(str(tuned_run), out=out, data=RECORDS)
    assert read_bytes(out) == before
    export_model(str(tuned_run), out=out, data=RECORDS, overwrite=True)
    assert read_bytes(out) != before and list_names(out.parent) == {out.name}


def test_without_data_a_run_is_checked_on_its_own_test_split(tiny_llava, out):
    dev = {"scenes": {**SCENES["scenes"], "split": "dev"}}
    run = write_run(out.parent.parent / "run", "org/base", test=dev)
    shutil.copytree(tiny_llava, run / "student")
    own = export_model(str(run), out=out, check=3)
    assert (own.parity.data, own.parity.records) == ("scenes:dev", 3)
    moved, heard = write_run(out.parent.parent / "moved", "org/base", test={"file": "gone.json"}), Heard()
    shutil.copytree(tiny_llava, moved / "student")
    summary = export_model(str(moved), out=out, check=1, overwrite=True, reporter=heard)
    assert summary.parity.data == "scenes:test"
    assert any("test split cannot be opened" in note for note in heard.notes)


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_where_models_run_in_bfloat16_the_check_allows_for_it(tuned_run, out, monkeypatch, dtype):
    runtime = Runtime(torch.device("cpu"), torch.bfloat16)
    monkeypatch.setattr(export, "choose_runtime", lambda: runtime)
    summary = export_model(str(tuned_run), out=out, data=RECORDS, dtype=dtype)
    assert summary.parity.tolerance == TOLERANCES["bfloat16"]
    assert summary.parity.largest_difference > 0
    assert summary.weights_hash == compute_weights_hash(load_model(out, dtype=torch.bfloat16).model)
