"""A teacher has to be better than the best constant answer before a level is trained on its word."""

import json
import shutil

import pytest
from tiny_records import DrawnImages, make_factuality, make_hallucination

from hkdcli.data.datasets import Dataset
from hkdcli.distill.answering import take_sample
from hkdcli.engine import distill_online
from hkdcli.errors import GateError
from hkdcli.reporter import SilentReporter

RECIPE = """
name: tiny
data: {train: {scenes: {split: train, size: 8}}, dev: {scenes: {split: dev, size: 40}}}
pyramid:
  - {name: top, model: "MODEL", ADAPTER train: null}
  - {name: base, model: "STUDENT", tuning: full}
distill: {teacher_check: {size: 24}}
train: {max_steps: 1, micro_batch_size: 8, log_every: 1}
runtime: {device: cpu, dtype: float32}
"""


class Heard(SilentReporter):
    def __init__(self):
        self.notes, self.warnings = [], []

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)


def run(folder, model, student, *overrides, adapter="", **options):
    recipe = folder / "recipe.yaml"
    text = RECIPE.replace("MODEL", str(model)).replace("STUDENT", str(student)).replace("ADAPTER", adapter)
    recipe.write_text(text)
    heard = Heard()
    distill_online(recipe, overrides, out=folder / "run", reporter=heard, **options)
    return heard, json.loads((folder / "run/levels/0-top/teacher_check.json").read_text())


def test_m13_a_random_teacher_ends_the_run_before_its_first_step(tiny_llava, tmp_path):
    with pytest.raises(GateError, match="top is no better a teacher than the best constant answer") as error:
        run(tmp_path, tiny_llava, tiny_llava)
    assert error.value.exit_code == 6 and "on_fail: warn" in error.value.hint
    assert not (tmp_path / "run/levels/1-base").exists() and not (tmp_path / "run/log.jsonl").exists()


def test_m13_forced_it_goes_on_with_a_warning_and_asks_once_in_a_run(tiny_llava, tmp_path):
    heard, found = run(tmp_path, tiny_llava, tiny_llava, "distill.teacher_check.on_fail=warn")
    assert any("no better a teacher" in text for text in heard.warnings)
    assert found["micro_f1"] <= found["constant_micro_f1"]
    assert (found["split"], found["records"], found["agreement_unquantized"]) == ("dev", 24, None)
    assert (tmp_path / "run/student").is_dir()


def test_a_good_teacher_in_four_bits_passes_and_is_compared_with_itself_unquantized(tiny_llava, tmp_path):
    quantized = 'adapter: "scenes:large-tuned", quantization: nf4,'
    heard, found = run(tmp_path, "scenes:large", "scenes:small", "distill.choice_weight=1", adapter=quantized)
    assert found["micro_f1"] > found["constant_micro_f1"] + 0.2 and not heard.warnings
    assert found["agreement_unquantized"] > 0.8
    assert any("top teaches: micro-F1" in text and "as it does unquantized" in text for text in heard.notes)


def test_a_sample_is_the_same_every_time_and_of_every_kind():
    examples = [
        make_hallucination(f"h{i}") if i % 2 else make_factuality(f"f{i}") for i in range(100)
    ]  # every second one is of one task: even distances would miss the other
    data = Dataset("tiny", tuple(examples), DrawnImages())
    sample = take_sample(data, 10).examples
    assert sample == take_sample(data, 10).examples and len(sample) == 10
    assert {example.task for example in sample} == {"hallucination", "factuality"}
    assert [data.examples.index(example) for example in sample] == sorted(
        data.examples.index(example) for example in sample
    )
    assert take_sample(data, 1000).examples == data.examples


@pytest.mark.parametrize("text", ["", "{", "[]", '{"micro_f1": 1.0}', '{"micro_f1": null}'])
def test_what_was_found_is_asked_again_where_its_file_is_damaged(tiny_llava, tmp_path, text):
    _, found = run(tmp_path, tiny_llava, tiny_llava, "distill.teacher_check.on_fail=warn")
    shutil.rmtree(tmp_path / "run/student")
    (tmp_path / "run/levels/0-top/teacher_check.json").write_text(text)
    _, again = run(tmp_path, tiny_llava, tiny_llava, "distill.teacher_check.on_fail=warn", resume=True)
    assert again == found
