"""Which teachers can be compared with a student, and how: by token, or by choice alone."""

import json
import shutil

import pytest
import torch
from tiny_models import save_tiny_llava
from tiny_records import DrawnImages, make_hallucination

from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.distill.reading import check_reading, check_runs
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.sources import DatasetSource
from hkdcli.engine import distill_online
from hkdcli.errors import ModelError
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model

RECIPE = """
name: tiny
data: {train: {scenes: {split: train, size: 8}}, dev: {scenes: {split: dev, size: 4}}}
pyramid:
  - {name: top, model: TEACHER, train: null}
  - {name: base, model: STUDENT, tuning: full}
distill: {teacher_check: {size: 4, on_fail: warn}}
train: {max_steps: 2, micro_batch_size: 4, log_every: 1}
runtime: {device: cpu, dtype: float32}
"""


def run(folder, teacher, student, *overrides):
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("TEACHER", str(teacher)).replace("STUDENT", str(student)))
    distill_online(recipe, overrides, out=folder / "run")
    return [json.loads(line) for line in (folder / "run/log.jsonl").read_text().splitlines()]


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_template(folder):
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("ASSISTANT:", "JUDGE:"))


def test_equal_files_are_read_alike_wherever_they_are(tiny_llava, tmp_path):
    copied = shutil.copytree(tiny_llava, tmp_path / "elsewhere")
    assert check_reading(load_model(copied), load_model(tiny_llava), choice_only=False)


def test_m09_other_tokenizers_are_refused_by_token_and_welcome_by_choice(tiny_llava, tiny_qwen):
    teacher, student = load_model(tiny_qwen), load_model(tiny_llava)
    with pytest.raises(ModelError, match="different tokenizers and chat templates.*only by choice") as error:
        check_reading(teacher, student, choice_only=False)
    assert "distill.choice_weight=1" in error.value.hint
    assert not check_reading(teacher, student, choice_only=True)


def test_m14_another_chat_template_is_refused_by_token(tiny_llava, tmp_path):
    folder = shutil.copytree(tiny_llava, tmp_path / "edited")
    change_template(folder)
    with pytest.raises(ModelError, match="different chat templates, so"):
        check_reading(load_model(folder), load_model(tiny_llava), choice_only=False)


def test_a_teacher_with_sharper_eyes_is_compared_by_token_on_batches_of_its_own(tmp_path):
    """Its images are larger, so it has more image tokens; the answer's tokens are the student's."""
    student = load_model(save_tiny_llava(tmp_path / "student", image_size=24))
    teacher = load_model(save_tiny_llava(tmp_path / "teacher", image_size=48))
    assert not check_reading(teacher, student, choice_only=False)
    data = Dataset("tiny", (make_hallucination("a"), make_hallucination("b")), DrawnImages())
    sources = [DatasetSource(data, Collator(model.processor)) for model in (student, teacher)]
    from hkdcli.distill.order import Draw

    draws = [Draw(0, 0), Draw(0, 1)]
    batches = [source.load(draws) for source in sources]
    lengths = [batch.model_inputs["input_ids"].shape[1] for batch in batches]
    assert lengths[1] - lengths[0] == 36 - 9
    asked = LiveTeachers([AnswerModel(teacher.model)], [sources[1]])(batches[0], draws)[0]
    torch.testing.assert_close(asked.logits, AnswerModel(teacher.model)(batches[1]).logits)
    assert len(asked.logits) == len(batches[0].answer_targets)


def test_a_run_across_families_learns_by_choice(tiny_llava, tiny_qwen, tmp_path):
    with pytest.raises(ModelError, match="only by choice"):
        run(tmp_path / "token", tiny_qwen, tiny_llava)
    rows = run(tmp_path / "choice", tiny_qwen, tiny_llava, "distill.choice_weight=1")
    assert all(row["choice"] > 0 and "token" not in row for row in rows)
    with pytest.raises(ModelError, match="only by choice"):  # the upper model's own labels are other tokens
        run(tmp_path / "mutual", tiny_qwen, tiny_llava, "distill.choice_weight=1", "distill.mutual=true")


def test_beside_a_pair_that_learns_together_a_further_teacher_may_be_of_any_family(
    tiny_llava, tiny_qwen, tmp_path
):
    near = f"{{name: near, model: {tiny_llava}, train: null}}, {{name: base, model: {tiny_llava}}}"
    levels = f"[{{name: far, model: {tiny_qwen}, train: null}}, {near}]"
    changes = ("distill.choice_weight=1", "distill.mutual=true", "distill.teachers=all", f"pyramid={levels}")
    rows = run(tmp_path, tiny_qwen, tiny_llava, *changes)
    assert all(row["choice"] > 0 for row in rows)  # of the far one, for the other two begin alike
    assert rows[0]["upper_choice"] == 0 < rows[-1]["upper_choice"]


def test_a_level_answers_as_many_records_at_once_as_it_is_trained_on(tiny_llava, tmp_path, monkeypatch):
    from hkdcli.inference.scoring import Scorer

    before, sizes = Scorer.score_prepared, set()

    def score(self, prepared):
        sizes.add(len(prepared.examples))
        return before(self, prepared)

    monkeypatch.setattr(Scorer, "score_prepared", score)
    few = "pyramid.base.train={micro_batch_size: 2, evaluate_every: 1}"
    run(tmp_path, tiny_llava, tiny_llava, few, "data.test={scenes: {split: test, size: 4}}")
    assert sizes == {4, 2}  # the ready teacher, and the level


def test_a_processor_that_writes_too_many_image_tokens_is_refused_before_training(tiny_llava, tmp_path):
    folder = shutil.copytree(tiny_llava, tmp_path / "wrong")
    edit_json(folder / "processor_config.json", patch_size=4)
    data = Dataset("tiny", (make_hallucination(),), DrawnImages())
    check_runs(load_model(tiny_llava), data)
    with pytest.raises(ModelError, match="cannot read what its processor makes of a record.*tokens") as error:
        check_runs(load_model(folder), data)
    assert "patch_size" in error.value.hint
    with pytest.raises(ModelError, match="cannot read what its processor makes of a record"):
        run(tmp_path, tiny_llava, folder)  # as a student too
    assert not (tmp_path / "run/log.jsonl").exists()


def test_a_teacher_held_in_bfloat16_takes_the_students_pixels(tiny_llava):
    data = Dataset("tiny", (make_hallucination(),), DrawnImages())
    half = load_model(tiny_llava, dtype=torch.bfloat16)
    check_runs(half, data)
    assert half.model.get_input_embeddings().weight.dtype == torch.bfloat16
