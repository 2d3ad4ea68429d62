"""`hkd doctor` as it is typed: what a target is, exit codes, recipes with everything that they name.

I05, R14, R21, M01, M04 and M12 as a user meets them; a hub id that is not here is exit 7.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from calling_doctor import call_doctor
from looking import break_import, look, unwritable_folder
from PIL import Image

from hkdcli.__main__ import main
from hkdcli.doctor.target import find_kind
from hkdcli.errors import UsageError
from hkdcli.scenes.pretrained import SHIPPED
from hkdcli.scenes.source import load_scenes, write_scenes

RECIPE = """
name: x
data:
  train: {file: train/records.json}
  test: {file: test/records.json}
pyramid:
  - {name: top, model: "scenes:medium", quantization: nf4, train: null}
  - {name: base, model: models/small}
train: {max_steps: 1}
runtime: {device: cpu}
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with records and models of its own."""
    for split in ("train", "test"):
        write_scenes(tmp_path / split, load_scenes(split, size=8))
    shutil.copytree(SHIPPED / "small", tmp_path / "models" / "small")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    return tmp_path


def list_failed(document: Any) -> set[str]:
    return {check["name"] for check in document["checks"] if check["status"] == "failed"}


def find(document: Any, name: str) -> Any:
    (check,) = (each for each in document["checks"] if each["name"] == name)
    return check


def test_the_machine_alone_and_no_name_stands_twice(workplace: Path) -> None:
    before = sorted(workplace.rglob("*"))
    document = call_doctor()
    names = [check["name"] for check in document["checks"]]
    assert len(names) == len(set(names)) and {name.partition(".")[0] for name in names} == {"env", "self"}
    assert document["target"] is None and document["counts"]["failed"] == 0
    assert all(
        check["found"] and (check["status"] != "ok" or not check["hint"]) for check in document["checks"]
    )
    assert sorted(workplace.rglob("*")) == before


def test_people_see_one_line_a_check_and_below_it_what_to_do(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "models" / "small" / "model.safetensors").write_text("<html>")
    assert main(["doctor", "models/small"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert ", 1 failed, " in lines[0]
    (place,) = (place for place, line in enumerate(lines) if line.startswith("failed   model.files"))
    assert "it is a web page" in lines[place]
    assert lines[place + 1].strip() == "-> Download or copy the folder again."


def test_a_sound_recipe_has_nothing_wrong(workplace: Path) -> None:
    document = call_doctor("recipe.yaml")
    assert document["kind"] == "recipe"
    names = {check["name"] for check in document["checks"]}
    assert {"data.train.images", "data.test.leak.train", "model.top.finite", "model.base.tensors"} <= names
    assert "base learns from top" in find(document, "recipe.pyramid")["found"]


def test_everything_that_is_wrong_with_a_recipe_is_told_at_once(workplace: Path) -> None:
    """M04, I24 and a split without images; each by itself."""
    weights = workplace / "models" / "small" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    shutil.rmtree(workplace / "test")
    shutil.copytree(workplace / "train", workplace / "test")
    next((workplace / "train" / "images").iterdir()).unlink()
    document = call_doctor("recipe.yaml", "pyramid.top.model=runs/gone/x", code=3)
    assert list_failed(document) == {"data.train.images", "model.base.files", "model.top.folder"}
    assert find(document, "data.test.leak.train")["status"] == "warning"
    assert find(document, "recipe.pyramid")["status"] == "skipped"


def test_bad_images_that_the_recipe_leaves_out_are_a_warning(workplace: Path) -> None:
    next((workplace / "train" / "images").iterdir()).unlink()
    assert list_failed(call_doctor("recipe.yaml", code=3)) == {"data.train.images"}
    document = call_doctor("recipe.yaml", "data.on_bad=skip", "data.max_bad=0.2")
    assert find(document, "data.train.images")["status"] == "warning"
    call_doctor("recipe.yaml", "data.on_bad=skip", "data.max_bad=0.1", code=3)


def test_r21_a_recipe_that_wants_a_gpu_that_is_hidden(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    document = call_doctor("recipe.yaml", "runtime.device=cuda", code=3)
    assert list_failed(document) == {"recipe.device"}
    assert "CUDA_VISIBLE_DEVICES is empty" in find(document, "recipe.device")["found"]
    document = call_doctor("--device", "cuda", code=3)
    assert list_failed(document) == {"env.device"}


def test_m12_a_quantized_teacher_on_a_device_that_cannot_hold_it(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told although the teacher is not downloaded yet."""
    import bitsandbytes

    monkeypatch.setattr(bitsandbytes, "supported_torch_devices", {"cuda"})
    document = call_doctor("recipe.yaml", "pyramid.top.model=some-org/teacher", code=3)
    assert {"model.top.device", "model.top.folder"} <= list_failed(document)


def test_models_that_are_not_here_are_exit_7_and_nobody_is_asked(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def look_up(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.getaddrinfo", look_up)
    for words in (["some-org/teacher"], ["recipe.yaml", "pyramid.top.model=some-org/teacher"]):
        document = call_doctor(*words, code=7)
        (name,) = list_failed(document)
        assert find(document, name)["is_absent"] and "downloads nothing" in find(document, name)["found"]
        assert "hf download some-org/teacher" in find(document, name)["hint"]
    assert find(document, "recipe.pyramid")["status"] == "ok"  # of what is here
    assert asked == []


def test_r14_an_output_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from hkdcli.doctor.recipe import _check_output

    with unwritable_folder() as folder:
        check = look(_check_output, folder / "runs" / "x")
    assert check.status == "failed" and "--out" in check.hint


def test_a_run_that_is_there_is_told(workplace: Path) -> None:
    (workplace / "runs" / "x").mkdir(parents=True)
    (workplace / "runs" / "x" / "manifest.json").write_text("{}")
    assert "--resume or --overwrite" in find(call_doctor("recipe.yaml"), "recipe.output")["found"]


def test_a_recipe_with_problems_names_them_all(workplace: Path) -> None:
    document = call_doctor("recipe.yaml", "train.lerning_rate=1", "pyramid.top.quantization=int5", code=3)
    assert list_failed(document) == {"recipe.resolves"}
    found = find(document, "recipe.resolves")["found"]
    assert 'did you mean "learning_rate"' in found and "int5" in found


def test_recipes_of_stage_two_and_of_augmentation(workplace: Path) -> None:
    refine = workplace / "refine.yaml"
    refine.write_text(
        RECIPE.replace("train: null", "").replace("nf4, ", "nf4") + "refine: {snapshot: true}\n"
    )
    assert "distill-refine" in find(call_doctor(refine), "recipe.resolves")["found"]
    (workplace / "augment.yml").write_text("data: {file: train/records.json}\n")
    document = call_doctor("augment.yml")
    assert "hkd augment" in find(document, "recipe.resolves")["found"] and find(document, "data.images")


def test_records_against_two_others(workplace: Path) -> None:
    document = call_doctor(
        "test/records.json", "--against", "train/records.json", "--against", "test/records.json"
    )
    assert find(document, "data.leak.1")["status"] == "ok"
    assert find(document, "data.leak.2")["status"] == "warning"
    assert document["exit_code"] == 0


def test_i05_a_file_that_rots_and_still_decodes_differs_from_its_lock(workplace: Path) -> None:
    """Both sides: the untouched records are those of the lock; one pixel later they are not."""
    records = "test/records.json"
    assert find(call_doctor(records, "--lock-data", "data.lock"), "data.lock.written")["status"] == "ok"
    assert find(call_doctor(records, "--verify-data", "data.lock"), "data.lock")["status"] == "ok"
    rotten = sorted((workplace / "test" / "images").iterdir())[0]
    with Image.open(rotten) as opened:
        picture = opened.convert("RGB")
    picture.putpixel((0, 0), (1, 2, 3))
    picture.save(rotten)
    document = call_doctor(records, "--verify-data", "data.lock", "--lock-data", "data.lock", code=3)
    assert list_failed(document) == {"data.lock", "data.lock.written"}
    assert f"{rotten.name}: data.lock_mismatch" in find(document, "data.lock")["found"]
    assert "exists already" in find(document, "data.lock.written")["found"]


def test_c18_parquet_without_pyarrow(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (workplace / "r.parquet").write_bytes(b"PAR1....")
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    document = call_doctor("r.parquet", code=3)
    assert find(document, "data.source")["hint"] == 'pip install "hkd[parquet]"'


def test_a_broken_package_ends_nothing(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_import(monkeypatch, "torch", ImportError("undefined symbol"))
    document = call_doctor("models/small", code=3)
    assert list_failed(document) == {"env.imports"} and find(document, "model")["status"] == "skipped"
    assert find(call_doctor("test/records.json", code=3), "data.images")["status"] == "ok"


# What a target is


def test_a_target_is_told_from_what_it_names(workplace: Path) -> None:
    kinds = {"recipe": ("a.yaml", "b.YML"), "data": ("x.jsonl", "x.parquet"), "model": ("o/m", "o/m@v1")}
    for kind, names in kinds.items():
        assert [find_kind(name) for name in names] == [kind, kind]
    assert find_kind("scenes:small") == "model" and find_kind("scenes:dev") == "data"
    assert find_kind("models/small") == "model" and find_kind("train/records.json") == "data"
    run = workplace / "run"
    (run / "student").mkdir(parents=True)
    assert find_kind(str(run)) == "model"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nothing", "no recipe, no model and no records"),
        ("./o/m", "no recipe"),
        ("a/b/c", "no recipe"),
        ("scenes:nope", "Records: train, dev, test; models: large"),
        ("models", "neither a model nor a run nor records"),
        ("models/small/model.safetensors", "Name the folder"),
        ("both", "which of them is meant"),
    ],
)
def test_what_is_none_or_two_is_refused_with_what_each_looks_like(
    workplace: Path, target: str, said: str
) -> None:
    (workplace / "both").mkdir()
    for name in ("config.json", "state.json", "dataset_info.json"):
        (workplace / "both" / name).write_text("{}")
    with pytest.raises(UsageError) as caught:
        find_kind(target)
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert call_doctor(target, code=2)["error"]["type"] == "UsageError"


@pytest.mark.parametrize(
    "words",
    [
        ["scenes:small", "--against", "scenes:dev"],
        ["scenes:test", "--quantization", "nf4"],
        ["scenes:test", "seed=1"],
        ["recipe.yaml", "--device", "cpu"],
        ["recipe.yaml", "--predictions", "p.jsonl"],
        ["--level", "small"],
        ["models/small", "--level", "small"],
    ],
)
def test_options_that_say_nothing_of_the_target_are_refused(workplace: Path, words: list[str]) -> None:
    assert call_doctor(*words, code=2)["error"]["type"] == "UsageError"
