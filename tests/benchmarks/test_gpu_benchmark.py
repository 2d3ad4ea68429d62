"""The benchmark of one GPU, in tiny shapes on a CPU: the plan is what is measured, and the page shows it.

Faults: R01 (memory that runs out is reported, and the other numbers of examples go on).
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "gpu"))
import one_gpu
from flops import compute_share, count_flops
from gpu_cases import Shapes
from gpu_steps import measure_widths
from gpu_table import render_page
from one_gpu import read_options

from hkdcli.errors import MachineLimitError
from hkdcli.models.quantization import list_quantized
from hkdcli.planning.hollow import count_bytes
from hkdcli.planning.lesson import TrainingMemory
from hkdcli.planning.staging import Machine

pytestmark = pytest.mark.slow

TINY = ["--tiny", "--steps", "1", "--micro-batch-sizes", "1,2"]
SHAPES = Shapes(Machine("cpu", torch.float32), tiny=True)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command writes of two cases; to save time, the processes that it starts are this one."""
    folder = tmp_path_factory.mktemp("figures")
    out = ["--json", str(folder / "figures.json"), "--write", str(folder / "results" / "gpu.md")]
    cases = ["--cases", "7b-3b", "shift-7b-nf4", "--peak-tflops", "0.1"]
    with pytest.MonkeyPatch.context() as patch:

        def stay_here(command: list[str]) -> tuple[int, str]:
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(sys, "argv", command[1:])
                one_gpu.main()
            return 0, ""

        patch.setattr(one_gpu, "follow", stay_here)
        patch.setattr(sys, "argv", ["one_gpu.py", *TINY, *cases, *out])
        one_gpu.main()
    assert (folder / "results/gpu.md").read_text().startswith("# One GPU, measured")
    return dict(json.loads((folder / "figures.json").read_text()))


def list_reports(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [report for case in document["cases"].values() for report in case.get("widths", [])]


def test_planned_weights_gradients_and_optimizer_are_those_measured_and_activations_nearly(document):
    reports = list_reports(document)
    assert [report["examples_at_once"] for report in reports] == [1, 2]
    for report in reports:
        for part in ("weights", "gradients", "optimizer"):
            assert report["planned"][part] == report["measured"][part] > 0
        assert report["ratios"]["activations"] == pytest.approx(1.0, abs=0.05)
        parts = ("weights", "gradients", "optimizer", "activations")
        for peak in (report["planned"], report["measured"]):
            assert peak["peak"] == sum(peak[part] for part in parts)


def test_a_step_of_two_examples_does_twice_the_work_of_one(document):
    one, two = document["cases"]["7b-3b"]["widths"]
    assert two["flops_per_step"] == pytest.approx(2 * one["flops_per_step"], rel=0.01)
    assert two["tokens_per_step"] == 2 * one["tokens_per_step"]
    assert two["measured"]["activations"] > 1.5 * one["measured"]["activations"]
    for report in (one, two):
        assert 0 < report["reading_seconds_per_step"] < report["seconds_per_step"]
        rate = report["flops_per_step"] / report["seconds_per_step"] / 1e11
        assert report["share_of_peak"] == pytest.approx(rate)


def test_all_orders_cost_more_than_one_and_less_than_as_many_passes(document):
    report = document["cases"]["shift-7b-nf4"]
    assert (report["one"]["orders"], report["all"]["orders"]) == (1, 4)
    assert report["all"]["peak"] > report["one"]["peak"] > report["weights"]
    ratio = report["one"]["records_per_second"] / report["all"]["records_per_second"]
    assert report["all_over_one"] == pytest.approx(ratio)


def test_the_page_shows_every_case_that_was_measured_and_every_one_that_was_not(document):
    changed = copy.deepcopy(document)
    report = changed["cases"]["7b-3b"]["widths"][0] | {"outcome": "out of memory"}
    changed["cases"]["72b-lora"] = {"kind": "lesson", "widths": [report], "outcome": "out of memory"}
    changed["cases"]["32b-7b"] = {"kind": "lesson", "outcome": "failed: Killed"}
    changed["cases"]["shift-7b"] = {"kind": "asking", "outcome": "out of memory"}
    page = render_page(changed)
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {11, 6}
    cells = [[cell.strip() for cell in row] for row in rows]
    planned = f"{list_reports(document)[0]['planned']['peak'] / 2**30:.2f}"
    assert next(row for row in cells if row[:2] == ["7b-3b", "1"])[2] == planned
    assert [row[:4] for row in cells if row[0] == "72b-lora"][0][3] == "out of memory"
    assert any("failed: Killed" in row for row in cells if row[0] == "32b-7b")
    assert any("out of memory" in row for row in cells if row[0] == "shift-7b")
    json.dumps(document)


def test_r01_what_does_not_fit_or_runs_out_of_memory_says_so_and_the_others_go_on():
    memory = {width: TrainingMemory(1, 1, 1, 1, 1, 1, peak=width) for width in (1, 2, 4)}

    class Bench:
        def measure(self, width, steps, peak_tflops):
            if width == 2:
                raise MachineLimitError("step 1: out of memory with 2 examples on the device at once")
            parts = ("weights", "gradients", "optimizer", "activations", "peak")
            return {"measured": dict.fromkeys(parts, 1)}

        def clean_up(self):
            pass

    reports = measure_widths(Bench, memory, lambda each: each.peak < 4, 1, None)
    outcomes = [report["outcome"] for report in reports]
    assert outcomes == ["measured", "out of memory", "does not fit"]


def test_another_fault_is_not_taken_for_memory_that_ran_out():
    class Bench:
        def measure(self, *_):
            raise ValueError("step 1: its loss or gradient is not finite")

    with pytest.raises(ValueError, match="not finite"):
        measure_widths(Bench, {1: TrainingMemory(*[1] * 7)}, lambda each: True, 1, None)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("raise RuntimeError('no kernel image')", "failed: RuntimeError: no kernel image"),
        ("os.kill(os.getpid(), 9)", "failed: signal 9"),
    ],
)
def test_a_case_that_dies_is_reported_with_its_last_word(end, outcome, monkeypatch, tmp_path):
    program = tmp_path / "dies.py"
    program.write_text(f"import os, sys\nprint('some noise', file=sys.stderr, flush=True)\n{end}\n")
    monkeypatch.setattr(one_gpu, "__file__", str(program))
    report = one_gpu.run_apart("7b-3b", read_options(TINY))
    assert report == {"kind": "lesson", "card": None, "outcome": outcome}


@pytest.mark.parametrize("size", ["3B", "7B"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_random_weights_have_the_bytes_and_the_spread_that_real_ones_have(size, quantization):
    hollow = SHAPES.build(size, quantization, None).model
    model = SHAPES.build(size, quantization, torch.device("cpu")).model
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert count_bytes(model) == count_bytes(hollow)
    assert (len(list_quantized(model)) > 0) == (quantization == "nf4")
    tied = model.lm_head.weight is model.get_input_embeddings().weight
    assert tied == (size == "3B")
    layer = model.model.language_model.layers[0].mlp.down_proj
    eye = torch.eye(layer.in_features)
    weight = layer(eye)  # what the layer computes with, unpacked
    assert weight.std().item() == pytest.approx(0.02, rel=0.05) and abs(weight.mean().item()) < 2e-3
    frequencies = model.model.language_model.rotary_emb.inv_freq
    assert frequencies[0] == 1.0 and (frequencies.diff() < 0).all()


def test_operations_of_packed_weights_count_as_those_of_whole_ones():
    counts = []
    for quantization in ("none", "nf4"):
        model = SHAPES.build("7B", quantization, torch.device("cpu")).model
        layer = model.model.language_model.layers[0].mlp.up_proj
        inputs = torch.ones(2, 5, layer.in_features, requires_grad=True)
        counts.append(count_flops(lambda layer=layer, inputs=inputs: layer(inputs).sum().backward()))
    forward = 2 * 10 * layer.in_features * layer.out_features
    assert counts == [2 * forward, 2 * forward]  # and as many for the gradient of the inputs


def test_a_card_that_is_not_known_has_no_share():
    assert compute_share(10**12, 0.5, None) is None
    assert compute_share(10**12, 0.5, 4.0) == pytest.approx(0.5)
