"""M03: nothing that a checkpoint folder holds is ever unpickled by a resume."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest
from safetensors.torch import load_file
from tiny_records import Touch, plant_pickles
from toy_run import assert_same_weights, run

from hkdcli.errors import ModelError

FILES = ["weights.safetensors", "optimizer.safetensors", "random.safetensors", "progress.json"]


@pytest.fixture
def trained(tmp_path):
    """The student of a run that has checkpoints of steps 8 and 9."""
    return run(tmp_path / "run")[0]


@pytest.fixture
def begun(tmp_path, trained):
    """The newest checkpoint."""
    return tmp_path / "run/checkpoints/step-000009"


@pytest.fixture
def marker(tmp_path):
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Touch(marker)))
    assert marker.exists()
    marker.unlink()
    return marker


def replace(path, marker, *, reseal):
    """Put a pickle in the place of a file; with `reseal`, the manifest says that it belongs there."""
    path.write_bytes(pickle.dumps(Touch(marker)))
    if reseal:
        manifest = json.loads((path.parent / "MANIFEST.json").read_text())
        manifest["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        (path.parent / "MANIFEST.json").write_text(json.dumps(manifest))


def test_m03_pickles_beside_a_checkpoint_s_files_are_not_opened(tmp_path, trained, begun, marker):
    plant_pickles(begun, marker)
    resumed, _ = run(tmp_path / "run", resume=True)
    assert_same_weights(resumed, trained)
    assert not marker.exists()


@pytest.mark.parametrize("name", FILES)
def test_m03_a_pickle_in_the_place_of_a_file_makes_the_checkpoint_before_it_count(
    tmp_path, trained, begun, marker, name
):
    replace(begun / name, marker, reseal=False)
    resumed, _ = run(tmp_path / "run", resume=True)
    assert_same_weights(resumed, trained)
    assert not marker.exists()


@pytest.mark.parametrize("name", FILES)
def test_m03_a_pickle_that_the_manifest_vouches_for_is_refused_unopened(tmp_path, begun, marker, name):
    replace(begun / name, marker, reseal=True)
    with pytest.raises(ModelError, match="not a checkpoint of a training") as caught:
        run(tmp_path / "run", resume=True)
    assert caught.value.exit_code == 3
    assert not marker.exists()


def test_m03_a_whole_checkpoint_has_no_other_files_than_these(begun):
    assert {path.name for path in begun.iterdir()} == {*FILES, "MANIFEST.json"}
    assert load_file(begun / "weights.safetensors")
