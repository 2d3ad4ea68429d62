"""`--blind`: the same model and the same questions, with nothing to see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tiny_records import DrawnImages, make_factuality, make_hallucination

from hkdcli.data.datasets import Dataset
from hkdcli.data.images import LoadedImage, compute_pixel_hash
from hkdcli.errors import UsageError
from hkdcli.inference.asking import Asking, Judge
from hkdcli.inference.judging import load_batch
from hkdcli.inference.predict import predict
from hkdcli.inference.scoring import Scorer
from hkdcli.models.loading import load_model


class Mirrored:
    """The same images, each upside down."""

    def load(self, name: str) -> LoadedImage:
        image = DrawnImages().load(name).image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        return LoadedImage(image, compute_pixel_hash(image))


@pytest.fixture(scope="module")
def scorer(tiny_llava: Path) -> Scorer:
    return Scorer(load_model(tiny_llava))


def make_dataset() -> Dataset:
    makers = (make_hallucination, make_factuality)
    examples = [makers[place % 2](f"r{place}", image=f"{place}.png") for place in range(4)]
    broken = make_factuality("bad", image="broken.png")
    return Dataset("test", (*examples, broken), DrawnImages())


def answer(dataset: Dataset, judge: Judge, out: Path) -> list[dict]:
    predict(dataset, judge, out=out)
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_a_blind_model_sees_no_image_and_a_seeing_one_does(scorer, tmp_path):
    dataset = make_dataset()
    turned = replace(dataset, images=Mirrored())
    posteriors = {}
    for name, data in (("as it is", dataset), ("turned", turned)):
        for blind in (False, True):
            judge = Judge(scorer, Asking(shifts=None), blind=blind)
            rows = answer(replace(data, examples=data.examples[:4]), judge, tmp_path / f"{name}-{blind}")
            assert [row["blind"] for row in rows] == [blind] * 4
            posteriors[name, blind] = [row["posterior"] for row in rows]
    assert posteriors["as it is", True] == posteriors["turned", True]
    assert posteriors["as it is", False] != posteriors["turned", False]
    assert posteriors["as it is", True] != posteriors["as it is", False]


def test_what_fails_with_images_fails_without_them(scorer, tmp_path):
    for blind in (False, True):
        rows = answer(make_dataset(), Judge(scorer, blind=blind), tmp_path / str(blind))
        assert [row["status"] for row in rows] == ["ok"] * 4 + ["error"]


def test_blind_rows_and_others_are_never_of_one_file(scorer, tmp_path):
    dataset = make_dataset()
    predict(dataset, Judge(scorer, blind=True), out=tmp_path / "p")
    with pytest.raises(UsageError):
        predict(dataset, Judge(scorer), out=tmp_path / "p", resume=True)


def test_a_blank_image_has_the_size_of_the_real_one(scorer):
    dataset = make_dataset()

    class Noted:
        def load(self, name):
            real = dataset.images.load(name).image.resize((40, 30))
            return LoadedImage(real, compute_pixel_hash(real), ("image.16bit",))

    loaded = load_batch(Judge(scorer, blind=True), Noted(), dataset.examples[:1])
    (blank,) = loaded.images
    assert blank.image.size == (40, 30) and blank.image.getcolors() == [(1200, (128, 128, 128))]
    assert blank.pixel_hash == compute_pixel_hash(blank.image) and blank.notes == ("image.16bit",)
