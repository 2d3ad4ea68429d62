"""A run as `hkd distill-online` leaves it, exported: what its folder holds is found, and told on the card."""

from __future__ import annotations

import json

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from tiny_exports import Heard
from tiny_models import save_tiny_llava

from hkdcli.engine import distill_online
from hkdcli.exporting.export import export_model

RECIPE = """
name: tiny
data: {train: {scenes: {split: train, size: 4}}, test: {scenes: {split: test, size: 3, seed: 5}}}
pyramid:
  - {name: top, model: TOP, train: null}
  - {name: base, model: BASE, tuning: {lora: {rank: 2, train_projector: true}}}
distill: {teacher_check: null}
train: {max_steps: 2, micro_batch_size: 4, learning_rate: 1e-2}
runtime: {device: cpu, dtype: float32}
"""


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_run_is_exported_with_its_scores(tmp_path, out, tuning):
    top, base = (
        save_tiny_llava(tmp_path / name, seed=seed) for seed, name in enumerate(("top", "base-model"))
    )
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(RECIPE.replace("TOP", str(top)).replace("BASE", str(base)))
    distill_online(recipe, ["pyramid.base.tuning=full"] if tuning == "full" else [], out=run)
    heard = Heard()
    summary = export_model(str(run), out=out, reporter=heard)
    assert summary.kind == ("merged" if tuning == "lora" else "whole")
    assert (summary.parity.data, summary.parity.records) == ("scenes:test", 16) and not heard.warnings
    metrics = json.loads((run / "eval/test/base/results.json").read_text())
    card = (out / "README.md").read_text()
    assert f"| exact match of the set | {metrics['metrics']['exact_match']:.4f} |" in card
    assert "Base model: base-model." in card and "top (top)" in card and str(tmp_path) not in card
    results = ModelCard(card).data.eval_results or ()
    found = {(r.dataset_config, r.metric_name): r.metric_value for r in results}
    for task, scored in metrics["tasks"].items():
        assert found[(task, "micro-F1 over choices")] == round(scored["metrics"]["micro_f1"], 4)
    exported, before = (load_file(place / "model.safetensors") for place in (out, base))
    changed = {name for name in before if not torch.equal(before[name], exported[name])}
    assert any("projector" in name for name in changed) and any("q_proj" in name for name in changed)
    assert any("vision" in name for name in changed) == (tuning == "full")
