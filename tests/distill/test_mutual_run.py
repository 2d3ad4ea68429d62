"""`mutual: true` in a whole run: the level above learns too, both are saved, and the pair survives a kill."""

import json
from pathlib import Path

import pytest
import torch

from hkdcli.distill import stepper
from hkdcli.engine import distill_online
from hkdcli.models.loading import load_model
from hkdcli.opening import find_model

RECIPE = """
name: tiny
data: {train: {scenes: {split: train, size: 24}}, test: {scenes: {split: test, size: 4}}}
pyramid:
  - {name: top, model: TOP, quantization: nf4, train: null, tuning: {lora: {rank: 4}}}
  - {name: middle, model: MIDDLE, tuning: full}
  - {name: base, model: BASE, tuning: {lora: {rank: 4, dropout: 0.1}}}
distill: {mutual: true, teachers: all, teacher_check: null}
train: {max_steps: 4, micro_batch_size: 4, learning_rate: 3e-3, log_every: 1, checkpoint_every: 1}
runtime: {device: cpu, dtype: float32}
"""


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    from tiny_models import save_tiny_llava

    folder = tmp_path_factory.mktemp("mutual")
    text = RECIPE
    for seed, name in enumerate(("TOP", "MIDDLE", "BASE")):
        text = text.replace(name, str(save_tiny_llava(folder / name, seed=seed)))
    (folder / "recipe.yaml").write_text(text)
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, distill_online(recipe, out=out)


def read_tensors(folder):
    from safetensors.torch import load_file

    return {
        (path.relative_to(folder).as_posix(), name): tensor
        for path in sorted(Path(folder).rglob("*.safetensors"))
        if "checkpoints" not in path.parts
        for name, tensor in load_file(path).items()
    }


def test_both_of_a_pair_are_saved_and_the_upper_one_has_changed(whole):
    run, outcome = whole
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all({"upper_cross_entropy", "upper_choice", "upper_token"} <= set(row) for row in rows)
    top, middle = run / "levels/0-top/mutual", run / "levels/1-middle/mutual"
    adapter = {key: value for key, value in read_tensors(top).items() if "lora_B" in key[1]}
    assert adapter and all(tensor.any() for tensor in adapter.values())  # B is 0 before any training
    alone, beside = read_tensors(run / "levels/1-middle/model"), read_tensors(middle)
    assert any(not torch.equal(alone[key], beside[key]) for key in alone)
    assert [row["level"] for row in outcome.document["scores"]] == [
        "constant answer",
        "top",
        "middle",
        "base",
    ]


def test_a_level_that_learned_on_is_what_infer_finds(whole):
    run, _ = whole
    assert find_model(str(run), "top").model == str(run / "levels/0-top/mutual")
    assert find_model(str(run), "middle").model == str(run / "levels/1-middle/mutual")
    assert find_model(str(run), None).model == str(run / "student")
    load_model(run / "levels/0-top/mutual", quantization="nf4")


@pytest.mark.parametrize("at", [3, 6])
def test_a_killed_pair_resumes_to_the_same_bits(at, recipe, whole, tmp_path, monkeypatch):
    before, calls = stepper.Stepper.take_step, []

    def take_step(self, step):
        calls.append(step)
        if len(calls) == at:
            raise Killed
        return before(self, step)

    monkeypatch.setattr(stepper.Stepper, "take_step", take_step)
    with pytest.raises(Killed):
        distill_online(recipe, out=tmp_path / "run")
    distill_online(recipe, out=tmp_path / "run", resume=True)
    expected, found = read_tensors(whole[0]), read_tensors(tmp_path / "run")
    assert expected.keys() == found.keys()
    for key, tensor in expected.items():
        assert torch.equal(tensor, found[key]), key
