"""Every family through the same code: batches, answer logits, gradients, exact scoring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_families import FAMILIES
from tiny_records import make_factuality, make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.inference.scoring import Scorer
from hkdcli.inference.shift import shifted_presentations
from hkdcli.models.adapters import attach_lora
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import LoadedModel, load_model

EXAMPLES = [make_hallucination(), make_factuality(context="A much longer context than the others have. " * 3)]
IMAGES = [make_image(0), make_image(1, (64, 40))]
SHOWN = [shifted_presentations(example) for example in EXAMPLES]


@pytest.fixture(scope="module", params=list(FAMILIES))
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder: Path = FAMILIES[request.param](tmp_path_factory.mktemp("families") / request.param)
    return load_model(folder)


def test_shared_prefix_gives_the_numbers_of_whole_passes(loaded):
    shared = Scorer(loaded).score(EXAMPLES, IMAGES, SHOWN)
    whole = Scorer(loaded, reuse_prefix=False).score(EXAMPLES, IMAGES, SHOWN)
    for one, two in zip(shared, whole, strict=True):
        np.testing.assert_allclose(one.log_probs, two.log_probs, atol=2e-5)


def test_records_of_one_image_share_its_prefix(loaded):
    images = IMAGES[:1] * 2
    alone = [Scorer(loaded).score([e], [i], [s])[0] for e, i, s in zip(EXAMPLES, images, SHOWN, strict=True)]
    scorer = Scorer(loaded)
    assert len(scorer.prepare(EXAMPLES, images, SHOWN).prefixes.lengths) == 1
    for one, two in zip(scorer.score(EXAMPLES, images, SHOWN), alone, strict=True):
        np.testing.assert_allclose(one.log_probs, two.log_probs, atol=2e-5)


def test_the_image_matters(loaded):
    other = [make_image(5), make_image(6, (64, 40))]
    one, two = (Scorer(loaded).score(EXAMPLES, images, SHOWN) for images in (IMAGES, other))
    assert all(np.abs(a.log_probs - b.log_probs).max() > 1e-4 for a, b in zip(one, two, strict=True))


def test_answer_logits_are_the_model_s_own_and_adapters_learn(loaded):
    batch = Collator(loaded.processor)(EXAMPLES, IMAGES, [shown[1] for shown in SHOWN])
    with torch.no_grad():
        full = loaded.model(**batch.model_inputs).logits[batch.answer_rows, batch.answer_columns]
        torch.testing.assert_close(AnswerModel(loaded.model)(batch).logits, full.float())
    wrapped = AnswerModel(attach_lora(loaded.model, rank=2, alpha=4)).train()
    torch.nn.functional.cross_entropy(wrapped(batch).logits, batch.answer_targets).backward()
    gradients = {name: p.grad for name, p in wrapped.named_parameters() if "lora_B" in name}
    assert len(gradients) >= 14
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())
