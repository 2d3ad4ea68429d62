"""calibration.json goes with the model whose answers it calibrates, and with no other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_exports import Heard
from tiny_records import DrawnImages, make_factuality

from hkdcli.data.datasets import Dataset
from hkdcli.data.prompts import compute_prompt_hash
from hkdcli.exporting.export import export_model
from hkdcli.models.fingerprints import compute_weights_hash
from hkdcli.models.loading import load_model

RECORDS = Dataset("mine", (make_factuality(),), DrawnImages())
ASKING = {
    "shifts": 1,
    "what": "both",
    "move_none": True,
    "combination": "log_mean",
    "debias": "prior",
    "task": None,
}
PRIOR = {"factuality": {"4": [0.5, -0.5, 0.25, -0.25]}}
FITS = [{"asking": ASKING, "tasks": {}, "letter_prior": PRIOR, "data": "dev", "data_hash": "h"}]


@pytest.fixture
def student(tuned_run: Path, tmp_path: Path) -> Path:
    """A student that was calibrated where it is."""
    folder = Path(shutil.copytree(tuned_run / "student", tmp_path / "student"))
    loaded = load_model(folder)
    calibration = {
        "format": 1,
        "prompt_hash": compute_prompt_hash(loaded.processor),
        "weights_hash": compute_weights_hash(loaded.model),
        "fits": FITS,
    }
    (folder / "calibration.json").write_text(json.dumps(calibration))
    return folder


@pytest.mark.parametrize("adapter", [False, True])
def test_it_is_valid_for_the_exported_weights(student, out, adapter):
    before = json.loads((student / "calibration.json").read_text())
    summary = export_model(str(student), out=out, adapter=adapter, data=RECORDS)
    after = json.loads((out / "calibration.json").read_text())
    loaded = load_model(out)
    assert summary.calibrated and after["fits"] == FITS
    assert after["prompt_hash"] == compute_prompt_hash(loaded.processor) == before["prompt_hash"]
    assert after["weights_hash"] == compute_weights_hash(loaded.model) == summary.weights_hash
    assert (after == before) == adapter
    assert "calibration.json holds" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weights_hash": "0" * 64}, "its weights_hash is not"),
        ({"prompt_hash": "0" * 64}, "its prompt_hash is not"),
        ({"format": 2}, "format: "),
        (None, "cannot be used as a calibration"),
    ],
)
def test_another_model_s_is_left_behind_with_a_warning(student, out, change, told):
    path, heard = student / "calibration.json", Heard()
    path.write_text("{" if change is None else json.dumps({**json.loads(path.read_text()), **change}))
    summary = export_model(str(student), out=out, data=RECORDS, reporter=heard)
    assert not summary.calibrated and not (out / "calibration.json").exists()
    assert any(told in warning for warning in heard.warnings)
