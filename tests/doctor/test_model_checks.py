"""M01, M02, M04, M05, M06, M12, M14: all that is wrong with a model is told at once; nothing of it is run."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from looking import examine, list_wrong, look
from safetensors.torch import load_file, save_file
from tiny_records import plant_pickles

from hkdcli.doctor import weights
from hkdcli.doctor.checks import Check
from hkdcli.doctor.model import Plan, examine_model
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.fingerprints import compute_weights_hash
from hkdcli.models.loading import load_model, load_processor
from hkdcli.models.prompt_file import write_prompt_file
from hkdcli.opening import ModelSource
from hkdcli.reporter import SilentReporter
from hkdcli.runtime import Runtime

WEIGHTS = "model.safetensors"
UP = "layers.1.mlp.up_proj.weight"
CPU = Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture
def folder(tiny_qwen: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_qwen, tmp_path / "model"))


def check(model: Path | str, *, adapter: str | None = None, **plan: Any) -> Mapping[str, Check]:
    return examine(examine_model, Plan(ModelSource(str(model), adapter), CPU, **plan))


def edit_json(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def change_tensors(folder: Path, change) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors, next(name for name in tensors if name.endswith(UP)))
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def test_sound_models_have_nothing_wrong(tiny_model: Path) -> None:
    checks = check(tiny_model)
    assert not list_wrong(checks)
    assert "14 linear layers of model.language_model" in checks["model.quantization"].found
    assert "lm_head" in checks["model.quantization"].found


def test_m01_pickled_weights_are_refused_unopened(folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).unlink()
    plant_pickles(folder, tmp_path / "ran")
    (folder / "training_args.bin").rename(folder / "pytorch_model.bin")
    checks = check(folder)
    assert list_wrong(checks) == {"model.files": "failed"}
    assert "only pickled weights" in checks["model.files"].found
    assert "pytorch_model.bin" in checks["model.files"].found and "convert them" in checks["model.files"].hint
    assert not (tmp_path / "ran").exists()


def test_m02_code_of_a_model_is_listed_and_not_run(folder: Path) -> None:
    (folder / "modeling_evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')")
    edit_json(folder / "config.json", auto_map={"AutoModel": "modeling_evil.Evil"})
    checks = check(folder)
    assert "modeling_evil.py" in checks["model.code"].found and checks["model.code"].status == "failed"
    assert checks["model.tensors"].status == "skipped" and checks["model.finite"].status == "ok"
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda data: data[: len(data) // 2], "incomplete"),
        (lambda data: b"<!DOCTYPE html><html>404</html>" * 20, "it is a web page"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (lambda data: b"", "cut off"),
    ],
    ids=["cut", "html", "lfs", "empty"],
)
def test_m04_damaged_shards_are_all_named(folder: Path, content, said: str) -> None:
    data = (folder / WEIGHTS).read_bytes()
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    (folder / names[0]).write_bytes(data)
    (folder / names[1]).write_bytes(content(data))
    (folder / WEIGHTS).unlink()
    index = {"weight_map": dict(zip("abc", names, strict=True))}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    checks = check(folder)
    assert list_wrong(checks) == {"model.files": "failed"}
    found = checks["model.files"].found
    assert f"{names[1]}: shard is damaged" in found and said in found
    assert f"{names[2]}: shard is missing" in found and names[0] not in found
    assert checks["model.finite"].status == "ok" and checks["model.processor"].status == "ok"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_m05_nan_is_found_by_name_wherever_it_is(
    folder: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(tensors: dict[str, torch.Tensor], name: str) -> None:
        tensors[name][-1, -1] = value

    change_tensors(folder, spoil)
    monkeypatch.setattr(weights, "_MOST_NUMBERS", 100)  # a few rows at a time: it is in the last of them
    checks = check(folder, quantization="nf4")
    assert list_wrong(checks) == {"model.finite": "failed"}
    assert UP in checks["model.finite"].found and f"({WEIGHTS})" in checks["model.finite"].found
    assert checks["model.quantization"].status == "skipped"


def test_m05_no_more_than_a_part_is_read_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = weights._is_finite
    monkeypatch.setattr(weights, "_MOST_NUMBERS", 1000)
    monkeypatch.setattr(weights, "_is_finite", lambda part: sizes.append(part.numel()) or real(part))
    assert look(weights.check_finite, [folder / WEIGHTS], SilentReporter()).status == "ok"
    assert max(sizes) <= 1000 and sum(sizes) == sum(
        each.numel() for each in load_file(folder / WEIGHTS).values()
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.int8])
def test_every_number_type_is_looked_at(tmp_path: Path, dtype: torch.dtype) -> None:
    sound = torch.ones(3, 4).to(dtype)
    save_file({"a": sound, "scalar": torch.tensor(1.0)}, tmp_path / WEIGHTS)
    assert look(weights.check_finite, [tmp_path / WEIGHTS], SilentReporter()).found == "2 tensors, all finite"
    if dtype.is_floating_point:
        save_file({"a": torch.full((3, 4), float("nan")).to(dtype)}, tmp_path / WEIGHTS)
        assert look(weights.check_finite, [tmp_path / WEIGHTS], SilentReporter()).status == "failed"


def test_missing_tensors_and_other_shapes_are_named(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By us, and not once more by transformers."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)

    def lose(tensors: dict[str, torch.Tensor], name: str) -> None:
        del tensors[name]
        tensors[name.replace("up_proj", "gate_proj")] = torch.zeros(3, 3)

    change_tensors(folder, lose)
    checks = check(folder)
    assert list_wrong(checks) == {"model.tensors": "failed"}
    found = checks["model.tensors"].found
    assert "1 missing: " in found and UP in found and "gate_proj.weight (3, 3) for (64, 32)" in found
    assert caplog.records == []


def test_tensors_that_nothing_takes_are_a_warning(folder: Path) -> None:
    change_tensors(folder, lambda tensors, name: tensors.update({"model.more": torch.zeros(2)}))
    checks = check(folder)
    assert (
        list_wrong(checks) == {"model.tensors": "warning"} and "model.more" in checks["model.tensors"].found
    )


def test_problems_of_all_kinds_are_told_together(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")
    (folder / "tokenizer.json").unlink()
    edit_json(folder / "config.json", auto_map={"AutoModel": "x.Y"})
    assert {"model.code", "model.files", "model.processor"} <= set(list_wrong(check(folder)))


def test_m14_a_missing_template_and_another_than_was_trained_on(folder: Path) -> None:
    write_prompt_file(folder, load_processor(folder))
    assert "that it was trained on" in check(folder)["model.prompt"].found
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("helpful", "careful"))
    assert list_wrong(check(folder)) == {"model.prompt": "failed"}
    (folder / "prompt.json").unlink()
    template.unlink()
    assert list_wrong(check(folder)) == {"model.template": "failed"}


# Adapters


@pytest.fixture(scope="module")
def adapter(tiny_qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("adapters") / "adapter"
    save_adapter(attach_lora(load_model(tiny_qwen).model, rank=2, alpha=4), place, source=str(tiny_qwen))
    return place


def test_an_adapter_is_checked_on_its_base(adapter: Path, tiny_qwen: Path) -> None:
    for checks in (check(adapter), check(tiny_qwen, adapter=str(adapter))):
        assert not list_wrong(checks)
        assert "rank 2, fits" in checks["model.adapter"].found
        assert checks["model.files"].found.startswith("2 safetensors")


def test_m06_an_adapter_of_another_base_fails_without_any_model(
    adapter: Path, tiny_qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiny_models import save_tiny_qwen

    monkeypatch.setattr("hkdcli.doctor.model.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    other = save_tiny_qwen(tmp_path / "other", seed=5)
    checks = check(adapter, base=str(other))
    assert list_wrong(checks) == {"model.adapter": "failed"}
    assert (
        "made for another base" in checks["model.adapter"].found and "--base" in checks["model.adapter"].hint
    )
    deeper = save_tiny_qwen(tmp_path / "deeper", layers=3)
    foreign = Path(shutil.copytree(adapter, tmp_path / "foreign"))
    (foreign / "base.json").unlink()  # another tool's: names and shapes decide
    checks = check(foreign, base=str(deeper))
    assert "does not fit this base" in checks["model.adapter"].found


def test_m06_a_base_that_has_moved_is_told(adapter: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(adapter, tmp_path / "moved"))
    edit_json(moved / "adapter_config.json", base_model_name_or_path=str(tmp_path / "gone"))
    checks = check(moved)
    assert list_wrong(checks) == {"model.folder": "failed"}
    assert f"expected {tmp_path / 'gone'}" in checks["model.folder"].found


# Quantization and calibration


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_answers_are_compared_with_the_quantized_model(tmp_path: Path, quantization: str) -> None:
    from tiny_models import save_tiny_llava

    checks = check(save_tiny_llava(tmp_path / "wide", hidden_size=64), quantization=quantization)
    assert set(list_wrong(checks)) <= {"model.quantization"}  # a random model may well waver
    found = checks["model.quantization"].found
    assert found.startswith(quantization) and "14 of model.language_model" in found
    assert "% of 8 drawn records" in found and "log-probabilities move by at most" in found


def test_a_model_that_answers_otherwise_when_quantized_is_a_warning(
    tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hkdcli.doctor import quantizing

    real, calls = quantizing.score, []

    def score(loaded, data):
        calls.append(loaded.quantization)
        records = real(loaded, data)
        for record in records if loaded.quantization == "nf4" else ():
            record.log_probs[:] = -record.log_probs
        return records

    monkeypatch.setattr(quantizing, "score", score)
    found = check(tiny_qwen, quantization="nf4")["model.quantization"]
    assert calls == ["none", "nf4"] and found.status == "warning" and "answers 0% of 8" in found.found


def test_m12_an_unsupported_device_fails_before_the_model_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes

    monkeypatch.setattr(bitsandbytes, "supported_torch_devices", {"cuda"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    checks = check("some-org/some-model", quantization="nf4")
    assert list_wrong(checks) == {"model.device": "failed", "model.folder": "failed"}
    assert "does not work on cpu" in checks["model.device"].found and not checks["model.device"].is_absent
    assert checks["model.folder"].is_absent


def test_weights_that_are_stored_quantized_are_taken_as_they_are(tmp_path: Path) -> None:
    from tiny_models import save_tiny_llava

    whole = load_model(save_tiny_llava(tmp_path / "wide", hidden_size=64), quantization="nf4")
    for part in (whole.model, whole.processor):
        part.save_pretrained(tmp_path / "stored")
    checks = check(tmp_path / "stored")
    assert not list_wrong(checks) and checks["model.tensors"].status == "skipped"
    assert (
        checks["model.quantization"].found.startswith("nf4") and "14 of" in checks["model.quantization"].found
    )
    found = check(tmp_path / "stored", quantization="int8")["model.quantization"]
    assert found.status == "failed" and "quantized already" in found.found


def test_too_little_memory_loads_nothing(tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hkdcli.doctor.model.has_room", lambda folder, device: False)
    found = check(tiny_qwen, quantization="int8")["model.quantization"]
    assert found.status == "skipped" and "too little memory" in found.found


def test_a_calibration_is_that_of_these_weights_and_prompts(folder: Path) -> None:
    from hkdcli.data.prompts import compute_prompt_hash
    from hkdcli.inference.calibration_file import Calibration, write_calibration

    loaded, path = load_model(folder), folder / "calibration.json"
    prompts, own = compute_prompt_hash(loaded.processor), compute_weights_hash(loaded.model)
    write_calibration(path, Calibration(prompt_hash=prompts, weights_hash=own))
    assert check(folder)["model.calibration"].status == "ok"
    for other in ({"prompt_hash": "x", "weights_hash": own}, {"prompt_hash": prompts, "weights_hash": "x"}):
        write_calibration(path, Calibration(**other))
        assert list_wrong(check(folder)) == {"model.calibration": "warning"}
    path.write_text("{}")
    assert list_wrong(check(folder)) == {"model.calibration": "failed"}
