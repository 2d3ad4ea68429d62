"""Models of the hub without a network.

M10: from the cache with no connection tried, or exit 7 with all that is missing. M11: a cache that lost
files. R14: an output that cannot be written is refused before weights are read. R21: a machine without a GPU.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import DEADLINE_S, ENVIRONMENT, call_hkd, read_rows

from hkdcli.scenes.pretrained import model_folder

HUB_ID = "some-org/some-model"
REVISION = "0123456789abcdef0123456789abcdef01234567"
# Written down before anything of ours is imported, lest somebody catches the error.
NO_NETWORK = """
import os, socket

def connect(self, address, *_):
    if self.family != socket.AF_UNIX:
        with open(os.environ["CONNECTS"], "a") as file:
            print(address, file=file)
        raise OSError(101, "Network is unreachable")

def look_up(host, *_, **__):
    with open(os.environ["CONNECTS"], "a") as file:
        print("look-up", host, file=file)
    raise socket.gaierror(-3, "Temporary failure in name resolution")

socket.socket.connect = socket.socket.connect_ex = connect
socket.getaddrinfo = look_up
"""


def fill_cache(home: Path) -> Path:
    """What `hf download` leaves of a model: blobs, and a snapshot that links to them."""
    repository = home / "hub" / f"models--{HUB_ID.replace('/', '--')}"
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    for number, path in enumerate(sorted(model_folder("small").iterdir())):
        shutil.copy(path, repository / "blobs" / f"{number:040x}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040x}")
    return snapshot


def run_without_network(
    folder: Path, *commands: list[str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Commands of `hkd`, one after the other in one process, until one fails."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(NO_NETWORK)
    python_path = f"{folder / 'site'}:{ENVIRONMENT['PYTHONPATH']}"
    given = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("HF_")}
    given |= {"PYTHONPATH": python_path, "HF_HOME": str(folder / "home"), "HF_TOKEN": ""}
    given |= {"CONNECTS": str(folder / "connects"), **environment}
    calls = f"import sys; from hkdcli.__main__ import main; sys.exit(any(map(main, {commands!r})))"
    return subprocess.run(
        [sys.executable, "-c", calls],
        cwd=folder,
        env=given,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def infer(model: str, out: str) -> list[str]:
    return ["infer", model, "scenes:test", "--limit", "4", "--out", out]


def write_recipe(path: Path, *models: str) -> None:
    levels = [{"name": f"level{place}", "model": model, "train": None} for place, model in enumerate(models)]
    levels[-1] |= {"tuning": "full", "train": {}}
    train = {"max_steps": 2, "micro_batch_size": 2}
    data = {"train": {"scenes": {"split": "train", "size": 4}}}
    recipe = {
        "name": "x",
        "data": data,
        "pyramid": levels,
        "distill": {"teacher_check": None},
        "train": train,
    }
    path.write_text(json.dumps(recipe))  # YAML too


def test_m10_a_complete_cache_is_all_that_is_needed_and_no_connection_is_tried(tmp_path: Path) -> None:
    """R21 beside it: without a GPU nothing is said of one."""
    fill_cache(tmp_path / "home")
    write_recipe(tmp_path / "r.yaml", HUB_ID, f"{HUB_ID}@{REVISION}", f"{HUB_ID}@main")
    done = run_without_network(
        tmp_path,
        infer(HUB_ID, "p.jsonl"),
        infer(f"{HUB_ID}@{REVISION}", "pinned.jsonl"),
        ["distill-online", "r.yaml", "--dry-run"],
        ["distill-online", "r.yaml", "--out", "run"],
        ["export", f"{HUB_ID}@main", "--out", "exported", "--check", "2"],
        HF_HUB_OFFLINE="1",
        CUDA_VISIBLE_DEVICES="",
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "connects").exists(), (tmp_path / "connects").read_text()
    call_hkd("infer", "scenes:small", "scenes:test", "--limit", "4", "--out", tmp_path / "q.jsonl")
    for out in ("p.jsonl", "pinned.jsonl"):
        assert (tmp_path / out).read_bytes() == (tmp_path / "q.jsonl").read_bytes()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    names = (HUB_ID, f"{HUB_ID}@{REVISION}", f"{HUB_ID}@main")
    assert manifest["models"] == dict.fromkeys(names, REVISION)
    assert done.stderr.startswith("CPU with 1 threads")
    assert not {"cuda", "gpu", "warning", "nvidia"} & set(done.stderr.lower().replace(":", " ").split())


@pytest.mark.slow
def test_m10_a_complete_cache_serves_where_the_network_is_gone_without_warning(tmp_path: Path) -> None:
    """Nobody has said that it is offline: the hub is asked once for what is new, and its cache is used."""
    fill_cache(tmp_path / "home")
    done = run_without_network(tmp_path, infer(HUB_ID, "p.jsonl"))
    assert done.returncode == 0, done.stderr
    assert len(read_rows(tmp_path / "p.jsonl")) == 4


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "home"


def test_m10_an_empty_cache_is_exit_7_and_names_what_to_bring(empty_cache: Path, tmp_path: Path) -> None:
    words = ("infer", HUB_ID, "scenes:test", "--limit", "4", "--out", tmp_path / "p.jsonl", "--json")
    said = call_hkd(*words, code=7)
    assert said.document["exit_code"] == 7 and HUB_ID in said.err
    assert f"hf download {HUB_ID}" in said.err
    for files in ("*.json", "*.safetensors", "*.jinja"):
        assert f"--include '{files}'" in said.err
    assert not (tmp_path / "p.jsonl").exists()


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_m10_what_a_recipe_lacks_is_listed_at_once(
    empty_cache: Path, tmp_path: Path, words: list[str]
) -> None:
    snapshot = fill_cache(empty_cache)
    (snapshot / "model.safetensors").unlink()  # as where the settings alone were fetched
    write_recipe(tmp_path / "r.yaml", "org/top", f"{HUB_ID}@main", "org/middle@v2", "org/base")
    said = call_hkd("distill-online", tmp_path / "r.yaml", "--out", tmp_path / "run", *words, code=7)
    assert "4 models are not on this machine, and HF_HUB_OFFLINE is set" in said.err
    assert f"{HUB_ID}@main: the hub's cache lacks files of it: *.safetensors" in said.err
    wanted = ["org/top", f"{HUB_ID} --revision main", "org/middle --revision v2", "org/base"]
    commands = [line.strip() for line in said.err.splitlines() if line.strip().startswith("hf download")]
    assert [command.partition(" --include")[0] for command in commands] == [
        f"hf download {name}" for name in wanted
    ]
    assert not (tmp_path / "run").exists()


def test_m10_the_base_of_an_adapter_is_listed_with_the_rest(empty_cache: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "tuned"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/its-base"}))
    shutil.copy(model_folder("large-tuned") / "adapter_model.safetensors", adapter)
    write_recipe(tmp_path / "r.yaml", str(adapter), "org/student")
    said = call_hkd("distill-online", tmp_path / "r.yaml", "--out", tmp_path / "run", code=7)
    assert "2 models are not" in said.err and "org/its-base" in said.err and "org/student" in said.err
    said = call_hkd(*infer(str(adapter), str(tmp_path / "p.jsonl")), code=7)
    assert "a model is not" in said.err and "org/its-base" in said.err


def test_a_run_goes_on_with_the_commit_it_was_begun_with(empty_cache: Path, tmp_path: Path) -> None:
    snapshot, words = fill_cache(empty_cache), ("--out", tmp_path / "run")
    write_recipe(tmp_path / "r.yaml", "scenes:large", HUB_ID)
    call_hkd("distill-online", tmp_path / "r.yaml", "train.max_steps=1", *words)
    (snapshot.parents[1] / "refs" / "main").write_text("f" * 40)  # the hub has a newer one, not in the cache
    call_hkd("distill-online", tmp_path / "r.yaml", "train.max_steps=1", "--dry-run", code=7)
    call_hkd("distill-online", tmp_path / "r.yaml", "train.max_steps=1", *words, "--resume")


@pytest.mark.parametrize("command", ["distill-online", "distill-online --dry-run", "infer", "export"])
def test_r14_an_output_that_cannot_be_written_is_refused_before_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Below a file, where root cannot write either."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("weights are read")

    monkeypatch.setattr("hkdcli.models.loading._load_weights", fail)
    monkeypatch.setattr("hkdcli.models.fetching.fetch_models", fail)
    monkeypatch.setattr("hkdcli.distill.preflight.fetch_models", fail)
    (tmp_path / "file").write_text("")
    write_recipe(tmp_path / "r.yaml", "scenes:large", HUB_ID)
    name, *flags = command.split()
    given = [tmp_path / "r.yaml"] if name == "distill-online" else [HUB_ID]
    given += ["scenes:test"] if name == "infer" else []
    said = call_hkd(name, *given, *flags, "--out", tmp_path / "file" / "deep" / "out", code=3)
    assert "cannot be written: Not a directory" in said.err and "--out" in said.err


@pytest.mark.parametrize("lost", ["model.safetensors", "config.json", "tokenizer.json"])
def test_m11_a_cache_that_lacks_a_file_names_it(empty_cache: Path, tmp_path: Path, lost: str) -> None:
    snapshot = fill_cache(empty_cache)
    (snapshot / lost).resolve().unlink()  # a blob is gone: its link points nowhere
    said = call_hkd("infer", HUB_ID, "scenes:test", "--limit", "4", "--out", tmp_path / "p.jsonl", code=7)
    assert lost in said.err and f"hf cache verify {HUB_ID}" in said.err


def test_m11_a_download_that_broke_off_names_the_shards_it_lacks(empty_cache: Path, tmp_path: Path) -> None:
    snapshot = fill_cache(empty_cache)
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    said = call_hkd("infer", HUB_ID, "scenes:test", "--limit", "4", "--out", tmp_path / "p.jsonl", code=7)
    assert "lacks files of it: model-00002-of-00002.safetensors" in said.err
    assert "hf download some-org/some-model" in said.err


def test_m10_the_doctor_looks_into_the_cache_and_asks_nobody(empty_cache: Path) -> None:
    said = call_hkd("doctor", HUB_ID, "--json", code=7)
    (absent,) = (check for check in said.document["checks"] if check["status"] == "failed")
    assert absent["is_absent"] and f"hf download {HUB_ID}" in absent["hint"]
    snapshot = fill_cache(empty_cache)
    assert str(snapshot) in call_hkd("doctor", HUB_ID, "--json").out
    (snapshot / "model.safetensors").resolve().unlink()
    said = call_hkd("doctor", HUB_ID, code=7)
    assert "lacks files of it: model.safetensors" in said.out and f"hf cache verify {HUB_ID}" in said.out
