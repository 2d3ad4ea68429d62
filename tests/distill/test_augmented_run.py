"""A whole run on variants: killed and resumed it is the same run; what cannot be is refused."""

import json
from pathlib import Path

import pytest
import torch

from hkdcli.distill import stepper
from hkdcli.engine import distill_online, distill_refine, plan_distillation
from hkdcli.errors import RecipeError, UsageError
from hkdcli.scenes.source import load_scenes, write_scenes

RECIPE = """
name: tiny
data: {train: {scenes: {split: train, size: 10}}}
augment: {policy: strong}
pyramid:
  - {name: top, model: TOP, train: null}
  - {name: base, model: BASE, tuning: {lora: {rank: 4}}}
distill: {teacher_check: null}
train: {max_steps: 6, micro_batch_size: 4, learning_rate: 3e-3, log_every: 1, checkpoint_every: 2}
runtime: {device: cpu, dtype: float32}
"""


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    from tiny_models import save_tiny_llava

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("augmented")
    text = RECIPE
    for seed, name in enumerate(("TOP", "BASE")):
        text = text.replace(name, str(save_tiny_llava(folder / name, seed=seed)))
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    distill_online(recipe, out=out)
    return out


def read_losses(run: Path) -> list[float]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def test_a_killed_run_goes_on_with_the_very_same_variants(recipe, whole, tmp_path, monkeypatch):
    step, count = stepper.Stepper.take_step, iter(range(100))

    def die(*arguments, **options):
        if next(count) == 3:
            raise Killed
        return step(*arguments, **options)

    monkeypatch.setattr(stepper.Stepper, "take_step", die)
    with pytest.raises(Killed):
        distill_online(recipe, out=tmp_path / "run")
    monkeypatch.undo()
    distill_online(recipe, out=tmp_path / "run", resume=True)
    mine, expected = ((run / "student" / "adapter_model.safetensors") for run in (tmp_path / "run", whole))
    assert mine.read_bytes() == expected.read_bytes()


def test_variants_are_learned_from_and_not_the_records(recipe, whole, tmp_path):
    distill_online(recipe, ["augment=null"], out=tmp_path / "run")
    assert read_losses(tmp_path / "run") != read_losses(whole)


def test_an_unknown_operation_is_refused_before_anything_is_written(recipe, tmp_path):
    change = ["augment.probabilities={flop: 0.1}"]
    for begin in (
        lambda: distill_online(recipe, change, out=tmp_path / "run"),
        lambda: plan_distillation("distill-online", recipe, change, out=tmp_path / "run"),
    ):
        with pytest.raises(UsageError, match="flop; did you mean flip"):
            begin()
    assert not (tmp_path / "run").exists()


def test_a_run_is_resumed_with_the_same_facts_or_not_at_all(recipe, tmp_path):
    write_scenes(tmp_path / "in", load_scenes("train", size=6))
    facts = tmp_path / "facts.jsonl"
    facts.write_text('{"image_id": "1.png", "objects": ["red circle"]}\n')
    source = f"data.train={{file: {tmp_path / 'in' / 'records.json'}, facts: {facts}}}"
    distill_online(recipe, [source, "train.max_steps=1"], out=tmp_path / "run")
    distill_online(recipe, [source, "train.max_steps=1"], out=tmp_path / "run", resume=True)
    facts.write_text('{"image_id": "1.png", "objects": ["blue circle"]}\n')
    with pytest.raises(UsageError, match=r"data\.facts"):
        distill_online(recipe, [source, "train.max_steps=1"], out=tmp_path / "run", resume=True)


def test_stage_two_stores_no_signals_of_variants(recipe, tmp_path):
    text = recipe.read_text().replace("distill: {teacher_check: null}", "refine: {teacher_check: null}")
    (tmp_path / "refine.yaml").write_text(text)
    with pytest.raises(RecipeError, match="hkd augment"):
        distill_refine(tmp_path / "refine.yaml", out=tmp_path / "run")


def test_stage_two_asks_live_about_variants(recipe, tmp_path):
    text = recipe.read_text().replace(
        "distill: {teacher_check: null}", "refine: {teacher_check: null, signals: live, relation: null}"
    )
    (tmp_path / "refine.yaml").write_text(text)
    distill_refine(tmp_path / "refine.yaml", ["train.max_steps=2"], out=tmp_path / "run")
    losses = read_losses(tmp_path / "run")
    distill_refine(tmp_path / "refine.yaml", ["train.max_steps=2", "augment=null"], out=tmp_path / "plain")
    assert losses != read_losses(tmp_path / "plain")
