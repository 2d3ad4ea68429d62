"""Every family through the whole of it: batches, training, resume, the written level, exact scoring.

Each family runs twice: with adapters alone, and with its projector trained too; in the second run those that
can show an image as several do so.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny_training
import torch
from tiny_families import FAMILIES, SPLITTING
from tiny_records import make_factuality, make_hallucination, make_image

from hkdcli.data.collate import Collator
from hkdcli.data.datasets import Dataset
from hkdcli.data.prompts import identity_presentation
from hkdcli.distill.levels import publish_level
from hkdcli.distill.objective import OnlineObjective
from hkdcli.distill.order import Draw
from hkdcli.distill.signals import LiveTeachers
from hkdcli.distill.sources import DatasetSource
from hkdcli.distill.trainer import train
from hkdcli.inference.scoring import Scorer
from hkdcli.inference.shift import shifted_presentations
from hkdcli.models import families
from hkdcli.models.adapters import attach_lora
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import load_model
from hkdcli.recipe import Level

SIZES = [(40, 32), (96, 32), (32, 96), (64, 64), (24, 40)]
EXAMPLES = (
    make_hallucination("h0"),
    make_factuality("f0", answer=frozenset("A")),
    make_hallucination("h1", ("red square",)),
    make_factuality("f1"),
    make_hallucination("h2", ("red square", "left of")),
)


class ManySizes:
    """Images of every shape, so that one batch holds different numbers of tiles."""

    def load(self, name):
        index = [example.image for example in EXAMPLES].index(name)
        return make_image(index, SIZES[index])


class Killed(BaseException):
    """As a kill would: nothing is caught, nothing is saved on the way out."""


class DyingSource:
    """Passes a source on until it is asked for the batch numbered `last`."""

    def __init__(self, source, last):
        self.source, self.last, self.size, self.list_ids = source, last, source.size, source.list_ids

    def load(self, draws):
        self.last -= 1
        if not self.last:
            raise Killed
        return self.source.load(draws)


class Case:
    """A student and a teacher of one family; how they are trained."""

    def __init__(self, folder, save, projector):
        self.student, self.teacher = save(folder / "student"), save(folder / "teacher", seed=5)
        self.folder, self.projector = folder, projector

    def build(self):
        torch.manual_seed(1)
        loaded = load_model(self.student)
        model = attach_lora(loaded.model, rank=4, alpha=8, dropout=0.1, train_projector=self.projector)
        return replace(loaded, model=model)

    def train(self, folder, *, dies_at=None, resume=False):
        loaded = self.build()
        collator = Collator(loaded.processor)
        source = DatasetSource(
            Dataset("sizes", EXAMPLES, ManySizes()),
            collator,
        )
        train(
            AnswerModel(loaded.model),
            LiveTeachers([AnswerModel(load_model(self.teacher).model)]),
            OnlineObjective(vocabulary=len(loaded.processor.tokenizer)),
            source if dies_at is None else DyingSource(source, dies_at),
            tiny_training.make_settings(
                max_steps=6, micro_batch_size=3, checkpoint_every=2, learning_rate=1e-2
            ),
            folder,
            resume=resume,
        )
        return loaded, source


CASES = {name: (save, False) for name, save in FAMILIES.items()} | {
    f"{name}, projector": (SPLITTING.get(f"{name}, split", save), True) for name, save in FAMILIES.items()
}


@pytest.fixture(scope="module", params=list(CASES))
def case(request, tmp_path_factory):
    torch.set_num_threads(1)
    return Case(tmp_path_factory.mktemp("case"), *CASES[request.param])


@pytest.fixture(scope="module")
def trained(case):
    return case.train(case.folder / "whole")


def name_trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_it_learns_and_every_trained_weight_has_a_gradient(case, trained):
    loaded, source = trained
    rows = [json.loads(line) for line in (case.folder / "whole/log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"]
    batch = source.load([Draw(0, index) for index in range(len(EXAMPLES))])
    model = AnswerModel(loaded.model)
    loss = torch.nn.functional.cross_entropy(model(batch).logits, batch.answer_targets)
    names = name_trained(loaded.model)
    parameters = dict(loaded.model.named_parameters())
    for name, gradient in zip(names, torch.autograd.grad(loss, [parameters[n] for n in names]), strict=True):
        assert torch.isfinite(gradient).all() and gradient.any(), name
    prefixes = tuple(f"base_model.model.{name}." for name in families.find_connector(loaded.model))
    assert any(name.startswith(prefixes) for name in names) == case.projector
    assert all("lora_" in name or name.startswith(prefixes) for name in names)
    layers = families.get_language_model(loaded.model)[1].config.num_hidden_layers
    assert sum("lora_" in name for name in names) == 2 * 7 * layers


def test_killed_and_resumed_it_ends_with_the_same_weights(case, trained):
    with pytest.raises(Killed):
        case.train(case.folder / "cut", dies_at=2 * 4)
    resumed = case.train(case.folder / "cut", resume=True)[0].model
    expected = trained[0].model.state_dict()
    for name, tensor in resumed.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_the_written_level_answers_as_the_live_student_does(case, trained):
    live, _ = trained
    level = Level(name="base", model=str(case.student))
    publish_level(case.folder / "level", live, level)
    written = load_model(case.folder / "level")
    images = [ManySizes().load(example.image) for example in EXAMPLES]
    shown = [shifted_presentations(example)[:2] for example in EXAMPLES]
    found, expected, fresh = (
        Scorer(model).score(EXAMPLES, images, shown) for model in (written, live, load_model(case.student))
    )
    for one, other, before in zip(found, expected, fresh, strict=True):
        np.testing.assert_array_equal(one.log_probs, other.log_probs)
        assert np.abs(one.log_probs - before.log_probs).max() > 1e-2


@pytest.mark.parametrize("name", [*SPLITTING, "llava-onevision"])
def test_images_of_different_shapes_become_different_numbers_of_tokens(name, tmp_path):
    processor = load_model((SPLITTING | FAMILIES)[name](tmp_path / "model")).processor
    images = [ManySizes().load(example.image) for example in EXAMPLES]
    shown = [[identity_presentation(example)] for example in EXAMPLES]
    ids = Collator(processor).collate_prefixes(EXAMPLES, images, shown).model_inputs["input_ids"]
    counts = (ids == processor.image_token_id).sum(-1)
    assert len(set(counts.tolist())) > 1, counts
