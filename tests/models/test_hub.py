"""Models of the hub, fetched from one that this machine plays.

M12: what cannot be quantized is refused before anything is fetched. M15: a gated model names the page where
its licence is accepted. R14: a cache that cannot be written. M01: pickles alone are refused before they are
fetched. M11: what a cache that knows its files has lost.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_hub import FakeHub, digest, serve_hub

from hkdcli.engine import distill_online, plan_distillation
from hkdcli.errors import MachineLimitError, ModelError, OfflineError, SetupError
from hkdcli.models import fetching
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.fetching import fetch_models
from hkdcli.models.folders import find_local_folder, find_model_folder
from hkdcli.models.hub import hold_commits, is_hub_id, list_commits
from hkdcli.models.loading import load_model
from hkdcli.models.locating import locate_model
from hkdcli.scenes.pretrained import model_folder

COMMIT, NEWER = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[FakeHub]:
    with serve_hub(tmp_path / "home" / "hub") as hub:
        shutil.copytree(model_folder("small"), tmp_path / "served")
        hub.repositories["org/small"] = (COMMIT, tmp_path / "served")
        yield hub


def list_fetched(hub: FakeHub) -> set[str]:
    return {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}


@pytest.mark.parametrize("name", ["org/small", "org/small@main", f"org/small@{COMMIT}"])
def test_a_model_is_fetched_once_without_pickles_and_code(hub: FakeHub, name: str) -> None:
    served = hub.repositories["org/small"][1]
    for file in ("pytorch_model.bin", "modeling.py"):
        (served / file).write_text("never")
    folder = find_model_folder(name)
    assert folder.name == COMMIT and list_commits([name, "scenes:small"]) == {name: COMMIT}
    assert {path.name for path in folder.iterdir()} == {path.name for path in model_folder("small").iterdir()}
    assert digest(folder / "model.safetensors") == digest(served / "model.safetensors")
    hub.asked.clear()
    assert find_model_folder(name) == find_local_folder(name) == folder
    assert not hub.asked  # the name stands for that commit as long as this process lives


def test_a_commit_in_the_cache_is_never_asked_about(hub: FakeHub) -> None:
    folder = find_model_folder("org/small")
    hub.asked.clear()
    assert find_model_folder(f"org/small@{COMMIT}") == folder and not hub.asked


def test_what_a_run_was_begun_with_is_what_a_name_stands_for(hub: FakeHub) -> None:
    find_model_folder(f"org/small@{COMMIT}")
    hub.repositories["org/small"] = (NEWER, hub.repositories["org/small"][1])
    hold_commits({"org/small": COMMIT})
    assert find_model_folder("org/small").name == COMMIT
    assert find_model_folder("org/small@main").name == NEWER
    hold_commits({"org/small": "c" * 40})  # and nothing else will do
    with pytest.raises(ModelError, match="no such revision"):
        find_model_folder("org/small")


def test_m15_a_gated_model_names_the_page_of_its_licence(hub: FakeHub) -> None:
    from huggingface_hub import constants

    hub.gated.add("org/small")
    with pytest.raises(ModelError, match="org/small@main: access is restricted") as caught:
        find_model_folder("org/small@main")
    assert caught.value.exit_code == 3
    expected = f"Accept its licence at {constants.ENDPOINT}/org/small, then run: hf auth login"
    assert caught.value.hint == expected


def test_what_the_hub_does_not_have(hub: FakeHub) -> None:
    with pytest.raises(ModelError, match="no such model on the hub") as caught:
        find_model_folder("org/absent")
    assert "hf auth login" in str(caught.value.hint)
    with pytest.raises(ModelError, match="no such revision"):
        find_model_folder("org/small@v9")
    with pytest.raises(ModelError, match="no such names"):
        find_model_folder("org/what is this")


def test_what_is_in_the_cache_stays_usable_where_the_hub_refuses_it(hub: FakeHub) -> None:
    find_model_folder(f"org/small@{COMMIT}")
    refs = fetching.hub.find_cache() / "models--org--small" / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(COMMIT)
    del hub.repositories["org/small"]
    assert find_model_folder("org/small").name == COMMIT


def test_a_hub_that_is_down_says_so_and_a_cache_helps(hub: FakeHub) -> None:
    hub.broken = True
    with pytest.raises(OfflineError, match=r"cannot be reached \(.*503") as caught:
        fetch_models(["org/small", "org/other", "org/small"])
    assert caught.value.message.startswith("2 models are not on this machine")
    hub.broken = False
    find_model_folder("org/small")
    hub.broken = True
    assert find_model_folder("org/small").name == COMMIT


def test_no_room_is_said_before_anything_is_fetched(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [path.stat().st_size for path in hub.repositories["org/small"][1].iterdir()]
    monkeypatch.setattr(fetching, "_GIB", 2**10)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2**10 * 5))
    with pytest.raises(MachineLimitError) as caught:
        fetch_models(["org/small"])
    assert caught.value.exit_code == 4
    assert f"org/small: {sum(sizes) / 2**10:.1f} GiB are to be downloaded, and 5.0" in caught.value.message
    assert "HF_HOME" in str(caught.value.hint) and not list_fetched(hub)


def test_what_is_in_the_cache_needs_no_more_room(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer commit of which only the settings differ."""
    find_model_folder(f"org/small@{COMMIT}")
    served = hub.repositories["org/small"][1]
    (served / "generation_config.json").write_text("{}")
    hub.repositories["org/small"] = (NEWER, served)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2))
    assert find_model_folder("org/small").name == NEWER


def test_r14_a_cache_that_cannot_be_written(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")  # HF_HOME; where it is, root cannot write either
    with pytest.raises(SetupError, match="home/hub: cannot be written: Not a directory") as caught:
        find_model_folder("org/small")
    assert caught.value.exit_code == 3 and "HF_HOME" in str(caught.value.hint)
    assert not list_fetched(hub)


def test_m01_a_model_of_pickles_alone_is_refused_before_it_is_fetched(hub: FakeHub) -> None:
    served = hub.repositories["org/small"][1]
    (served / "model.safetensors").rename(served / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"no safetensors but pytorch_model.bin") as caught:
        find_model_folder("org/small")
    assert "weights_only=True" in str(caught.value.hint) and str(caught.value.hint).endswith(
        "org/small small"
    )
    assert not list_fetched(hub)


def test_m11_a_cache_that_knows_its_files_names_the_one_that_is_gone(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (find_model_folder("org/small") / "chat_template.jinja").unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OfflineError, match="HF_HUB_OFFLINE is set") as caught:
        find_model_folder("org/small")
    assert "lacks files of it: chat_template.jinja" in caught.value.message
    assert f"hf cache verify org/small --revision {COMMIT}" in str(caught.value.hint)


def test_m11_a_hub_that_can_be_reached_repairs_a_cache(hub: FakeHub) -> None:
    lost = find_model_folder("org/small") / "model.safetensors"
    lost.resolve().unlink()
    assert find_model_folder("org/small@main") == lost.parent and lost.is_file()


def test_an_adapter_brings_its_base(hub: FakeHub, tmp_path: Path) -> None:
    adapter = tmp_path / "tuned"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/small"}))
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    hub.repositories["org/tuned"] = (NEWER, adapter)
    parts = locate_model("org/tuned@main")
    assert parts.adapter is not None and (parts.adapter.name, parts.folder.name) == (NEWER, COMMIT)
    assert parts.source == "org/small"


def test_an_adapter_stays_on_the_commit_that_it_was_trained_on(
    hub: FakeHub, tiny_llava: Path, tmp_path: Path
) -> None:
    loaded = load_model(f"org/small@{COMMIT}")
    save_adapter(attach_lora(loaded.model, rank=2, alpha=4), tmp_path / "tuned", source=loaded.source)
    name = json.loads((tmp_path / "tuned" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert name == f"org/small@{COMMIT}"
    (tmp_path / "moved").mkdir()
    save_adapter(
        attach_lora(load_model("org/small").model, rank=2, alpha=4), tmp_path / "moved", source="org/small"
    )
    hub.repositories["org/small"] = (NEWER, tiny_llava)
    hold_commits({"org/small": NEWER})  # as another process would find it
    for folder in (tmp_path / "tuned", tmp_path / "moved"):
        assert locate_model(folder).folder.name == COMMIT
    assert locate_model(tmp_path / "moved").source == "org/small"
    assert locate_model(tmp_path / "moved", base="org/small").folder.name == NEWER


def test_m12_a_level_that_cannot_be_quantized_is_refused_before_its_model_is_fetched(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "{name: x, data: {train: {scenes: {split: train, size: 4}}}, pyramid: "
        "[{name: top, model: org/small, quantization: nf4, train: null}, {name: base, model: scenes:small}]}"
    )
    monkeypatch.setattr("bitsandbytes.supported_torch_devices", {"cuda"})
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SetupError, match="nf4 does not work on cpu") as caught:
        plan_distillation("distill-online", recipe)
    assert caught.value.exit_code == 3
    with pytest.raises(SetupError, match="nf4 does not work on cpu"):
        distill_online(recipe, out=tmp_path / "run")
    assert not hub.asked and not (tmp_path / "run").exists()


def test_names_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("org/name") and is_hub_id("org/name@main") and is_hub_id("org/name@refs/pr/1")
    (tmp_path / "org" / "name").mkdir(parents=True)
    for name in ("org/name", "scenes:small", "name", "./org/other", "../other", "/org/other", "a/b/c"):
        assert not is_hub_id(name)
