from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_records import make_factuality, make_hallucination, make_image

from hkdcli.data.collate import Batch, Collator
from hkdcli.data.prompts import identity_presentation
from hkdcli.models import families
from hkdcli.models.adapters import attach_lora
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import LoadedModel, load_model


@pytest.fixture
def loaded(tiny_model: Path) -> LoadedModel:
    return load_model(tiny_model, trainable=True)


@pytest.fixture
def batch(loaded: LoadedModel) -> Batch:
    examples = [make_hallucination(), make_factuality()]
    shown = [identity_presentation(example) for example in examples]
    return Collator(loaded.processor)(examples, [make_image(0), make_image(1, (64, 40))], shown)


def run(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(logits, batch.answer_targets)


def test_equal_to_full_logits_in_value_and_gradient(loaded, batch):
    answers = AnswerModel(loaded.model)(batch).logits
    run(answers, batch).backward()
    got = {name: p.grad.clone() for name, p in loaded.model.named_parameters() if p.grad is not None}
    loaded.model.zero_grad()
    full = loaded.model(**batch.model_inputs).logits[batch.answer_rows, batch.answer_columns]
    run(full, batch).backward()
    assert answers.dtype == torch.float32
    torch.testing.assert_close(answers, full)
    for name, parameter in loaded.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(got[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_head_sees_answer_positions_only(loaded, batch):
    seen = []
    hook = loaded.model.get_output_embeddings().register_forward_hook(
        lambda module, args, output: seen.append(args[0].shape)
    )
    AnswerModel(loaded.model)(batch)
    hook.remove()
    assert seen == [(len(batch.answer_targets), 32)]


def test_logits_are_float32_in_half_precision(tiny_llava, batch):
    loaded = load_model(tiny_llava, dtype=torch.bfloat16)
    shown = identity_presentation(make_hallucination())
    own = Collator(loaded.processor)([make_hallucination()], [make_image()], [shown])
    assert AnswerModel(loaded.model)(own.to("cpu", torch.bfloat16)).logits.dtype == torch.float32


def test_adapted_model_learns_and_its_frozen_tower_builds_no_graph(loaded, batch):
    wrapped = AnswerModel(attach_lora(loaded.model, rank=2, alpha=4)).train()
    outputs = []
    for part in families.get_vision_parts(wrapped.model).values():
        part.register_forward_hook(lambda module, args, output: outputs.append(output))
    run(wrapped(batch).logits, batch).backward()
    tensors = [t for output in outputs for t in _tensors(output)]
    assert tensors
    assert not any(tensor.requires_grad for tensor in tensors)
    trained = [
        name for name, p in wrapped.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    ]
    assert trained
    assert all("lora_" in name and "language_model" in name for name in trained)


def _tensors(output):
    if isinstance(output, torch.Tensor):
        return [output]
    return [value for value in getattr(output, "values", tuple)() if isinstance(value, torch.Tensor)]


def test_training_mode_leaves_frozen_parts_alone(loaded):
    model = AnswerModel(attach_lora(loaded.model, rank=2, alpha=4, dropout=0.1))
    model.train()
    assert not any(
        m.training for part in families.get_vision_parts(model.model).values() for m in part.modules()
    )
    assert families.get_language_model(model.model)[1].training
    model.eval()
    assert not any(module.training for module in model.modules())
    assert AnswerModel(load_model_frozen(loaded)).train().model.model.language_model.training is False


def load_model_frozen(loaded: LoadedModel):
    return (
        loaded.model.merge_and_unload().requires_grad_(False)
        if hasattr(loaded.model, "merge_and_unload")
        else loaded.model.requires_grad_(False)
    )


def test_positions_go_on_after_an_image(tiny_qwen):
    """Explicit positions are those that the model would find itself, and say where a row goes on."""
    loaded = load_model(tiny_qwen)
    examples = [make_hallucination(), make_factuality()]
    shown = [[identity_presentation(example)] for example in examples]
    prefixes = Collator(loaded.processor).collate_prefixes(
        examples, [make_image(0), make_image(1, (64, 40))], shown
    )
    inputs = prefixes.model_inputs
    positions, following = families.compute_position_ids(loaded.model, inputs)
    assert positions.shape == (3, *inputs["input_ids"].shape)
    assert (following < torch.tensor(prefixes.lengths)).all()
    own = loaded.model.model(**inputs).last_hidden_state
    given = loaded.model.model(**inputs, position_ids=positions).last_hidden_state
    torch.testing.assert_close(own, given)
    torch.testing.assert_close(
        following[:, None], loaded.model.model.rope_deltas + torch.tensor(prefixes.lengths)[:, None]
    )
