"""Defects that other trainers of this kind have without a word, and the tests that ours would fail with them.

`GUARDS` is the whole list. What stands here is what no other file shows: mostly that a setting of the recipe,
an adapter or a padded head arrives in the loss of a whole run.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny_llava, save_tiny_qwen
from tiny_records import make_hallucination, make_image
from toy import VOCABULARY, ToySource, ToyStudent, collate, make_objective, make_settings, make_teachers

from hkdcli.data.collate import Collator
from hkdcli.data.prompts import identity_presentation
from hkdcli.distill.online import TrainedLevel, load_level
from hkdcli.distill.order import Draw
from hkdcli.distill.stepper import Stepper
from hkdcli.engine import distill_online
from hkdcli.errors import ModelError
from hkdcli.models.adapters import attach_lora, save_adapter
from hkdcli.models.answers import AnswerLogits, AnswerModel
from hkdcli.models.loading import load_model
from hkdcli.runtime import choose_runtime

HERE = "distill/test_peer_defects.py"
LOSSES, OBJECTIVE = "distill/test_losses.py", "distill/test_objective.py"
TRAINER, TINY = "distill/test_trainer.py", "distill/test_tiny_models.py"

GUARDS = {
    "the gradient is divided by the number of micro-batches once more": [
        (TRAINER, "test_accumulation_changes_neither_loss_nor_gradient"),
        (TINY, "test_accumulation_changes_neither_loss_nor_gradient"),
    ],
    "the temperature is read from the settings and never reaches the loss": [
        (LOSSES, "test_temperature_reaches_the_loss_and_its_gradient"),
        (OBJECTIVE, "test_the_loss_is_the_written_equation"),
        (HERE, "test_what_a_recipe_says_of_teaching_reaches_the_loss"),
    ],
    "a narrower vocabulary is filled up with the other model's raw logits": [
        (LOSSES, "test_a_constant_added_to_the_logits_changes_nothing"),
        (LOSSES, "test_padded_columns_change_nothing"),
        (OBJECTIVE, "test_padded_columns_and_constants_do_not_reach_the_teaching"),
    ],
    "top-k compares no tail: mass on wrong tokens costs nothing": [
        (LOSSES, "test_mass_outside_the_top_k_costs_what_it_costs_the_whole"),
        (LOSSES, "test_top_k_bounds_the_whole_from_below"),
        (HERE, "test_padding_is_never_among_the_teachers_likeliest_tokens"),
    ],
    "the mask is not shifted: the first answer token is never scored": [
        ("prompts/test_collate.py", "test_answer_positions_predict_the_answer"),
        (OBJECTIVE, "test_the_first_answer_token_is_scored"),
        (OBJECTIVE, "test_nothing_after_the_end_token_is_learned"),
        (TINY, "test_gradients_reach_the_letter_and_stop_at_the_end_token"),
    ],
    "a teacher's adapter is named and never loaded": [
        (HERE, "test_a_teachers_adapter_changes_its_logits"),
        (HERE, "test_a_teachers_adapter_changes_the_loss_of_a_run"),
    ],
    "a divergence computed in pieces differs from the whole": [
        (HERE, "test_a_batch_in_pieces_has_the_loss_of_the_whole"),
    ],
    "a Jensen-Shannon divergence below 0 in mixed float32 and bfloat16": [
        (LOSSES, "test_no_divergence_is_negative_in_mixed_precision"),
        (LOSSES, "test_equal_logits_have_no_divergence"),
    ],
    "tokenizers are compared by their size alone, while heads or token ids differ": [
        (HERE, "test_padding_of_either_head_stays_out_of_the_teaching_of_a_run"),
        (HERE, "test_tokenizers_of_one_size_with_other_ids_are_not_compared_by_token"),
    ],
    "a batch without a scored token gives NaN, or breaks the graph": [
        (LOSSES, "test_a_row_without_columns_and_a_batch_without_rows_give_zero"),
        (OBJECTIVE, "test_a_batch_without_answers_gives_zero_and_no_nan"),
        (HERE, "test_a_micro_batch_without_answers_leaves_the_step_as_it_is"),
    ],
    "a student whose head is larger than the teacher's ends the run": [
        (LOSSES, "test_padded_columns_change_nothing"),
        (HERE, "test_padding_of_either_head_stays_out_of_the_teaching_of_a_run"),
    ],
    "a resumed run sees other examples, or loses its optimizer": [
        (TRAINER, "test_log_lines_after_a_resume_equal_the_uninterrupted_ones"),
    ],
}

RECIPE = """
name: tiny
data: {train: {scenes: {split: train, size: 4}}}
pyramid:
  - {name: top, model: TEACHER, train: null}
  - {name: base, model: STUDENT, tuning: full}
distill: {teacher_check: null}
train: {max_steps: 1, micro_batch_size: 4, log_every: 1}
runtime: {device: cpu, dtype: float32}
"""


def run(folder, teacher, student, *overrides):
    """The figures of the first step of a whole run."""
    folder.mkdir(parents=True)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("TEACHER", str(teacher)).replace("STUDENT", str(student)))
    distill_online(recipe, overrides, out=folder / "run")
    return json.loads((folder / "run/log.jsonl").read_text().splitlines()[0])


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_tiny_llava(tmp_path_factory.mktemp("teacher"), seed=5)


@pytest.fixture(scope="module")
def plain_figures(tmp_path_factory, teacher, tiny_llava):
    return run(tmp_path_factory.mktemp("plain") / "it", teacher, tiny_llava)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, teacher):
    torch.manual_seed(0)
    wrapped = attach_lora(load_model(teacher).model, rank=4, alpha=8)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3)
    folder = tmp_path_factory.mktemp("adapter") / "it"
    save_adapter(wrapped, folder, source=str(teacher))
    return folder


@pytest.fixture
def batch():
    return ToySource().load([Draw(0, index) for index in range(6)])


@pytest.mark.parametrize("defect", GUARDS)
def test_every_defect_has_its_tests(defect):
    tests = Path(__file__).parents[1]
    for file, name in GUARDS[defect]:
        assert f"def {name}(" in (tests / file).read_text(encoding="utf-8"), f"{file} has no {name}"


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("distill.temperature=4.0", "token"),
        ("distill.temperature=4.0", "choice"),
        ("distill.divergence=reverse_kl", "token"),
        ("distill.top_k=2", "token"),
        ("distill.choice_weight=0.9", "loss"),
        ("distill.lambda.start=0.9", "loss"),
    ],
)
def test_what_a_recipe_says_of_teaching_reaches_the_loss(
    override, part, plain_figures, teacher, tiny_llava, tmp_path
):
    found = run(tmp_path / "it", teacher, tiny_llava, override)
    assert found[part] != pytest.approx(plain_figures[part], rel=1e-2)
    assert found["cross_entropy"] == pytest.approx(plain_figures["cross_entropy"], rel=1e-5)


def test_a_recipe_decides_on_the_square_of_the_temperature(teacher, tiny_llava, tmp_path):
    warm = ("distill.temperature=3.0",)
    scaled = run(tmp_path / "scaled", teacher, tiny_llava, *warm)
    bare = run(tmp_path / "bare", teacher, tiny_llava, *warm, "distill.scale_by_temperature=false")
    for part in ("choice", "token"):
        assert scaled[part] == pytest.approx(9.0 * bare[part], rel=1e-4)


def test_a_teachers_adapter_changes_its_logits(teacher, adapter):
    example = make_hallucination()
    answers = []
    for place in (None, str(adapter)):
        level = load_level(TrainedLevel("top", str(teacher), place, "none"), choose_runtime("cpu", "float32"))
        batch = Collator(level.processor)([example], [make_image()], [identity_presentation(example)])
        answers.append(AnswerModel(level.model)(batch).logits)
    assert (answers[0] - answers[1]).abs().max() > 0.1


def test_a_teachers_adapter_changes_the_loss_of_a_run(plain_figures, teacher, adapter, tiny_llava, tmp_path):
    found = run(tmp_path / "it", teacher, tiny_llava, f"pyramid.0.adapter={adapter}")
    for part in ("choice", "token"):
        assert found[part] != pytest.approx(plain_figures[part], rel=1e-3)
    assert found["cross_entropy"] == pytest.approx(plain_figures["cross_entropy"], rel=1e-5)


@pytest.mark.parametrize("wide", ["teacher", "student"])
def test_padding_of_either_head_stays_out_of_the_teaching_of_a_run(wide, tiny_qwen, tmp_path):
    """Both tokenizers are one and the same; only the padding of the heads differs."""
    logs = []
    for loud in (False, True):
        padded = save_tiny_qwen(tmp_path / f"{loud}", seed=5, vocab_size=512)
        if loud:
            raise_padding(padded)
        pair = (padded, tiny_qwen) if wide == "teacher" else (tiny_qwen, padded)
        logs.append(run(tmp_path / f"run-{loud}", *pair, "distill.top_k=5"))
    for part in ("choice", "token"):
        assert logs[0][part] > 0.01 and logs[1][part] == pytest.approx(logs[0][part], rel=1e-5)
    if wide == "student":  # which pays for mass on padding, but with its labels
        assert logs[1]["cross_entropy"] > logs[0]["cross_entropy"] + 1.0


def raise_padding(folder):
    """Give the tokens past the tokenizer's, and those alone, logits far from all others."""
    weights = load_file(folder / "model.safetensors")
    known = len(load_model(folder).processor.tokenizer)
    weights["lm_head.weight"][known:] *= 100.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_tokenizers_of_one_size_with_other_ids_are_not_compared_by_token(tiny_llava, tmp_path):
    other = save_tiny_llava(tmp_path / "other", seed=5)
    path = other / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = document["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ModelError, match="tokenizer"):
        run(tmp_path / "it", other, tiny_llava, "distill.choice_weight=0.5")


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_padding_is_never_among_the_teachers_likeliest_tokens(batch, divergence):
    student, teacher = ToyStudent().eval()(batch), make_teachers()(batch)[0]
    objective = make_objective(divergence=divergence, top_k=3)
    expected = objective(student, [teacher], batch, 0.5).parts["token"].total
    padding = 50.0 + torch.randn(len(teacher.logits), 7)
    wide = AnswerLogits(torch.cat([teacher.logits[:, :VOCABULARY], padding], 1))
    found = objective(student, [wide], batch, 0.5).parts["token"].total
    torch.testing.assert_close(found, expected)
    assert (
        0.0
        < found
        < make_objective(divergence=divergence)(student, [teacher], batch, 0.5).parts["token"].total
    )


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize(
    ("divergence", "beta"), [("forward_kl", None), ("reverse_kl", None), ("jsd", 0.3), ("skew_kl", 0.1)]
)
def test_a_batch_in_pieces_has_the_loss_of_the_whole(divergence, beta, top_k):
    objective = make_objective(divergence=divergence, beta=beta, top_k=top_k)
    source, student, teachers = ToySource(), ToyStudent().eval(), make_teachers()
    draws = [Draw(0, index) for index in range(6)]
    counts = objective.count(source.load(draws))

    def compute_gradient(pieces):
        student.zero_grad()
        for piece in map(source.load, pieces):
            objective(student(piece), teachers(piece), piece, 0.5).combine(counts).backward()
        return [p.grad.clone() for p in student.parameters() if p.grad is not None]

    whole = compute_gradient([draws])
    assert max(gradient.abs().max() for gradient in whole) > 1e-3
    for pieces in ([draws[:1], draws[1:]], [draws[:4], draws[4:]], [[draw] for draw in draws]):
        for found, expected in zip(compute_gradient(pieces), whole, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


class HoledSource(ToySource):
    """Gives micro-batches without a scored token where asked to."""

    def __init__(self, holes):
        super().__init__()
        self.holes = holes

    def load(self, draws):
        if self.loads in self.holes:
            self.loads += 1
            empty = collate([(torch.tensor([8, 9, 10]), torch.zeros(0, dtype=torch.long), 3)] * len(draws))
            return replace(empty, first=empty.first[:0], letter_ids=empty.letter_ids[:0])
        return super().load(draws)


@pytest.mark.parametrize("divergence", ["forward_kl", "reverse_kl"])
def test_a_micro_batch_without_answers_leaves_the_step_as_it_is(divergence):
    outcomes = {}
    for holes, count in (((), 1), ((1,), 2), ((0, 1), 2)):
        settings = make_settings(gradient_accumulation_steps=count, max_grad_norm=None)
        source, objective = HoledSource(holes), make_objective(divergence=divergence)
        stepper = Stepper(ToyStudent(), make_teachers(), objective, source, settings)
        outcomes[holes] = stepper.take_step(0)
    full, holed, nothing = outcomes.values()
    assert holed.finite and holed.losses["loss"] == pytest.approx(full.losses["loss"].item(), rel=1e-5)
    assert holed.grad_norm.item() == pytest.approx(full.grad_norm.item(), rel=1e-5)
    assert nothing.finite and nothing.losses["loss"] == 0.0 and nothing.grad_norm == 0.0
