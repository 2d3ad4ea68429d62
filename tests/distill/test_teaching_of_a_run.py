"""What a recipe says of teaching arrives in the loss of a run: settings, adapters, heads, tokenizers."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny_llava, save_tiny_qwen
from tiny_records import make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.prompts import identity_presentation
from hkdcli.distill import online
from hkdcli.distill.levels import TrainedLevel, load_level
from hkdcli.engine import distill_online
from hkdcli.errors import ModelError
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model
from hkdcli.reporter import SilentReporter
from hkdcli.runtime import choose_runtime

RECIPE = """
name: tiny
data: {train: {scenes: {split: train, size: 4}}}
pyramid:
  - {name: top, model: TEACHER, train: null}
  - {name: base, model: STUDENT, tuning: full}
distill: {teacher_check: null}
train: {max_steps: 1, micro_batch_size: 4, log_every: 1}
runtime: {device: cpu, dtype: float32}
"""


def run(folder, teacher, student, *overrides):
    """The figures of the first step of a whole run."""
    folder.mkdir(parents=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("TEACHER", str(teacher)).replace("STUDENT", str(student)))
    distill_online(recipe, overrides, out=folder / "run")
    return json.loads((folder / "run/log.jsonl").read_text().splitlines()[0])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_tiny_llava(tmp_path_factory.mktemp("teacher"), seed=5)


@pytest.fixture(scope="module")
def plain_figures(tmp_path_factory, teacher, tiny_llava):
    return run(tmp_path_factory.mktemp("plain") / "it", teacher, tiny_llava)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, teacher):
    torch.manual_seed(0)
    wrapped = attach_lora(load_model(teacher).model, rank=4, alpha=8)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3)
    folder = tmp_path_factory.mktemp("adapter") / "it"
    save_adapter(wrapped, folder, source=str(teacher))
    return folder


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("distill.temperature=4.0", "token"),
        ("distill.temperature=4.0", "choice"),
        ("distill.divergence=reverse_kl", "token"),
        ("distill.top_k=2", "token"),
        ("distill.choice_weight=0.9", "loss"),
        ("distill.lambda.start=0.9", "loss"),
    ],
)
def test_what_a_recipe_says_of_teaching_reaches_the_loss(
    override, part, plain_figures, teacher, tiny_llava, tmp_path
):
    found = run(tmp_path / "it", teacher, tiny_llava, override)
    assert found[part] != pytest.approx(plain_figures[part], rel=1e-2)
    assert found["cross_entropy"] == pytest.approx(plain_figures["cross_entropy"], rel=1e-5)


def test_a_recipe_decides_on_the_square_of_the_temperature(teacher, tiny_llava, tmp_path):
    warm = ("distill.temperature=3.0",)
    scaled = run(tmp_path / "scaled", teacher, tiny_llava, *warm)
    bare = run(tmp_path / "bare", teacher, tiny_llava, *warm, "distill.scale_by_temperature=false")
    for part in ("choice", "token"):
        assert scaled[part] == pytest.approx(9.0 * bare[part], rel=1e-4)


def test_a_teachers_adapter_changes_its_logits(teacher, adapter):
    example = make_hallucination()
    answers = []
    for place in (None, str(adapter)):
        level = load_level(TrainedLevel("top", str(teacher), place, "none"), choose_runtime("cpu", "float32"))
        batch = Collator(level.processor)([example], [make_image()], [identity_presentation(example)])
        answers.append(AnswerModel(level.model)(batch).logits)
    assert (answers[0] - answers[1]).abs().max() > 0.1


def test_a_teachers_adapter_changes_the_loss_of_a_run(plain_figures, teacher, adapter, tiny_llava, tmp_path):
    found = run(tmp_path / "it", teacher, tiny_llava, f"pyramid.0.adapter={adapter}")
    for part in ("choice", "token"):
        assert found[part] != pytest.approx(plain_figures[part], rel=1e-3)
    assert found["cross_entropy"] == pytest.approx(plain_figures["cross_entropy"], rel=1e-5)


@pytest.mark.parametrize("wide", ["teacher", "student"])
def test_padding_of_either_head_stays_out_of_the_teaching_of_a_run(wide, tiny_qwen, tmp_path):
    """Both tokenizers are one and the same; only the padding of the heads differs."""
    logs = []
    for loud in (False, True):
        padded = save_tiny_qwen(tmp_path / f"{loud}", seed=5, vocab_size=512)
        if loud:
            raise_padding(padded)
        pair = (padded, tiny_qwen) if wide == "teacher" else (tiny_qwen, padded)
        logs.append(run(tmp_path / f"run-{loud}", *pair, "distill.top_k=5"))
    for part in ("choice", "token"):
        assert logs[0][part] > 0.01 and logs[1][part] == pytest.approx(logs[0][part], rel=1e-5)
    if wide == "student":  # which pays for mass on padding, but with its labels
        assert logs[1]["cross_entropy"] > logs[0]["cross_entropy"] + 1.0


def raise_padding(folder):
    """Give the tokens past the tokenizer's, and those alone, logits far from all others."""
    weights = load_file(folder / "model.safetensors")
    known = len(load_model(folder).processor.tokenizer)
    weights["lm_head.weight"][known:] *= 100.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_tokenizers_of_one_size_with_other_ids_are_not_compared_by_token(tiny_llava, tmp_path):
    other = save_tiny_llava(tmp_path / "other", seed=5)
    path = other / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = document["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModelError, match="tokenizer"):
        run(tmp_path / "it", other, tiny_llava, "distill.choice_weight=0.5")


class Heard(SilentReporter):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def read_adapter(folder):
    return load_file(folder / "adapter_model.safetensors")


def test_what_a_recipe_says_of_a_level_reaches_the_model(teacher, tiny_llava, tmp_path, monkeypatch):
    """Projector, quantized parts and gradient checkpointing: each is seen where it acts."""
    enabled = []
    monkeypatch.setattr(online, "enable_gradient_checkpointing", enabled.append)
    recipe, heard = tmp_path / "recipe.yaml", Heard()
    recipe.write_text(RECIPE.replace("TEACHER", str(teacher)).replace("STUDENT", str(tiny_llava)))
    changes = [
        "pyramid.top.quantization=nf4",
        "pyramid.top.quantized_parts=all",
        "pyramid.base.tuning={lora: {rank: 4, train_projector: true}}",
        "train.gradient_checkpointing=true",
    ]
    distill_online(recipe, changes, out=tmp_path / "run", reporter=heard)
    held = next(text for text in heard.notes if text.startswith("top is held in nf4"))
    assert "of model.vision_tower" in held and held.endswith("kept: lm_head")
    assert any("multi_modal_projector" in name for name in read_adapter(tmp_path / "run/student"))
    assert len(enabled) == 1


def test_without_them_projector_and_vision_tower_are_left_alone(teacher, tiny_llava, tmp_path):
    recipe, heard = tmp_path / "recipe.yaml", Heard()
    recipe.write_text(RECIPE.replace("TEACHER", str(teacher)).replace("STUDENT", str(tiny_llava)))
    changes = ["pyramid.top.quantization=nf4", "pyramid.base.tuning={lora: {rank: 4}}"]
    distill_online(recipe, changes, out=tmp_path / "run", reporter=heard)
    held = next(text for text in heard.notes if text.startswith("top is held in nf4"))
    assert "kept: model.vision_tower, model.multi_modal_projector, lm_head" in held
    assert all(".language_model." in name for name in read_adapter(tmp_path / "run/student"))
