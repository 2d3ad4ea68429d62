from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_records import make_choices, make_factuality, make_hallucination, make_image

from hkdcli.data import prompts
from hkdcli.data.prompts import build_legal_answers, identity_presentation
from hkdcli.errors import MachineLimitError, ModelError
from hkdcli.inference import passes, scoring
from hkdcli.inference.scoring import Scorer
from hkdcli.inference.shift import combine, shifted_presentations
from hkdcli.models import families
from hkdcli.models.adapters import attach_lora
from hkdcli.models.loading import LoadedModel, load_model

EXAMPLES = [
    make_hallucination(),
    make_factuality(context="A much longer context than the others have. " * 4),
    make_hallucination("h2", ("a round thing", "x"), caption="short"),
    make_factuality("f2", choices=make_choices("True", "False"), answer=frozenset("A"), context=""),
]
IMAGES = [make_image(0), make_image(1, (64, 40)), make_image(2, (28, 60)), make_image(3)]
SHIFTS = [shifted_presentations(example) for example in EXAMPLES]
LETTERS_ONLY = [shifted_presentations(example, what="letters") for example in EXAMPLES]


@pytest.fixture
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(tiny_model)


def check_equal(one, two, tolerance=2e-5):
    for a, b in zip(one, two, strict=True):
        assert a.log_probs.shape == b.log_probs.shape
        np.testing.assert_allclose(a.log_probs, b.log_probs, atol=tolerance)


@pytest.mark.parametrize("shown", [SHIFTS, LETTERS_ONLY])
def test_shared_prefix_gives_the_numbers_of_whole_passes(loaded, shown):
    shared = Scorer(loaded).score(EXAMPLES, IMAGES, shown)
    whole = Scorer(loaded, reuse_prefix=False).score(EXAMPLES, IMAGES, shown)
    assert [result.log_probs.shape for result in shared] == [(4, 8), (4, 4), (3, 4), (2, 2)]
    check_equal(shared, whole)
    # The numbers say something: orders and answers differ.
    assert np.std(shared[0].log_probs, axis=0).min() > 1e-2


def test_r20_batch_1_equals_batch_n_equals_any_order(loaded):
    scorer = Scorer(loaded)
    together = scorer.score(EXAMPLES, IMAGES, SHIFTS)
    alone = [scorer.score([e], [i], [p])[0] for e, i, p in zip(EXAMPLES, IMAGES, SHIFTS, strict=True)]
    check_equal(together, alone)
    mixed = scorer.score(EXAMPLES[::-1], IMAGES[::-1], SHIFTS[::-1])[::-1]
    check_equal(together, mixed)


def test_presentations_split_over_rows_give_the_same(loaded):
    one_row = Scorer(loaded).score(EXAMPLES, IMAGES, SHIFTS)
    check_equal(one_row, Scorer(loaded, max_row_tokens=1).score(EXAMPLES, IMAGES, SHIFTS))
    check_equal(one_row, Scorer(loaded, max_row_tokens=100).score(EXAMPLES, IMAGES, SHIFTS))


def test_uneven_numbers_of_presentations(loaded):
    full = Scorer(loaded).score(EXAMPLES, IMAGES, SHIFTS)
    some = [shown[: 1 + i % 3] for i, shown in enumerate(SHIFTS)]
    for result, reference, shown in zip(
        Scorer(loaded).score(EXAMPLES, IMAGES, some), full, some, strict=True
    ):
        np.testing.assert_allclose(result.log_probs, reference.log_probs[: len(shown)], atol=2e-5)


def test_adapted_model_is_scored_with_its_adapter(loaded):
    plain = Scorer(loaded).score(EXAMPLES, IMAGES, SHIFTS)
    wrapped = dataclasses.replace(loaded, model=attach_lora(loaded.model, rank=2, alpha=4))
    check_equal(plain, Scorer(wrapped).score(EXAMPLES, IMAGES, SHIFTS))
    for name, parameter in wrapped.model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3)
    adapted = Scorer(wrapped).score(EXAMPLES, IMAGES, SHIFTS)
    assert np.abs(adapted[0].log_probs - plain[0].log_probs).max() > 0.01
    check_equal(adapted, Scorer(wrapped, reuse_prefix=False).score(EXAMPLES, IMAGES, SHIFTS), 1e-4)


def test_eager_attention_agrees(tiny_model, loaded):
    sdpa = Scorer(loaded).score(EXAMPLES, IMAGES, SHIFTS)
    loaded.model.set_attn_implementation("eager")
    check_equal(sdpa, Scorer(loaded).score(EXAMPLES, IMAGES, SHIFTS))


def test_probabilities_of_legal_answers_are_below_one(loaded):
    for result in Scorer(loaded).score(EXAMPLES, IMAGES, SHIFTS):
        assert (np.logaddexp.reduce(result.log_probs, axis=-1) < 0).all()


def test_law_a_prior_on_the_answer_s_letter_does_not_move_the_shifted_posterior(loaded):
    """The prior is added to the logits at the answer's first position, as a biased model would have it."""
    example, image, shown = EXAMPLES[1], IMAGES[1], SHIFTS[1]
    answers = build_legal_answers(example)
    fair = Scorer(loaded).score([example], [image], [shown])[0].log_probs
    prior = dict(zip("ABCD", (3.0, -1.0, 0.5, 7.0), strict=True))
    biased = fair.copy()
    for s, order in enumerate(shown):
        letter = {choice_id: shown_letter for shown_letter, choice_id in order}
        biased[s] += [prior[letter[next(iter(answer))]] for answer in answers]
    one, two = combine(answers, fair), combine(answers, biased)
    np.testing.assert_allclose(one.posterior.probs, two.posterior.probs, atol=1e-6)
    assert np.abs(biased[0] - fair[0]).max() > 1


def test_26_single_answers(loaded):
    example = make_factuality(choices=make_choices(*[f"answer {i}" for i in range(26)]))
    shown = [shifted_presentations(example, 3)]
    shared = Scorer(loaded).score([example], IMAGES[:1], shown)
    assert shared[0].log_probs.shape == (3, 26)
    check_equal(shared, Scorer(loaded, reuse_prefix=False).score([example], IMAGES[:1], shown))


def test_six_choices_have_32_answers(loaded):
    example = make_hallucination(choices=make_choices("No hallucination", *"abcde"))
    result = Scorer(loaded).score([example], IMAGES[:1], [[identity_presentation(example)]])[0]
    assert result.log_probs.shape == (1, 32)


def test_a_beam_as_wide_as_the_tree_finds_every_answer(loaded, monkeypatch):
    exact = Scorer(loaded).score(EXAMPLES, IMAGES, SHIFTS)
    monkeypatch.setattr(prompts, "MAX_EXACT_CHOICES", 2)
    searched = Scorer(loaded).score(EXAMPLES, IMAGES, SHIFTS)
    assert [result.approximate for result in searched] == [True, False, True, False]
    for one, two in zip(exact, searched, strict=True):
        assert set(one.answers) == set(two.answers)
        same = [two.answers.index(answer) for answer in one.answers]
        np.testing.assert_allclose(one.log_probs, two.log_probs[:, same], atol=2e-5)


@pytest.mark.parametrize("reuse", [True, False])
def test_a_narrow_beam_keeps_the_numbers_of_what_it_finds(loaded, monkeypatch, reuse):
    example = make_hallucination(choices=make_choices("No hallucination", *"abcde"))
    shown = [shifted_presentations(example, 2)]
    (exact,) = Scorer(loaded).score([example], IMAGES[:1], shown)
    monkeypatch.setattr(prompts, "MAX_EXACT_CHOICES", 2)
    monkeypatch.setattr(scoring, "BEAM_WIDTH", 10)
    (found,) = Scorer(loaded, reuse_prefix=reuse).score([example], IMAGES[:1], shown)
    assert 6 < len(found.answers) < 32
    places = [exact.answers.index(answer) for answer in found.answers]
    np.testing.assert_allclose(found.log_probs, exact.log_probs[:, places], atol=2e-5)


def test_26_choices_are_searched(loaded):
    example = make_hallucination(choices=make_choices("No hallucination", *"abcdefghijklmnopqrstuvwxy"))
    (found,) = Scorer(loaded).score([example], IMAGES[:1], [shifted_presentations(example, 2)])
    assert found.approximate
    assert {frozenset({choice.id}) for choice in example.choices} <= set(found.answers)
    assert all(len(answer) == 1 or "A" not in answer for answer in found.answers)
    assert np.isfinite(found.log_probs).all()


@pytest.mark.parametrize("names", ["aaba", "aaaa", "abab"])
def test_records_of_one_image_share_the_work_on_it(loaded, names):
    """What one image's records have in common runs once, and the numbers are those of each alone."""
    images = [IMAGES["ab".index(name)] for name in names]
    alone = [Scorer(loaded).score([e], [i], [p])[0] for e, i, p in zip(EXAMPLES, images, SHIFTS, strict=True)]
    seen = []
    hook = loaded.model.model.register_forward_hook(
        lambda m, args, kwargs, out: seen.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    together = Scorer(loaded).score(EXAMPLES, images, SHIFTS)
    hook.remove()
    assert seen == [len(set(names)), 4]
    check_equal(together, alone)


def test_shortened_context_is_reported_and_scored_the_same_way(loaded):
    long = make_factuality(context="many words " * 500)
    scorers = [Scorer(loaded, max_length=300, reuse_prefix=reuse) for reuse in (True, False)]
    results = [scorer.score([long], IMAGES[:1], [shifted_presentations(long)]) for scorer in scorers]
    assert all(result[0].truncated for result in results)
    check_equal(*results)


@pytest.mark.parametrize("reuse", [True, False])
def test_nan_logits_are_an_error_not_an_answer(loaded, reuse):
    loaded.model.get_output_embeddings().weight.data[5] = float("nan")
    with pytest.raises(ModelError, match="NaN"):
        Scorer(loaded, reuse_prefix=reuse).score(EXAMPLES[:1], IMAGES[:1], SHIFTS[:1])


def test_out_of_memory_is_a_machine_limit(loaded, monkeypatch):
    def fail(*args):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(passes.Passes, "_score_forest", fail)
    with pytest.raises(MachineLimitError, match="4 records"):
        Scorer(loaded).score(EXAMPLES, IMAGES, SHIFTS)


def test_head_sees_only_needed_positions_and_prefix_runs_once(loaded):
    head, lengths = [], []
    loaded.model.get_output_embeddings().register_forward_hook(lambda m, args, out: head.append(len(args[0])))
    loaded.model.model.register_forward_hook(
        lambda m, args, kwargs, out: lengths.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    Scorer(loaded).score(EXAMPLES[:1], IMAGES[:1], SHIFTS[:1])
    assert sum(head) == 4 * 12
    assert len(lengths) == 2


def test_modes_are_left_as_they_were(loaded):
    loaded.model.train()
    loaded.model.model.language_model.layers[0].eval()
    before = [module.training for module in loaded.model.modules()]
    Scorer(loaded).score(EXAMPLES[:1], IMAGES[:1], SHIFTS[:1])
    assert [module.training for module in loaded.model.modules()] == before


def test_short_windows_fall_back_to_whole_passes(loaded, monkeypatch):
    reference = Scorer(loaded).score(EXAMPLES[:1], IMAGES[:1], SHIFTS[:1])
    config = loaded.model.config.get_text_config()
    monkeypatch.setattr(config, "layer_types", ["full_attention", "sliding_attention"], raising=False)
    monkeypatch.setattr(config, "sliding_window", 10, raising=False)
    assert not families.can_share_prefix(loaded.model, 11)
    assert families.can_share_prefix(loaded.model, 10)
    monkeypatch.setattr(config, "layer_types", ["full_attention", "linear_attention"])
    assert not families.can_share_prefix(loaded.model, 10)
    monkeypatch.undo()
    check_equal(reference, Scorer(loaded).score(EXAMPLES[:1], IMAGES[:1], SHIFTS[:1]))


def test_whole_passes_are_owned_up_to(loaded, monkeypatch):
    scorer = Scorer(loaded)
    reference = scorer.score(EXAMPLES, IMAGES, SHIFTS)
    assert not scorer.fell_back
    monkeypatch.setattr(families, "can_share_prefix", lambda model, length: False)
    check_equal(reference, scorer.score(EXAMPLES, IMAGES, SHIFTS))
    assert scorer.fell_back
