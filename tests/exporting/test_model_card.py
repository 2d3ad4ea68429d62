"""The card: what the hub reads, what a person reads, and what never stands in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from tiny_exports import write_run

from hkdcli.exporting.model_card import Exported, render_card
from hkdcli.exporting.origin import Origin, read_origin
from hkdcli.exporting.parity import Parity, Tolerance

PARITY = Parity("mine.jsonl", 16, 0, Tolerance(1e-3), 2e-6)
MERGED = Exported("merged", "bfloat16", "none", "Which?\nA. x", PARITY, calibrated=True)
ADAPTER = Exported("adapter", "bfloat16", "nf4", "Which?\nA. x", PARITY, calibrated=False)


def read_front_matter(card: str) -> dict:
    value = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(value, dict)
    return value


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base with a licence of its own name."""
    folder = tmp_path / "judge-base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text(
        "---\nlicense: other\nlicense_name: base-research\nlicense_link: https://x.org/LICENSE\n---\n# Base\n"
    )
    return folder


def test_the_card_has_the_figures_of_the_run(base, tmp_path):
    card = render_card(read_origin(str(write_run(tmp_path / "run", str(base))), None, None), MERGED)
    for told in (
        "# night-shift",
        "Base model: judge-base.",
        "Number type: bfloat16",
        "top (teacher-7b@main in nf4)",
        "through LoRA of rank 4",
        "seed 7",
        "| train | judged.jsonl | abababababababab |",
        "| test | hkd-scenes, split test, size 4, seed 3 | cdcdcdcdcdcdcdcd |",
        "600 records",
        "| micro-F1 over choices | 0.8123 | 0.8123 |",
        "| F1 over hallucinated choices | - | 0.6250 |",
        "| exact match of the set | 0.5000 | 0.5000 |",
        "| micro-F1 of the best constant answer | 0.2500 | 0.2500 |",
        "On 16 records of mine.jsonl",
        "within 0.001",
        "calibration.json",
        "base-research, as its base judge-base",
        "hkd infer path/to/this/folder",
        "Which?\nA. x",
    ):
        assert told in card, told
    assert str(tmp_path) not in card and "/secret/place" not in card


def test_a_quantized_level_says_so(base, tmp_path):
    run = write_run(tmp_path / "run", str(base), quantization="nf4")
    assert "LoRA of rank 4 on weights in nf4" in render_card(read_origin(str(run), None, None), MERGED)


def test_the_hub_reads_the_front_matter(base, tmp_path):
    card = render_card(read_origin(str(write_run(tmp_path / "run", str(base))), None, None), MERGED)
    data = ModelCard(card).data
    assert (data.license, data.license_name) == ("other", "base-research")
    assert data.license_link == "https://x.org/LICENSE"
    assert (data.library_name, data.pipeline_tag) == ("transformers", "image-text-to-text")
    assert {"hkd", "lora"} <= set(data.tags or ())
    assert data.datasets == ["judged.jsonl"] and data.metrics == ["exact_match", "f1"]
    results = {(r.dataset_config, r.metric_name): r.metric_value for r in data.eval_results or ()}
    assert results[("hallucination", "micro-F1 over choices")] == 0.8123
    assert len(results) == 3 and data.base_model is None  # a folder of this machine is no model of the hub


def test_an_adapter_says_so_and_names_its_base_on_the_hub():
    origin = Origin("x", "org/base-3b", "org/base-3b", {"license": "mit"}, ())
    card = render_card(origin, ADAPTER)
    front = read_front_matter(card)
    assert (front["base_model"], front["base_model_relation"]) == ("org/base-3b", "adapter")
    assert front["library_name"] == "peft" and "model-index" not in front
    assert 'from_pretrained("org/base-3b")' in card and "checked with, the base in nf4" in card
    assert "No score on held-out records is known" in card


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"README.md": "# no front matter"},
        {"README.md": "---\nlicense: [a, b]\n---\n"},
        {"README.md": "---\nlicense: !!python/object/apply:os.system [x]\n---\n"},
        {"README.md": '---\nlicense: "mit\\n# Injected"\n---\n'},
        {"README.md": "---\n" + "[" * 5000 + "\n---\n"},
        {"config.json": "{broken"},
    ],
)
def test_a_licence_that_is_not_told_is_unknown(tmp_path, files):
    folder = tmp_path / "base"
    folder.mkdir()
    for name, text in {"config.json": "{}", **files}.items():
        (folder / name).write_text(text)
    card = render_card(read_origin(str(folder), None, None), MERGED)
    assert read_front_matter(card)["license"] == "unknown"
    assert "unknown: see base model" in card


@pytest.mark.parametrize("told", ["README.md", "config.json"])
def test_a_licence_is_read_from_the_card_or_the_settings(tmp_path, told):
    texts = {"README.md": "---\nlicense: mit\ntags: [x]\n---\n", "config.json": '{"license": "mit"}'}
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / told).write_text(texts[told])
    assert read_origin(str(folder), None, None).licence == {"license": "mit"}
    assert read_origin("scenes:small", None, None).licence == {"license": "apache-2.0"}


def test_the_past_is_followed_through_runs_and_adapters_to_the_base(base, tmp_path):
    first = write_run(tmp_path / "first", str(base), name="first")
    tuned = tmp_path / "tuned"
    tuned.mkdir()
    (tuned / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(first)}))
    second = write_run(tmp_path / "second", str(tuned), name="second")
    origin = read_origin(str(second), None, None)
    assert [run.recipe["name"] for run in origin.runs] == ["second", "first"]
    assert origin.base == "judge-base" and origin.licence["license_name"] == "base-research"
    card = render_card(origin, MERGED)
    assert card.index("1. Run first") < card.index("2. Run second")
    assert read_origin(str(second), "top", None).name == "second-top"
    assert read_origin(str(tuned), None, str(base)).base == "judge-base"


def test_runs_that_name_each_other_end(tmp_path):
    run = write_run(tmp_path / "run", str(tmp_path / "run"))
    assert read_origin(str(run), None, None).runs


@pytest.mark.parametrize("damage", ["{", "[]", '{"metrics": 3, "tasks": [1], "counts": null}'])
def test_damaged_scores_are_no_scores(base, tmp_path, damage):
    run = write_run(tmp_path / "run", str(base))
    (run / "eval/test/base/results.json").write_text(damage)
    card = render_card(read_origin(str(run), None, None), MERGED)
    assert "No score on held-out records is known" in card and "model-index" not in read_front_matter(card)


@given(name=st.text(max_size=30), base=st.text(max_size=30), data=st.text(max_size=30))
def test_whatever_names_hold_the_card_keeps_its_form(name, base, data):
    origin = Origin(name, base, None, {}, ())
    parity = Parity(data, 1, 0, Tolerance(1e-3), 0.0)
    card = render_card(origin, Exported("merged", "float32", "none", "x", parity, calibrated=False))
    headings = [line for line in card.split("\n") if line.startswith("## ")]
    assert headings == ["## Use", "## Scores", "## Check of the export", "## Licence", "## Limits"]
    assert read_front_matter(card)["license"] == "unknown"
