"""M14: a level that was trained on one form of prompt refuses to be used with another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hkdcli.data.prompts import compute_prompt_hash
from hkdcli.distill.levels import publish_level
from hkdcli.errors import ModelError
from hkdcli.models.adapters import attach_lora
from hkdcli.models.loading import LoadedModel, load_model
from hkdcli.recipe import Level


@pytest.fixture
def base(tiny_llava: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llava, tmp_path / "base"))


@pytest.fixture(params=["lora", "full"])
def level(request: pytest.FixtureRequest, base: Path, tmp_path: Path) -> Path:
    """A published level of each kind."""
    loaded = load_model(base)
    tuning = "full"
    if request.param == "lora":
        tuning = {"lora": {"rank": 2}}
        wrapped = attach_lora(loaded.model, rank=2, alpha=4)
        loaded = LoadedModel(wrapped, loaded.processor, str(base), None, "none")
    publish_level(tmp_path / "level", loaded, Level(name="base", model=str(base), tuning=tuning))
    return tmp_path / "level"


def edit_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text().replace("ASSISTANT:", "JUDGE:"))


def edit_json(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_m14_a_level_carries_the_hash_of_its_prompts_and_is_loaded_unchanged(level):
    written = json.loads((level / "prompt.json").read_text())
    assert written["prompt_version"] == "1"
    assert written["prompt_hash"] == compute_prompt_hash(load_model(level).processor)
    assert "prompt.json" in json.loads((level / "MANIFEST.json").read_text())["files"]


def test_m14_an_edited_chat_template_is_refused_by_name(level):
    edit_template(level)
    with pytest.raises(ModelError, match=r"level/prompt.json: .*: chat_template.jinja changed") as caught:
        load_model(level)
    assert caught.value.exit_code == 3 and "Put the files" in caught.value.hint


def test_m14_other_image_settings_are_refused_by_name(level):
    settings = json.loads((level / "processor_config.json").read_text())
    settings["image_processor"]["image_mean"] = [0.1, 0.2, 0.3]
    (level / "processor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="processor_config.json changed"):
        load_model(level)


@pytest.mark.parametrize("level", ["lora"], indirect=True)
def test_m14_an_adapter_on_a_base_is_checked_against_the_base_s_processor(level, base):
    load_model(base, adapter=level)
    edit_template(base)
    load_model(level)  # it has a processor of its own
    with pytest.raises(ModelError, match="chat template, tokenizer or image processor has changed"):
        load_model(base, adapter=level)


@pytest.mark.parametrize(
    ("field", "value"), [("prompt_version", "0"), ("image_processor", "CLIPImageProcessor")]
)
def test_m14_another_prompt_version_or_image_backend_is_told_as_such(level, field, value):
    edit_json(level / "prompt.json", **{field: value, "prompt_hash": "0" * 64})
    with pytest.raises(ModelError, match=f"{field} was {value}, is"):
        load_model(level)


def test_m14_a_damaged_prompt_file_is_refused(level):
    (level / "prompt.json").write_text("{")
    with pytest.raises(ModelError, match=r"prompt.json: cannot be read"):
        load_model(level)


def test_a_folder_without_one_is_any_hub_model_s(level):
    edit_template(level)
    (level / "prompt.json").unlink()
    load_model(level)
