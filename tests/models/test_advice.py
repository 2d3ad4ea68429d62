"""M01, M02: what a hint tells to type does what it says, and runs nothing of the model."""

from __future__ import annotations

import json
import pickle
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_records import Touch

from hkdcli.errors import ModelError
from hkdcli.models.adapters import attach_lora, load_adapter, save_adapter
from hkdcli.models.advice import advise_conversion_of_hub
from hkdcli.models.loading import load_model


@pytest.fixture
def folder(tiny_llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(tiny_llava, tmp_path / "my model"))


def pickle_weights(folder: Path, kind: str, name: str) -> None:
    """Leave a folder as it was before there were safetensors."""
    torch.save(load_file(folder / f"{kind}.safetensors"), folder / name)
    (folder / f"{kind}.safetensors").unlink()


def type_hint(hint: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type the commands of a hint; Python's in this process, which is quicker."""
    for line in str(hint).splitlines()[1:]:
        words = shlex.split(line)
        if words[:2] != ["python", "-c"]:
            subprocess.run(words, check=True)
            continue
        assert re.fullmatch(r'  python -c "[^"$`\\]+" .+', line)  # as a shell would take it
        monkeypatch.setattr(sys, "argv", ["-c", *words[3:]])
        exec(words[2], {})


def test_m01_pickled_weights_are_converted_as_the_hint_says(
    folder: Path, tiny_llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickle_weights(folder, "model", "pytorch_model.bin")
    with pytest.raises(ModelError, match="only pickled weights") as caught:
        load_model(folder)
    assert caught.value.exit_code == 3
    type_hint(caught.value.hint, monkeypatch)
    pairs = zip(load_model(folder).model.parameters(), load_model(tiny_llava).model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_m01_what_would_run_does_not_when_it_is_converted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(tmp_path / "ran"), protocol=2))
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    with pytest.raises(pickle.UnpicklingError):
        type_hint(caught.value.hint, monkeypatch)
    assert not (tmp_path / "ran").exists()


def test_m01_a_pickled_adapter_is_converted_as_the_hint_says(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_adapter(
        attach_lora(load_model(folder).model, rank=2, alpha=4), tmp_path / "tuned", source=str(folder)
    )
    pickle_weights(tmp_path / "tuned", "adapter_model", "adapter_model.bin")
    with pytest.raises(ModelError, match="only pickled weights") as caught:
        load_adapter(load_model(folder).model, tmp_path / "tuned")
    type_hint(caught.value.hint, monkeypatch)
    assert load_adapter(load_model(folder).model, tmp_path / "tuned") is not None


def test_m01_the_hint_for_a_model_of_the_hub_makes_a_folder_that_loads(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickle_weights(folder, "model", "pytorch_model.bin")
    hint = advise_conversion_of_hub("org/name").replace(" org/name ", f" {shlex.quote(str(folder))} ")
    type_hint(hint, monkeypatch)
    assert load_model("./name").model.config.model_type == "llava"


def test_m02_code_that_is_not_needed_is_taken_out_as_the_hint_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config.json", "processor_config.json"):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, "auto_map": {"AutoModel": "modeling_own.Own"}}))
    with pytest.raises(ModelError, match="code of its own") as caught:
        load_model(folder)
    assert caught.value.exit_code == 3 and "transformers has llava built in" in str(caught.value.hint)
    type_hint(caught.value.hint, monkeypatch)
    assert load_model(Path("my model-without-code")).adapter is None


def test_m02_code_that_is_needed_has_no_way_round(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "own_vlm", "auto_map": {"AutoModel": "modeling_own.Own"}}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"code of its own.*modeling_own.py") as caught:
        load_model(folder)
    assert "no own_vlm built in" in str(caught.value.hint) and "-hf" in str(caught.value.hint)
