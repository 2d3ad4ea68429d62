"""M10: a model of the hub without a network, from the cache or with exit 7; R21: a machine without a GPU."""

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


def infer_without_network(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(NO_NETWORK)
    python_path = f"{folder / 'site'}:{ENVIRONMENT['PYTHONPATH']}"
    words = ["infer", HUB_ID, "scenes:test", "--limit", "4", "--out", "p.jsonl"]
    given = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("HF_")}
    given |= {"PYTHONPATH": python_path, "HF_HOME": str(folder / "home"), "HF_TOKEN": ""}
    given |= {"CONNECTS": str(folder / "connects"), **environment}
    return subprocess.run(
        [sys.executable, "-m", "hkdcli", *words],
        cwd=folder,
        env=given,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def test_m10_a_complete_cache_is_all_that_is_needed_and_no_connection_is_tried(tmp_path: Path) -> None:
    """R21 beside it: without a GPU nothing is said of one."""
    fill_cache(tmp_path / "home")
    done = infer_without_network(tmp_path, HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "connects").exists(), (tmp_path / "connects").read_text()
    call_hkd("infer", "scenes:small", "scenes:test", "--limit", "4", "--out", tmp_path / "q.jsonl")
    assert (tmp_path / "p.jsonl").read_bytes() == (tmp_path / "q.jsonl").read_bytes()
    assert done.stderr.startswith("CPU with 1 threads")
    assert not {"cuda", "gpu", "warning", "nvidia"} & set(done.stderr.lower().replace(":", " ").split())


@pytest.mark.slow
def test_m10_a_complete_cache_serves_where_the_network_is_gone_without_warning(tmp_path: Path) -> None:
    """Nobody has said that it is offline: the hub is asked once for what is new, and its cache is used."""
    fill_cache(tmp_path / "home")
    done = infer_without_network(tmp_path)
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
        assert files in said.err
    assert not (tmp_path / "p.jsonl").exists()


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


def test_m10_the_doctor_looks_into_the_cache_and_asks_nobody(empty_cache: Path) -> None:
    said = call_hkd("doctor", HUB_ID, "--json", code=7)
    (absent,) = (check for check in said.document["checks"] if check["status"] == "failed")
    assert absent["is_absent"] and f"hf download {HUB_ID}" in absent["hint"]
    snapshot = fill_cache(empty_cache)
    assert str(snapshot) in call_hkd("doctor", HUB_ID, "--json").out
    (snapshot / "model.safetensors").resolve().unlink()
    said = call_hkd("doctor", HUB_ID, code=7)
    assert "lacks files of it: model.safetensors" in said.out and f"hf cache verify {HUB_ID}" in said.out
