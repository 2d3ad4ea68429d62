"""What is no export: a merge that went wrong (M07), a stop, options and records that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_exports import Heard, list_names, save_tuned, write_run
from tiny_records import DrawnImages, make_factuality, make_hallucination

from hkdcli.data.datasets import Dataset
from hkdcli.errors import DataError, GateError, UsageError
from hkdcli.exporting import export, weights
from hkdcli.exporting.export import export_model
from hkdcli.models.adapters import merge_adapter
from hkdcli.models.loading import load_model

RECORDS = Dataset("mine", (make_hallucination(), make_factuality()), DrawnImages())


def check_refused(error: type[Exception], message: str, out: Path, model: Path | str, **options) -> Exception:
    """An export that fails leaves nothing at all."""
    with pytest.raises(error, match=message) as caught:
        export_model(str(model), out=out, data=RECORDS, **options)
    assert list_names(out.parent) == set()
    return caught.value


def test_m07_a_merge_that_drops_the_update_fails(tuned_run, out, monkeypatch):
    monkeypatch.setattr(weights, "merge_adapter", lambda model: model.unload())
    error = check_refused(GateError, "merging changed nothing", out, tuned_run)
    assert error.exit_code == 6


def test_m07_a_trained_projector_that_is_left_out_is_told_by_name(tuned_run, tiny_llava, out, monkeypatch):
    def merge_without_projector(model):
        merged = merge_adapter(model)
        merged.model.multi_modal_projector = load_model(tiny_llava).model.model.multi_modal_projector
        return merged

    monkeypatch.setattr(weights, "merge_adapter", merge_without_projector)
    check_refused(GateError, "every weight that the trained connector updates is as it was", out, tuned_run)


def test_m07_a_merge_that_drops_part_of_the_update_fails(tuned_run, out, monkeypatch):
    def merge_half(model):
        for name, parameter in model.named_parameters():
            if ".layers.1." in name and "lora_B" in name:
                parameter.data.zero_()
        return merge_adapter(model)

    monkeypatch.setattr(weights, "merge_adapter", merge_half)
    check_refused(GateError, "does not answer as its source", out, tuned_run)


@pytest.mark.parametrize("coarse", [torch.float16, torch.bfloat16])
def test_m07_a_merge_in_a_coarse_number_type_fails(tuned_run, out, monkeypatch, coarse):
    monkeypatch.setattr(weights, "merge_adapter", lambda model: merge_adapter(model).to(coarse))
    error = check_refused(GateError, r"beyond the tolerance of 0.001", out, tuned_run)
    assert "--adapter" in str(error.hint)


def test_m07_an_update_that_rounding_swallows_is_no_export(tiny_llava, out):
    tiny = save_tuned(tiny_llava, out.parent.parent / "tiny", scale=2e-5, projector=False)
    error = check_refused(GateError, "merging changed nothing", out, tiny, dtype="bfloat16")
    assert "--dtype float32" in str(error.hint)
    assert export_model(str(tiny), out=out, data=RECORDS).kind == "merged"


def test_an_adapter_that_was_never_trained_may_be_merged(tiny_llava, out):
    fresh = save_tuned(tiny_llava, out.parent.parent / "fresh", scale=0.0)
    assert export_model(str(fresh), out=out, data=RECORDS).parity.largest_difference == 0.0


def test_a_folder_that_does_not_load_is_no_export(tuned_run, out, monkeypatch):
    monkeypatch.setattr(export, "copy_processor", lambda source, folder: None)
    check_refused(GateError, "does not load", out, tuned_run)


def test_an_adapter_of_a_quantized_base_is_kept_but_not_merged(out):
    """nf4 and whole weights answer differently; the adapter says how its base is held."""
    run = write_run(
        out.parent.parent / "run",
        "scenes:large",
        adapter="scenes:large-tuned",
        quantization="nf4",
        quantized_parts="language",
        train=None,
        test=None,
    )
    with pytest.raises(GateError, match="does not answer as its source") as caught:
        export_model(str(run), out=out, check=8)
    assert "--adapter" in str(caught.value.hint) and list_names(out.parent) == set()
    summary = export_model(str(run), out=out, check=8, adapter=True)
    assert summary.parity.largest_difference == 0.0
    assert json.loads((out / "base.json").read_text())["quantization"] == "nf4"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": True}, "has no adapter"),
        ({"check": 0}, "at least one record"),
        ({"level": "base"}, "is no run folder"),
    ],
)
def test_options_that_cannot_be_met_are_refused(tiny_llava, out, options, message):
    check_refused(UsageError, message, out, tiny_llava, **options)


def test_an_adapter_has_no_number_type_of_its_own(tuned_run, out):
    check_refused(UsageError, "copied as it is", out, tuned_run, adapter=True, dtype="float32")


def test_bad_images_are_passed_over_but_one_record_must_be_left(tiny_llava, out):
    broken = make_factuality("b", image="broken.png")
    bad = Dataset("bad", (broken,), DrawnImages())
    with pytest.raises(DataError, match="none of its 1 records") as caught:
        export_model(str(tiny_llava), out=out, data=bad)
    assert caught.value.exit_code == 3 and list_names(out.parent) == set()
    heard = Heard()
    some = Dataset("some", (broken, make_factuality()), DrawnImages())
    parity = export_model(str(tiny_llava), out=out, data=some, reporter=heard).parity
    assert (parity.records, parity.skipped) == (1, 1)
    assert any("image.truncated" in warning for warning in heard.warnings)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_stop_in_the_middle_leaves_nothing(tuned_run, out, monkeypatch, error):
    def stop(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(export, "compare_answers", stop)
    with pytest.raises(error):
        export_model(str(tuned_run), out=out, data=RECORDS)
    assert list_names(out.parent) == set()
