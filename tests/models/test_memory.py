"""Activations that are computed again: the same gradients, and nothing frozen is computed twice."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from tiny_families import FAMILIES
from tiny_records import make_factuality, make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.prompts import identity_presentation
from hkdcli.errors import ModelError
from hkdcli.models import families
from hkdcli.models.adapters import attach_lora
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model
from hkdcli.models.memory import enable_gradient_checkpointing

EXAMPLES = [make_hallucination(), make_factuality()]


class Case:
    def __init__(self, folder, *, projector=True, **options):
        self.loaded = load_model(folder, **options)
        if not options.get("trainable"):
            torch.manual_seed(1)
            wrapped = attach_lora(self.loaded.model, rank=2, alpha=4, dropout=0.2, train_projector=projector)
        self.model = AnswerModel(self.loaded.model if options.get("trainable") else wrapped).train()
        shown = [identity_presentation(example) for example in EXAMPLES]
        self.batch = Collator(self.loaded.processor)(
            EXAMPLES, [make_image(0), make_image(1, (64, 40))], shown
        )

    def count_passes(self):
        """Run forward and backward; returns the gradients, and how often each layer ran."""
        passes: Counter[str] = Counter()
        handles = [
            module.register_forward_hook(lambda module, args, output, name=name: passes.update([name]))
            for name, module in self.model.named_modules()
            if isinstance(module, torch.nn.Linear)
        ]
        self.model.zero_grad()
        torch.manual_seed(2)
        logits = self.model(self.batch).logits
        torch.nn.functional.cross_entropy(logits, self.batch.answer_targets).backward()
        for handle in handles:
            handle.remove()
        return {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}, passes


@pytest.mark.parametrize("family", list(FAMILIES))
def test_gradients_stay_and_only_trained_layers_run_twice(family, tmp_path):
    case = Case(FAMILIES[family](tmp_path), projector=False)  # nothing before the first layer is trained
    expected, before = case.count_passes()
    layers = families.get_language_model(case.model.model)[1].config.num_hidden_layers
    assert enable_gradient_checkpointing(case.model.model) == layers
    found, after = case.count_passes()
    assert found.keys() == expected.keys() and any("lora_A" in name for name in found)
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]), name
    again = {name for name in before if after[name] > before[name]}
    assert sum(name.endswith("q_proj.base_layer") for name in again) == layers
    assert not any("vision" in name or "visual" in name or "connector" in name for name in again)


def test_a_model_trained_in_full_computes_its_tower_again_too(tiny_model):
    case = Case(tiny_model, trainable=True)
    expected, before = case.count_passes()
    assert enable_gradient_checkpointing(case.model.model) > 2
    found, after = case.count_passes()
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]), name
    assert any("vis" in name for name in before if after[name] > before[name])


def test_gradients_of_a_trained_projector_stay_too(tiny_model):
    case = Case(tiny_model)
    expected, _ = case.count_passes()
    enable_gradient_checkpointing(case.model.model)
    found, _ = case.count_passes()
    assert any("modules_to_save" in name for name in found)
    for name, gradient in found.items():
        assert torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_gradients_stay_on_a_quantized_language_model(quantization, tmp_path):
    folder = FAMILIES["qwen2.5-vl"](tmp_path, hidden_size=64)
    case = Case(folder, quantization=quantization)
    expected, _ = case.count_passes()
    enable_gradient_checkpointing(case.model.model)
    for name, gradient in case.count_passes()[0].items():
        torch.testing.assert_close(gradient, expected[name])


def test_it_keeps_less_for_the_backward_pass(tiny_llava):
    case = Case(tiny_llava, projector=False)

    def weigh_kept():
        kept = {}

        def keep(tensor):
            kept[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            case.model(case.batch)
        return sum(kept.values())

    before = weigh_kept()
    enable_gradient_checkpointing(case.model.model)
    assert weigh_kept() < before / 2


def test_where_nothing_is_trained_it_is_refused(tiny_llava):
    with pytest.raises(ModelError, match="no layer"):
        enable_gradient_checkpointing(load_model(tiny_llava).model)
