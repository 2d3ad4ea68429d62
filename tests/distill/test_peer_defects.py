"""Defects that other trainers of this kind have without a word, and the tests that ours would fail with them.

`GUARDS` is the whole list; what stands below it is what belongs to no other file.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import ToySource, ToyStudent, collate, make_objective, make_settings, make_teachers

from hkdcli.distill.order import Draw
from hkdcli.distill.stepper import Stepper

HERE, RUN = "distill/test_peer_defects.py", "distill/test_teaching_of_a_run.py"
LOSSES, OBJECTIVE = "distill/test_losses.py", "distill/test_objective.py"
TOP_K, TRAINER, ROBUST = "distill/test_top_k.py", "distill/test_trainer.py", "distill/test_robust.py"
TINY = "distill/test_tiny_models.py"

GUARDS = {
    "the gradient is divided by the number of micro-batches once more": [
        (TRAINER, "test_accumulation_changes_neither_loss_nor_gradient"),
        (TINY, "test_accumulation_changes_neither_loss_nor_gradient"),
    ],
    "the temperature is read from the settings and never reaches the loss": [
        (LOSSES, "test_temperature_reaches_the_loss_and_its_gradient"),
        (OBJECTIVE, "test_the_loss_is_the_written_equation"),
        (RUN, "test_what_a_recipe_says_of_teaching_reaches_the_loss"),
    ],
    "a narrower vocabulary is filled up with the other model's raw logits": [
        (LOSSES, "test_a_constant_added_to_the_logits_changes_nothing"),
        (LOSSES, "test_padded_columns_change_nothing"),
        (OBJECTIVE, "test_padded_columns_and_constants_do_not_reach_the_teaching"),
    ],
    "top-k compares no tail: mass on wrong tokens costs nothing": [
        (TOP_K, "test_mass_outside_the_top_k_costs_what_it_costs_the_whole"),
        (TOP_K, "test_top_k_bounds_the_whole_from_below"),
        (TOP_K, "test_padding_is_never_among_the_teachers_likeliest_tokens"),
    ],
    "the mask is not shifted: the first answer token is never scored": [
        ("prompts/test_collate.py", "test_answer_positions_predict_the_answer"),
        (OBJECTIVE, "test_the_first_answer_token_is_scored"),
        (OBJECTIVE, "test_nothing_after_the_end_token_is_learned"),
        (TINY, "test_gradients_reach_the_letter_and_stop_at_the_end_token"),
    ],
    "a teacher's adapter is named and never loaded": [
        (RUN, "test_a_teachers_adapter_changes_its_logits"),
        (RUN, "test_a_teachers_adapter_changes_the_loss_of_a_run"),
    ],
    "a divergence computed in pieces differs from the whole": [
        (HERE, "test_a_batch_in_pieces_has_the_loss_of_the_whole"),
    ],
    "a Jensen-Shannon divergence below 0 in mixed float32 and bfloat16": [
        (LOSSES, "test_no_divergence_is_negative_in_mixed_precision"),
        (LOSSES, "test_equal_logits_have_no_divergence"),
    ],
    "tokenizers are compared by their size alone, while heads or token ids differ": [
        (RUN, "test_padding_of_either_head_stays_out_of_the_teaching_of_a_run"),
        (RUN, "test_tokenizers_of_one_size_with_other_ids_are_not_compared_by_token"),
    ],
    "a batch without a scored token gives NaN, or breaks the graph": [
        (LOSSES, "test_a_row_without_columns_and_a_batch_without_rows_give_zero"),
        (OBJECTIVE, "test_a_batch_without_answers_gives_zero_and_no_nan"),
        (HERE, "test_a_micro_batch_without_answers_leaves_the_step_as_it_is"),
    ],
    "a student whose head is larger than the teacher's ends the run": [
        (LOSSES, "test_padded_columns_change_nothing"),
        (RUN, "test_padding_of_either_head_stays_out_of_the_teaching_of_a_run"),
    ],
    "what a teacher stored is not what it says live": [
        ("distill/test_refine_run.py", "test_stored_and_live_signals_give_the_same_losses"),
        ("distill/test_signal_records.py", "test_join_undoes_split"),
        ("distill/test_ternary.py", "test_top_k_is_off_by_no_more_than_what_is_not_kept"),
    ],
    "a resumed run sees other examples, or loses its optimizer": [
        (ROBUST, "test_r08_log_lines_after_a_resume_equal_the_uninterrupted_ones"),
    ],
}


@pytest.mark.parametrize("defect", GUARDS)
def test_every_defect_has_its_tests(defect):
    tests = Path(__file__).parents[1]
    for file, name in GUARDS[defect]:
        assert f"def {name}(" in (tests / file).read_text(encoding="utf-8"), f"{file} has no {name}"


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
