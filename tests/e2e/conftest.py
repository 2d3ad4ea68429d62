"""What the whole-run tests share: random models of the embedded world, and one uninterrupted run."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import run_hkd, run_python

RECIPE = """
name: tiny
data:
  train: {scenes: {split: train, size: 40}}
  dev: {scenes: {split: dev, size: 4}}
  test: {scenes: {split: test, size: 20}}
pyramid:
  - {name: top, model: MODELS/top, tuning: {lora: {rank: 4, dropout: 0.1}}}
  - {name: base, model: MODELS/base, tuning: full}
distill: {teacher_check: {on_fail: warn}}
train:
  max_steps: 12
  micro_batch_size: 2
  gradient_accumulation_steps: 2
  learning_rate: 1e-3
  log_every: 1
  checkpoint_every: 3
  evaluate_every: 6
runtime: {device: cpu}
"""


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two random models of the embedded world, 0.3M parameters each; read only."""
    import torch

    from hkdcli.scenes.architecture import build_model
    from hkdcli.scenes.pretrained import build_shipped_processor

    torch.set_num_threads(1)
    folder, processor = tmp_path_factory.mktemp("scenes-models"), build_shipped_processor()
    for seed, name in enumerate(("top", "base")):
        build_model("small", seed).save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="session")
def recipe(models: Path) -> Path:
    """A pyramid of two trained levels, 12 steps of 4 records each."""
    path = models / "recipe.yaml"
    path.write_text(RECIPE.replace("MODELS", str(models)))
    return path


@pytest.fixture(scope="session")
def whole_run(recipe: Path) -> Path:
    """The run of `recipe` that nothing interrupted; read only."""
    folder = recipe.parent / "whole"
    run_hkd("distill-online", recipe, "--out", folder, folder=recipe.parent)
    return folder


@pytest.fixture(scope="session")
def scenes_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """records.json and images/ of 40 test records; read only."""
    folder = tmp_path_factory.mktemp("scenes-files")
    done = run_python("-m", "hkdcli.scenes", "write", "test", "--size", "40", "--out", folder, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder
