"""Exported folders in a process that knows nothing of hkd: transformers, peft, and the card's own code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_records import DrawnImages, make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.data.prompts import identity_presentation
from hkdcli.exporting.export import export_model
from hkdcli.models.families import unwrap
from hkdcli.models.loading import load_model

ALONE = """
import contextlib, io, json, os, sys
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

class NoHkd:
    def find_spec(self, name, path=None, target=None):
        assert not name.startswith("hkdcli"), name

sys.meta_path.insert(0, NoHkd())
torch.set_num_threads(1)
inputs, asked = load_file("inputs.safetensors"), json.load(open("asked.json"))
found, said = {}, {}
for name in ("merged", "adapter"):
    processor = AutoProcessor.from_pretrained(name)
    assert processor.chat_template and processor.image_processor and processor.tokenizer
    if name == "merged":
        model = AutoModelForImageTextToText.from_pretrained(name)
    else:
        from peft import PeftModel
        model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(asked["base"]), name)
    with torch.no_grad():
        found[name] = model.eval()(**inputs).logits.contiguous()
    printed = io.StringIO()
    with contextlib.chdir(name), contextlib.redirect_stdout(printed):
        exec(asked[name], {})
    said[name] = printed.getvalue()
save_file(found, "logits.safetensors")
json.dump(said, open("said.json", "w"))
"""


def read_code(card: Path, base: Path) -> str:
    """The card's Python, with the base where this machine has it."""
    found = re.search(r"```python\n(.*?)```", card.read_text(), re.DOTALL)
    assert found
    return found.group(1).replace(f"path/to/{base.name}", str(base))


@pytest.fixture(scope="module")
def alone(tuned_run: Path, tiny_llava: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both exports, and what a process without hkd made of them."""
    folder = tmp_path_factory.mktemp("alone")
    records = Dataset("mine", (make_hallucination(),), DrawnImages())
    for name in ("merged", "adapter"):
        export_model(str(tuned_run), out=folder / name, adapter=name == "adapter", data=records)
        Image.new("RGB", (40, 30), (200, 30, 30)).save(folder / name / "picture.png")
    loaded = load_model(tuned_run)
    example = make_hallucination()
    batch = Collator(loaded.processor)([example], [make_image()], [identity_presentation(example)])
    inputs = {name: value for name, value in batch.model_inputs.items() if isinstance(value, torch.Tensor)}
    save_file({name: value.contiguous() for name, value in inputs.items()}, folder / "inputs.safetensors")
    with torch.no_grad():
        logits = unwrap(loaded.model)(**inputs).logits.contiguous()
    save_file({"source": logits}, folder / "source.safetensors")
    codes = {name: read_code(folder / name / "README.md", tiny_llava) for name in ("merged", "adapter")}
    (folder / "asked.json").write_text(json.dumps({**codes, "base": str(tiny_llava)}))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", ["merged", "adapter"])
def test_m08_plain_transformers_gives_the_logits_of_the_run(alone, name):
    source = load_file(alone / "source.safetensors")["source"]
    found = load_file(alone / "logits.safetensors")[name]
    torch.testing.assert_close(found, source, rtol=1e-3, atol=1e-3)
    assert source.std() > 0.1


def test_the_code_on_the_card_runs_and_both_folders_say_the_same(alone):
    said = json.loads((alone / "said.json").read_text())
    assert said["merged"] == said["adapter"] and said["merged"].endswith("\n")
