"""What one level needed is gone before the next is loaded: on a GPU two of them may not fit."""

import gc
import weakref

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_models import save_tiny_llava

from hkdcli.distill import levels
from hkdcli.engine import distill_online

RECIPE = """
name: tiny
data: {train: {scenes: {split: train, size: 2}}, test: {scenes: {split: test, size: 1}}}
pyramid:
  - {name: top, model: TOP, quantization: nf4, tuning: {lora: {rank: 2}}}
  - {name: base, model: BASE, tuning: {lora: {rank: 2}}}
distill: {teacher_check: {size: 1, on_fail: warn}}
train: {max_steps: 1, micro_batch_size: 2, gradient_checkpointing: true}
runtime: {device: cpu, dtype: bfloat16}
"""


@pytest.fixture
def own_precision():
    """accelerate keeps the precision of a process's first training for all that follow."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def recipe(tmp_path, own_precision):
    text = RECIPE
    for seed, name in enumerate(("TOP", "BASE")):
        text = text.replace(name, str(save_tiny_llava(tmp_path / name, seed=seed)))
    (tmp_path / "recipe.yaml").write_text(text)
    return tmp_path / "recipe.yaml"


def test_a_level_is_loaded_with_nothing_left_of_what_was_done_before(recipe, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    load, known, beside = levels.load_model, [], []

    def load_and_count(*args, **options):
        beside.append(sum(model() is not None for model in known))
        loaded = load(*args, **options)
        known.append(weakref.ref(loaded.model))
        return loaded

    monkeypatch.setattr(levels, "load_model", load_and_count)
    gc.collect()
    gc.disable()  # cycles are not to be found by luck
    try:
        distill_online(recipe, out=tmp_path / "run")
    finally:
        gc.enable()
    apex, teacher, teacher_unquantized, base, scored = [0], [0], [1], [1], [0, 0]
    assert beside == [*apex, *teacher, *teacher_unquantized, *base, *scored]
