"""What only a CUDA device shows: 4-bit teachers, bfloat16, real memory. Run with: pytest -m gpu tests/gpu"""

import json

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_models import save_tiny_llava, save_tiny_qwen

from hkdcli.engine import distill_online, distill_refine, infer
from hkdcli.errors import MachineLimitError
from hkdcli.inferring import InferOptions
from hkdcli.opening import DataOptions
from hkdcli.predicting import Output

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

RECIPE = """
name: gpu
data: {train: {scenes: {split: train, size: 64}}, dev: {scenes: {split: dev, size: 8}}}
pyramid:
  - {name: top, model: TOP, quantization: QUANTIZATION, train: null}
  - {name: base, model: BASE, tuning: {lora: {rank: 8}}}
distill: {teacher_check: {size: 8, on_fail: warn}}
train: {max_steps: 6, micro_batch_size: 8, learning_rate: 3e-3, log_every: 1, evaluate_every: 3}
runtime: {device: cuda}
"""


@pytest.fixture(scope="module", params=["qwen", "llava"])
def models(request, tmp_path_factory):
    folder, save = tmp_path_factory.mktemp("models"), {"qwen": save_tiny_qwen, "llava": save_tiny_llava}
    return [save[request.param](folder / name, seed=seed) for seed, name in enumerate(("top", "base"))]


def run(folder, models, *overrides, quantization="nf4"):
    AcceleratorState._reset_state(
        reset_partial_state=True
    )  # it would keep the first run's device and precision
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.yaml"
    text = RECIPE.replace("TOP", str(models[0])).replace("BASE", str(models[1]))
    recipe.write_text(text.replace("QUANTIZATION", quantization))
    distill_online(recipe, overrides, out=folder / "run")
    rows = [json.loads(line) for line in (folder / "run/log.jsonl").read_text().splitlines()]
    return [row for row in rows if "loss" in row]


@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
def test_a_quantized_teacher_teaches_a_bfloat16_student(quantization, models, tmp_path):
    rows = run(tmp_path, models, quantization=quantization)
    assert len(rows) == 6 and min(row["loss"] for row in rows[1:]) < rows[0]["loss"]
    assert all(row["peak_memory_gib"] > 0 for row in rows)
    found = json.loads((tmp_path / "run/levels/0-top/teacher_check.json").read_text())
    assert (found["agreement_unquantized"] is None) == (quantization == "none")


def test_the_gpu_computes_what_the_cpu_does(models, tmp_path):
    """In float32 and without quantization: the same losses to the precision of float32."""
    places = [("runtime.device=cpu",), ("runtime.device=cuda",)]
    one, other = (
        run(tmp_path / str(place), models, "runtime.dtype=float32", *changes, quantization="none")
        for place, changes in enumerate(places)
    )
    for row, expected in zip(other, one, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-3)


@pytest.mark.parametrize("change", ["train.gradient_checkpointing=true", "distill.mutual=true"])
def test_options_that_touch_the_graph_work_in_bfloat16(change, models, tmp_path):
    rows = run(tmp_path, models, change)
    assert all(row["loss"] > 0 and "not_finite" not in row for row in rows)


def test_r01_real_memory_that_runs_out_halves_the_micro_batch_or_says_so(models, tmp_path):
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction(2**25 / total)  # 32 MiB for everything
        with pytest.raises(MachineLimitError, match="out of memory"):
            run(tmp_path, models, "train.micro_batch_size=64", quantization="none")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_stage_two_refines_a_bfloat16_student_alike_with_stored_and_live_signals(
    quantization, models, tmp_path
):
    text = RECIPE.replace("TOP", str(models[0])).replace("BASE", str(models[1]))
    text = (
        text.replace("QUANTIZATION", quantization).replace(", train: null", "").replace("distill:", "refine:")
    )
    (tmp_path / "recipe.yaml").write_text(text)
    losses = {}
    for signals in ("stored", "live"):
        AcceleratorState._reset_state(reset_partial_state=True)
        changes = [f"refine.signals={signals}", "refine.snapshot=true", "refine.min_truth=0.0"]
        distill_refine(tmp_path / "recipe.yaml", changes, out=tmp_path / signals)
        rows = [json.loads(line) for line in (tmp_path / signals / "log.jsonl").read_text().splitlines()]
        losses[signals] = [row["loss"] for row in rows if "loss" in row]
    assert len(losses["stored"]) == 6 and min(losses["stored"][1:]) < losses["stored"][0]
    assert losses["stored"] == pytest.approx(losses["live"], rel=2e-2)  # bfloat16


def test_a_student_of_a_gpu_run_infers(models, tmp_path):
    run(tmp_path, models)
    out = tmp_path / "p.jsonl"
    options, data = InferOptions(shifts=None), DataOptions("scenes:test", limit=8)
    outcome = infer(str(tmp_path / "run"), data, options, output=Output(out))
    assert outcome.document["total"] == 8 and outcome.failed_records == 0
