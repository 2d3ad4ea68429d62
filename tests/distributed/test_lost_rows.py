"""R16 in one process: what a batch is worth whose images could not all be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rank_program import build_source, make_dataset

from hkdcli.data.batches import Batch
from hkdcli.data.images import ImageError, LoadedImage
from hkdcli.distill.objective import OnlineObjective
from hkdcli.distill.order import Draw
from hkdcli.distill.sources import DatasetSource
from hkdcli.errors import BadRow, DataError
from hkdcli.models.answers import AnswerModel
from hkdcli.models.loading import LoadedModel, load_model

ALL = [Draw(0, index) for index in range(4)]


class Without:
    """The images of the tiny records, but for some."""

    def __init__(self, *names: str) -> None:
        self.names, self.images = names, make_dataset().images

    def load(self, name: str) -> LoadedImage:
        if name in self.names:
            raise ImageError(BadRow("image.truncated", "", name, "cut off"))
        return self.images.load(name)


@pytest.fixture(scope="module")
def student(tiny_llava: Path) -> LoadedModel:
    torch.set_num_threads(1)
    return load_model(tiny_llava, trainable=True)


def compute_gradients(student: LoadedModel, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss with the student as its own teacher in disguise: labels, choices and tokens all count."""
    model = AnswerModel(student.model).eval()
    model.zero_grad()
    answer = model(batch)
    teacher = type(answer)(answer.logits.detach().flip(-1))
    objective = OnlineObjective(vocabulary=len(student.processor.tokenizer))
    loss = objective(answer, [teacher], batch, 0.5).combine({"token": 5, "example": 3})
    loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return loss.item(), grads


def test_r16_a_lost_row_changes_neither_loss_nor_gradient_of_the_others(student: LoadedModel) -> None:
    found = build_source(student.processor, Without("h1.png")).load(ALL)
    expected = build_source(student.processor).load([draw for draw in ALL if draw.index != 1])
    assert found.lost == (BadRow("image.truncated", "h1", "h1.png", "cut off"),)
    assert len(found.ids) == 4 and len(found.first) == len(found.letter_ids) == 3
    loss, gradients = compute_gradients(student, found)
    other, others = compute_gradients(student, expected)
    assert loss == pytest.approx(other, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, others[name], rtol=1e-3, atol=1e-5)


def test_r16_a_batch_without_a_readable_image_still_has_a_gradient_of_zero(student: LoadedModel) -> None:
    batch = build_source(student.processor, Without("h0.png", "h1.png")).load(ALL[:2])
    loss, gradients = compute_gradients(student, batch)
    assert loss == 0 and gradients
    assert all(not gradient.any() for gradient in gradients.values())


def test_r16_the_stand_in_has_the_size_of_its_neighbours(student: LoadedModel) -> None:
    """So that it costs what a picture costs, and no processor meets a size that it never met."""
    source = build_source(student.processor, Without("h1.png"))
    seen: list[tuple[int, int]] = []
    collate = source.collator

    def watch(examples: object, images: list[LoadedImage], *more: object, **options: object) -> Batch:
        seen.extend(each.image.size for each in images)
        return collate(examples, images, *more, **options)  # type: ignore[arg-type]

    DatasetSource(source.dataset, watch, "skip").load(ALL)  # type: ignore[arg-type]
    assert seen[1] == seen[0] != (336, 336)


def test_r16_where_bad_records_are_errors_so_is_an_image_lost_on_the_way(student: LoadedModel) -> None:
    source = build_source(student.processor, Without("h1.png"))
    strict = DatasetSource(source.dataset, source.collator)
    with pytest.raises(DataError, match="h1") as caught:
        strict.load(ALL)
    assert [row.id for row in caught.value.rows] == ["h1"]
