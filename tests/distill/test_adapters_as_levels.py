"""Levels that begin as adapters: another run's student as `model` or `adapter`, learning or mutual."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import save_tiny_llava, save_tiny_qwen

from hkdcli.engine import distill_online, plan_distillation
from hkdcli.errors import ModelError, UsageError
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.loading import load_model
from hkdcli.opening import find_model
from hkdcli.reporter import SilentReporter

RECIPE = """
name: tiny
data: {train: {scenes: {split: train, size: 4}}, test: {scenes: {split: test, size: 2}}}
pyramid:
  - {name: top, model: TOP, train: null}
  - {name: base, model: BASE, tuning: {lora: {rank: 2}}}
distill: {teacher_check: null}
train: {max_steps: 1, micro_batch_size: 4, learning_rate: 1e-2}
runtime: {device: cpu, dtype: float32}
"""


class Heard(SilentReporter):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save_tiny_llava(tmp_path_factory.mktemp("whole"), seed=5)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, whole):
    """An adapter of rank 3, as a run leaves it in student/."""
    folder = tmp_path_factory.mktemp("tuned") / "student"
    loaded = load_model(whole)
    torch.manual_seed(1)
    save_adapter(attach_lora(loaded.model, rank=3, alpha=6), folder, source=str(whole))
    loaded.processor.save_pretrained(folder)
    return folder


def run(folder, top, base, *overrides, reporter=None, start=distill_online):
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("TOP", str(top)).replace("BASE", str(base)))
    start(recipe, overrides, out=folder / "run", overwrite=True, reporter=reporter or SilentReporter())
    return folder / "run"


def test_a_student_that_is_an_adapter_folder_goes_on_learning_and_names_its_own_base(tmp_path, whole, tuned):
    heard = Heard()
    folder = run(tmp_path, whole, tuned, reporter=heard)
    settings = json.loads((folder / "student/adapter_config.json").read_text())
    assert (settings["base_model_name_or_path"], settings["r"]) == (str(whole), 3)
    before, after = (load_file(place / "adapter_model.safetensors") for place in (tuned, folder / "student"))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert (folder / "eval/test/base/results.json").is_file()
    assert any("that adapter's own LoRA settings" in note for note in heard.notes)


def test_an_upper_level_that_is_an_adapter_folder_learns_mutually(tmp_path, whole, tuned):
    folder = run(tmp_path, tuned, whole, "distill.mutual=true")
    assert load_model(folder / "levels/0-top/mutual").source == str(whole)
    assert (folder / "eval/test/top/results.json").is_file()


def test_an_adapter_that_is_to_be_trained_in_full_is_refused_before_the_first_step(tmp_path, whole, tuned):
    with pytest.raises(ModelError, match="cannot be trained in full") as error:
        run(tmp_path, whole, tuned, "pyramid.base.tuning=full")
    assert "pyramid.base.tuning" in error.value.hint
    assert not (tmp_path / "run/student").exists() and not (tmp_path / "run/log.jsonl").exists()


def test_a_model_that_is_named_as_adapter_is_refused_by_a_dry_run_too(tmp_path, whole):
    for start in (distill_online, lambda *given, **_: plan_distillation("distill-online", *given)):
        with pytest.raises(ModelError, match="is no adapter") as error:
            run(tmp_path, whole, whole, f"pyramid.top.adapter={whole}", start=start)
        assert "name them as the level's model" in error.value.hint


def test_an_adapter_without_a_processor_reads_as_its_base_does(tmp_path, whole, tuned):
    bare = shutil.copytree(tuned, tmp_path / "bare")
    for name in ("processor_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (bare / name).unlink()
    assert (run(tmp_path, bare, whole) / "eval/test/top/results.json").is_file()


def test_a_level_that_cannot_be_compared_is_refused_before_any_other_is_trained(tmp_path, whole):
    other = save_tiny_qwen(tmp_path / "other")
    levels = f"[{{name: top, model: {whole}}}, {{name: base, model: {other}}}]"
    with pytest.raises(ModelError, match="cannot be compared token by token"):
        run(tmp_path, whole, whole, f"pyramid={levels}")
    assert not (tmp_path / "run/log.jsonl").exists()


@pytest.mark.parametrize("own", ["run", "run/student"])
def test_overwriting_the_run_that_a_level_comes_from_is_refused_and_removes_nothing(tmp_path, whole, own):
    before = load_file(run(tmp_path, whole, whole) / "student/adapter_model.safetensors")
    with pytest.raises(UsageError, match="which level top needs"):
        run(tmp_path, tmp_path / own, whole)
    after = load_file(tmp_path / "run/student/adapter_model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"recipe": {"pyramid": null}}'])
def test_a_damaged_manifest_of_a_run_is_refused_with_a_way_out(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match=r"manifest\.json: is no manifest of a run") as error:
        find_model(str(tmp_path), None)
    assert str(tmp_path / "student") in error.value.hint
