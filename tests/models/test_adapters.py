from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_models import save_tiny_llava
from tiny_records import make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.prompts import identity_presentation
from hkdcli.errors import MachineLimitError, ModelError
from hkdcli.models.adapters import attach_lora, load_adapter, merge_adapter, save_adapter
from hkdcli.models.answers import AnswerModel
from hkdcli.models.fingerprints import compute_fingerprint
from hkdcli.models.loading import LoadedModel, load_model


def compute_answer(loaded: LoadedModel, model: torch.nn.Module | None = None) -> torch.Tensor:
    example = make_hallucination()
    batch = Collator(loaded.processor)([example], [make_image()], [identity_presentation(example)])
    with torch.no_grad():
        return AnswerModel(model or loaded.model)(batch).logits


def shake(model: torch.nn.Module) -> None:
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3)


@pytest.fixture
def adapted(tiny_model: Path, tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """An adapter folder with random weights, and what the adapted model answers."""
    loaded = load_model(tiny_model)
    plain = compute_answer(loaded)
    wrapped = attach_lora(loaded.model, rank=4, alpha=8)
    torch.testing.assert_close(compute_answer(loaded, wrapped), plain)
    shake(wrapped)
    answer = compute_answer(loaded, wrapped)
    assert not torch.allclose(answer, plain)
    save_adapter(wrapped, tmp_path / "adapter", source=str(tiny_model))
    return tmp_path / "adapter", answer


def test_round_trip_by_folder_and_on_a_base(adapted, tiny_model):
    folder, answer = adapted
    assert not list(folder.glob("*.bin"))
    alone = load_model(folder)
    assert alone.source == str(tiny_model)
    assert alone.adapter == str(folder)
    torch.testing.assert_close(compute_answer(alone), answer)
    assert not any(p.requires_grad for p in alone.model.parameters())
    together = load_model(tiny_model, adapter=folder, trainable=True)
    torch.testing.assert_close(compute_answer(together), answer)
    trainable = [name for name, p in together.model.named_parameters() if p.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)


def test_merged_model_answers_alike_and_is_plain(adapted):
    folder, answer = adapted
    loaded = load_model(folder)
    merged = merge_adapter(loaded.model)
    torch.testing.assert_close(compute_answer(loaded, merged), answer, rtol=1e-4, atol=1e-4)
    assert not any("lora_" in name for name, _ in merged.named_parameters())


def test_m06_base_that_moved(adapted, tiny_model, tmp_path):
    folder, answer = adapted
    settings = folder / "adapter_config.json"
    settings.write_text(
        json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": str(tmp_path / "gone")})
    )
    with pytest.raises(ModelError, match="base is not found") as caught:
        load_model(folder)
    assert "--base" in str(caught.value.hint)
    torch.testing.assert_close(compute_answer(load_model(folder, base=tiny_model)), answer)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "XLORA", "adapters": {"0": "org/other"}}, "an adapter of type XLORA"),
        ({"peft_type": None}, "an adapter of type None"),
        ({"megatron_config": {"a": 1}, "megatron_core": "spy"}, "which is never imported"),
    ],
)
def test_m02_an_adapter_that_names_modules_or_other_adapters(
    adapted, tiny_model, tmp_path, monkeypatch, change, said
):
    folder, _ = adapted
    (tmp_path / "spy.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(settings | change))
    with pytest.raises(ModelError, match=said) as caught:
        load_model(tiny_model, adapter=folder)
    assert caught.value.hint and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError("no room")])
def test_r01_memory_that_runs_out_is_no_fault_of_the_adapter(adapted, tiny_model, monkeypatch, error):
    import peft

    folder, _ = adapted

    def run_out(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(peft.PeftModel, "from_pretrained", run_out)
    with pytest.raises((MachineLimitError, type(error))):
        load_model(tiny_model, adapter=folder)


def test_m06_adapter_of_another_base(adapted, tmp_path):
    folder, _ = adapted
    other = save_tiny_llava(tmp_path / "other", seed=7)
    with pytest.raises(ModelError, match="made for another base: expected .* found"):
        load_model(other, adapter=folder)


def test_m06_foreign_adapter_that_does_not_fit(tiny_llava, tmp_path):
    wrapped = attach_lora(load_model(tiny_llava).model, rank=2, alpha=2)
    save_adapter(wrapped, tmp_path / "adapter", source="x")
    (tmp_path / "adapter" / "base.json").unlink()
    for name, options in {
        "narrow": {"hidden_size": 16},
        "deep": {"layers": 3},
        "flat": {"layers": 1},
    }.items():
        other = load_model(save_tiny_llava(tmp_path / name, **options))
        with pytest.raises(ModelError, match="does not fit this base"):
            load_adapter(other.model, tmp_path / "adapter")


def test_m01_pickled_adapter_is_refused(adapted, tiny_model):
    folder, _ = adapted
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="only pickled weights"):
        load_model(tiny_model, adapter=folder)


def test_adapter_on_an_adapter_is_refused(adapted):
    with pytest.raises(ModelError, match="adapter itself"):
        load_model(adapted[0], adapter=adapted[0])


@pytest.mark.parametrize("targets", ["language", "all"])
def test_targets(tiny_model, targets):
    wrapped = attach_lora(load_model(tiny_model).model, rank=2, alpha=2, targets=targets)
    adapted = [name for name, _ in wrapped.named_parameters() if "lora_" in name]
    assert any("language_model" in name for name in adapted)
    assert any("language_model" not in name for name in adapted) == (targets == "all")
    assert not any("lm_head" in name for name in adapted)


def test_fingerprint_tells_bases_apart_whatever_their_dtype(tiny_llava, tmp_path):
    loaded = load_model(tiny_llava)
    mark = compute_fingerprint(loaded.model)
    assert compute_fingerprint(load_model(tiny_llava, dtype=torch.bfloat16).model) == mark
    assert compute_fingerprint(attach_lora(loaded.model, rank=2, alpha=2)) == mark
    assert compute_fingerprint(load_model(save_tiny_llava(tmp_path / "o", seed=3)).model) != mark
