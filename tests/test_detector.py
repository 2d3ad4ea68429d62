"""The Python API: its names, what it asks, what it gives back, and what one bad request costs the others."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image
from tiny_records import make_image

import hkdcli
from hkdcli import (
    CaptionRequest,
    ClaimRequest,
    DataError,
    Detector,
    ImageError,
    ImagePolicy,
    UsageError,
    propose_phrases,
)
from hkdcli.data.datasets import Dataset
from hkdcli.data.records import Example
from hkdcli.errors import MachineLimitError, SetupError
from hkdcli.inference.evidence import Evidence
from hkdcli.inferring import InferOptions
from hkdcli.runtime import DeviceName
from hkdcli.scenes.records import build_record
from hkdcli.scenes.world import render_scene
from hkdcli.verdicts import VERDICTS, CaptionVerdict, ClaimVerdict, PhraseVerdict, build_caption_example
from hkdcli.verdicts import build_claim_example as build_claim

PICTURE = make_image().image
PHRASES = ("cat", "red mat", "dog")


class FakeJudge:
    """Answers with given marginals, and remembers what it was asked; a red corner makes it surer."""

    def __init__(self, *marginals: float, status: str = "ok", **more: Any) -> None:
        self.marginals, self.status, self.more = marginals, status, more
        self.asked: list[list[Example]] = []
        self.busy = False

    def __call__(self, dataset: Dataset, examples: Sequence[Example]) -> list[dict[str, Any]]:
        assert not self.busy, "two threads at once"
        self.busy = True
        self.asked.append(list(examples))
        rows = [self.answer(dataset, example) for example in examples]
        self.busy = False
        return rows

    def answer(self, dataset: Dataset, example: Example) -> dict[str, Any]:
        row = {"id": example.id, "error": None, "confidence": 0.7, "flip_rate": 0.25, "truncated": True}
        try:
            image = dataset.images.load(example.image).image
        except ImageError as error:
            shown = {"code": error.row.code, "detail": error.row.detail, "hint": error.row.hint}
            return {**row, "status": "error", "error": shown, "prediction": None, "marginals": None}
        if example.caption == "refuse me":
            shown = {"code": "record.too_long", "detail": "d", "hint": "h"}
            return {**row, "status": "error", "error": shown, "prediction": None, "marginals": None}
        is_red = image.getpixel((0, 0)) == (255, 0, 0)
        marginals = [min(1.0, m + 0.05) if is_red else m for m in self.marginals]
        ids = [choice.id for choice in example.choices]
        held = dict(zip(ids, [*marginals, *[0.0] * len(ids)], strict=False))
        top = [choice_id for choice_id in ids if held[choice_id] > 0.5]
        prediction = None if self.status == "abstain" else top
        return {**row, "status": self.status, "prediction": prediction, "marginals": held, **self.more}


# Names


def test_the_public_names_are_these():
    assert sorted(hkdcli.__all__) == [
        *("CaptionRequest", "CaptionVerdict", "ClaimRequest", "ClaimVerdict", "DataError", "Detector"),
        *("Evidence", "HkdError", "ImageError", "ImageInput", "ImagePolicy", "ModelError", "PhraseVerdict"),
        *("RefusedError", "UsageError", "__version__", "propose_phrases"),
    ]
    assert set(hkdcli.__all__) <= set(dir(hkdcli))
    assert all(getattr(hkdcli, name) is not None for name in hkdcli.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Detektor'"):
        hkdcli.Detektor  # noqa: B018


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import hkdcli", {"torch", "transformers", "numpy", "PIL", "pydantic", "hkdcli.detector"}),
        ("from hkdcli import *", {"torch", "transformers", "scipy"}),
    ],
)
def test_importing_loads_nothing_heavy(code, absent):
    show = f"{code}; import sys; print(*(m for m in {absent!r} if m in sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", show], text=True).split() == []


# What is asked


def test_a_caption_is_asked_about_in_the_words_of_the_challenge():
    expected = build_record("train", 0, task="hallucination").example
    phrases = [choice.text for choice in expected.choices if choice.id != expected.none_id]
    request = CaptionRequest(PICTURE, expected.caption, phrases, expected.caption_question)
    example = build_caption_example("0", request)
    assert (example.task, example.question) == ("hallucination", expected.question)
    assert (example.caption, example.caption_question) == (expected.caption, expected.caption_question)
    assert [choice.text for choice in example.choices] == ["No hallucination", *phrases]
    assert [choice.id for choice in example.choices] == list("ABCDE"[: len(phrases) + 1])
    assert example.none_id == "A"


def test_a_claim_is_asked_about_in_the_words_of_the_challenge():
    expected = build_record("train", 0, task="factuality").example
    example = build_claim("0", ClaimRequest(PICTURE, expected.claim, expected.context))
    for name in ("task", "claim", "context", "question", "choices"):
        assert getattr(example, name) == getattr(expected, name)


@pytest.mark.parametrize(
    ("caption", "phrases"),
    [
        ("A cat on a red mat.", propose_phrases("A cat on a red mat.")),
        ("It is!", ("It is!",)),
        ("\U0001f600", ("\U0001f600",)),
        (", ".join(f"a thing{i}x" for i in range(99)), tuple(f"thing{i}x" for i in range(25))),
    ],
)
def test_phrases_are_proposed_where_none_are_given(caption, phrases):
    verdict = Detector(FakeJudge(0.5)).check_caption(PICTURE, caption)
    assert tuple(phrase.text for phrase in verdict.phrases) == phrases


# What comes back


def test_a_caption_verdict_has_each_phrase_in_order():
    detector = Detector(FakeJudge(0.2, 0.1, 0.6, 0.55, approximate=True))
    verdict = detector.check_caption(PICTURE, "A cat on a red mat, a dog.", PHRASES, question="What?")
    assert verdict == CaptionVerdict(
        "A cat on a red mat, a dog.",
        "What?",
        (
            PhraseVerdict("cat", 0.1, False),
            PhraseVerdict("red mat", 0.6, True),
            PhraseVerdict("dog", 0.55, True),
        ),
        clean=0.2,
        confidence=0.7,
        flip_rate=0.25,
        approximate=True,
    )
    assert verdict.hallucinated == ("red mat", "dog")
    document = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert document["hallucinated"] == ["red mat", "dog"]
    assert document["phrases"][0] == {"text": "cat", "probability": 0.1, "hallucinated": False}
    assert set(document) == {
        *("caption", "question", "phrases", "clean", "confidence", "flip_rate", "approximate", "abstained"),
        "hallucinated",
    }


def test_a_clean_caption_has_no_hallucinated_phrase():
    verdict = Detector(FakeJudge(0.9, 0.1)).check_caption(PICTURE, "A cat.", ["cat"])
    assert (verdict.hallucinated, verdict.clean) == ((), 0.9)


def test_a_claim_verdict_has_each_label():
    verdict = Detector(FakeJudge(0.1, 0.1, 0.7, 0.1)).check_claim(PICTURE, "It is red.", "A shop.")
    assert verdict == ClaimVerdict(
        "It is red.",
        "A shop.",
        "Partially True",
        dict(zip(VERDICTS, (0.1, 0.1, 0.7, 0.1), strict=True)),
        confidence=0.7,
        flip_rate=0.25,
        truncated=True,
    )
    document = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert (document["label"], document["abstained"]) == ("Partially True", False)
    assert list(document["probabilities"]) == list(VERDICTS)


def test_a_detector_may_abstain():
    detector = Detector(FakeJudge(0.3, 0.6, 0.1, 0.0, status="abstain"))
    caption = detector.check_caption(PICTURE, "A cat.", ["cat"])
    assert (caption.abstained, caption.hallucinated, caption.phrases[0].probability) == (True, (), 0.6)
    claim = detector.check_claim(PICTURE, "It is red.")
    assert (claim.abstained, claim.label, claim.probabilities["False"]) == (True, None, 0.6)
    assert detector.explain(PICTURE, claim, grid=1).verdict == "the claim is False"
    found = detector.explain(PICTURE, caption, grid=1)
    assert (found.verdict, found.probability) == ("'cat' is hallucinated", 0.6)


# Many at once

BAD = {
    "image.missing": CaptionRequest("no-such.png", "A cat."),
    "image.type": CaptionRequest(None, "A cat."),  # type: ignore[arg-type]
    "image.not_an_image": CaptionRequest(b"<html>", "A cat."),
    "record.empty_field": CaptionRequest(PICTURE, " "),
    "record.text": CaptionRequest(PICTURE, "A \ud83d cat."),
    "record.wrong_type": CaptionRequest(PICTURE, 7),  # type: ignore[arg-type]
    "record.choice_count": CaptionRequest(PICTURE, "A cat.", [f"p{i}" for i in range(26)]),
    "record.duplicate_choice": CaptionRequest(PICTURE, "A cat.", ["no hallucination."]),
    "record.too_long": CaptionRequest(PICTURE, "refuse me", ["me"]),
}


def read_code(error: Exception) -> str:
    return error.row.code if isinstance(error, ImageError) else error.rows[0].code


@pytest.mark.parametrize("code", BAD)
def test_a_bad_request_fails_alone_and_says_why(code):
    good = CaptionRequest(PICTURE, "A cat.", ["cat"])
    results = Detector(FakeJudge(0.2, 0.9), batch_size=2).check_captions([good, BAD[code], good])
    assert results[0] == results[2]
    assert results[0].hallucinated == ("cat",)
    assert isinstance(results[1], ImageError if code.startswith("image.") else DataError)
    assert read_code(results[1]) == code


@pytest.mark.parametrize("code", BAD)
def test_a_bad_request_alone_raises(code):
    request = BAD[code]
    with pytest.raises((ImageError, DataError)) as refused:
        Detector(FakeJudge(0.2, 0.9)).check_caption(request.image, request.caption, request.phrases)
    assert read_code(refused.value) == code


@pytest.mark.parametrize(
    "bad",
    [None, 7, "A cat.", ClaimRequest(PICTURE, "It is red."), CaptionRequest],
    ids=["none", "number", "text", "claim", "class"],
)
def test_what_is_no_request_fails_alone(bad):
    good, judge = CaptionRequest(PICTURE, "A cat.", ["cat"]), FakeJudge(0.2, 0.9)
    first, refused, last = Detector(judge).check_captions([good, bad, good])
    assert first == last
    assert first.hallucinated == ("cat",)
    assert isinstance(refused, DataError)
    assert read_code(refused) == "request.wrong_type"
    assert (refused.rows[0].id, refused.rows[0].hint) == ("1", "give a CaptionRequest")
    assert [len(batch) for batch in judge.asked] == [2]
    claims = Detector(FakeJudge(0.9)).check_claims([good, ClaimRequest(PICTURE, "It is red.")])
    assert read_code(claims[0]) == "request.wrong_type"
    assert claims[1].label == "True"


def test_requests_may_come_from_a_generator():
    claims = [f"claim {i}" for i in range(5)]
    results = Detector(FakeJudge(0.9), batch_size=2).check_claims(ClaimRequest(PICTURE, c) for c in claims)
    assert [result.claim for result in results] == claims
    captions = Detector(FakeJudge(0.2, 0.9)).check_captions(
        iter([CaptionRequest(PICTURE, "A cat.", ["cat"])])
    )
    assert [caption.hallucinated for caption in captions] == [("cat",)]


@pytest.mark.parametrize("phrases", ["cat, mat", 7, [], ["cat", ""], ["cat", None]])
def test_phrases_that_are_none_are_refused(phrases):
    with pytest.raises(DataError):
        Detector(FakeJudge(0.5)).check_caption(PICTURE, "A cat.", phrases)


def test_an_image_error_names_the_file(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ImageError, match=r"cut\.jpg"):
        Detector(FakeJudge(0.5)).check_claim(tmp_path / "cut.jpg", "It is red.")


def test_requests_are_answered_in_order_a_batch_at_a_time():
    judge = FakeJudge(0.9)
    claims = [f"claim {i}" for i in range(7)]
    requests = [ClaimRequest(PICTURE, claim) for claim in claims]
    results = Detector(judge, batch_size=3).check_claims(
        [*requests[:2], ClaimRequest(b"", " "), *requests[2:]]
    )
    assert [getattr(r, "claim", None) for r in results] == [*claims[:2], None, *claims[2:]]
    assert [len(batch) for batch in judge.asked] == [3, 3, 1]
    assert Detector(judge).check_captions([]) == []


def test_what_fails_for_all_is_raised():
    def run_out(dataset: Dataset, examples: Sequence[Example]) -> list[dict[str, Any]]:
        raise MachineLimitError("memory ran out")

    with pytest.raises(MachineLimitError):
        Detector(run_out).check_claims([ClaimRequest(PICTURE, "It is red.")])


def test_threads_wait_for_each_other():
    judge = FakeJudge(0.2, 0.9)
    inner = judge.answer

    def slow(dataset: Dataset, example: Example) -> dict[str, Any]:
        time.sleep(0.005)
        return inner(dataset, example)

    judge.answer = slow  # type: ignore[method-assign]
    detector, results = Detector(judge), []
    threads = [
        threading.Thread(target=lambda: results.append(detector.check_caption(PICTURE, "A cat.", ["cat"])))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6
    assert len(set(results)) == 1


# Evidence


def test_evidence_is_where_the_judge_looks():
    picture = Image.new("RGB", (70, 70), (0, 90, 0))
    picture.paste((255, 0, 0), (0, 0, 5, 5))
    detector = Detector(FakeJudge(0.3, 0.1, 0.6), batch_size=4)
    verdict = detector.check_caption(picture, "A cat, a dog.", ["cat", "dog"])
    expected = np.zeros((7, 7))
    expected[0, 0] = 0.05
    found = detector.explain(picture, verdict)
    assert isinstance(found, Evidence)
    assert found.verdict == "'dog' is hallucinated"
    assert found.probability == verdict.phrases[1].probability == pytest.approx(0.65)
    np.testing.assert_allclose(found.values, expected, atol=1e-9)
    assert found.render().size == found.image.size == picture.size
    other = detector.explain(picture, verdict, phrase="cat", grid=7)
    assert (other.verdict, other.probability) == ("'cat' is not hallucinated", pytest.approx(0.85))
    np.testing.assert_allclose(other.values, -expected, atol=1e-9)


def test_evidence_for_what_the_verdict_does_not_say_is_refused():
    detector = Detector(FakeJudge(0.3, 0.6, 0.1))
    with pytest.raises(UsageError, match="no phrase 'dog'"):
        detector.explain(PICTURE, detector.check_caption(PICTURE, "A cat.", ["cat"]), phrase="dog")
    with pytest.raises(UsageError, match="as a whole"):
        detector.explain(PICTURE, detector.check_claim(PICTURE, "It is red."), phrase="dog")
    with pytest.raises(UsageError, match="0 x 0"):
        detector.explain(PICTURE, detector.check_claim(PICTURE, "It is red."), grid=0)
    with pytest.raises(UsageError, match=r"2\.5 x 2\.5"):
        detector.explain(PICTURE, detector.check_claim(PICTURE, "It is red."), grid=2.5)
    for verdict in (None, "hallucinated", DataError("refused"), PhraseVerdict("cat", 0.5, True)):
        with pytest.raises(UsageError, match="is no verdict") as refused:
            detector.explain(PICTURE, verdict)
        assert "check_caption" in refused.value.hint


# With models


@pytest.fixture(scope="module")
def detector(tiny_llava: Path) -> Detector:
    return Detector.load(tiny_llava, device="cpu")


def encode(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_file_gets_one_verdict_as_path_bytes_opened_and_pixels(detector, tmp_path):
    PICTURE.save(tmp_path / "cat.png")
    with Image.open(tmp_path / "cat.png") as opened:
        forms = [
            tmp_path / "cat.png",
            str(tmp_path / "cat.png"),
            encode(PICTURE),
            opened,
            np.asarray(PICTURE),
        ]
        verdicts = [detector.check_caption(form, "A cat on a red mat.", PHRASES) for form in forms]
    assert len(set(verdicts)) == 1
    other = detector.check_caption(make_image(5).image, "A cat on a red mat.", PHRASES)
    assert other.clean != verdicts[0].clean


def test_verdicts_are_the_rows_that_hkd_infer_writes(detector, tiny_llava, tmp_path):
    from hkdcli.inference.asking import Judge
    from hkdcli.inference.predict import predict
    from hkdcli.inference.scoring import Scorer
    from hkdcli.models.loading import load_model

    class OnePicture:
        def load(self, name: str) -> Any:
            return make_image()

    requests = [CaptionRequest(PICTURE, "A cat, a dog.", PHRASES[:n]) for n in (1, 3)]
    examples = tuple(build_caption_example(str(i), request) for i, request in enumerate(requests))
    dataset = Dataset("t", examples, OnePicture())
    predict(dataset, Judge(Scorer(load_model(tiny_llava))), out=tmp_path / "p", batch_size=2)
    rows = [json.loads(line) for line in (tmp_path / "p").read_text().splitlines()]
    for example, row, verdict in zip(examples, rows, detector.check_captions(requests), strict=True):
        texts = {choice.id: choice.text for choice in example.choices}
        assert {texts[i] for i in row["prediction"]} - {"No hallucination"} == set(verdict.hallucinated)
        assert [row["marginals"][i] for i in texts] == pytest.approx(
            [verdict.clean, *(phrase.probability for phrase in verdict.phrases)], abs=1e-6
        )
        assert verdict.clean + 1e-6 >= 1 - sum(phrase.probability for phrase in verdict.phrases)


def test_many_together_get_what_each_gets_alone(detector):
    requests = [ClaimRequest(make_image(i).image, f"It is {'red ' * i}.", "A shop. " * i) for i in range(5)]
    together = detector.check_claims(requests)
    for request, verdict in zip(requests, together, strict=True):
        alone = detector.check_claim(request.image, request.claim, request.context)
        assert alone.label == verdict.label
        assert alone.probabilities == pytest.approx(verdict.probabilities, abs=1e-5)
        assert sum(alone.probabilities.values()) == pytest.approx(1, abs=1e-6)


def test_shift_asks_in_every_order(tiny_llava, detector):
    shifted = Detector.load(str(tiny_llava), shift=True, device="cpu")
    caption = "A cat on a red mat."
    assert shifted.check_caption(PICTURE, caption).clean != detector.check_caption(PICTURE, caption).clean
    assert detector.check_caption(PICTURE, caption).flip_rate == 0


def test_25_phrases_are_one_question_answered_approximately(detector):
    phrases = [f"thing {i}" for i in range(25)]
    verdict = detector.check_caption(PICTURE, "Things.", phrases)
    assert verdict.approximate
    assert [phrase.text for phrase in verdict.phrases] == phrases
    assert not detector.check_caption(PICTURE, "Things.", phrases[:5]).approximate


COUNTS = (0, -1, 2.0, 1.5, float("nan"), True, False, "2")
MISTAKES = [
    *({"shifts": value} for value in COUNTS),
    *({"batch_size": value} for value in (*COUNTS, None)),
    *({"abstain_below": value} for value in (-0.1, 1.01, float("nan"), float("inf"), True, False, "0.5")),
    *({"device": value} for value in ("gpu", "cuda:0", "", None, 0)),
    *({"policy": value} for value in ({}, "default", ImagePolicy)),
    {"shift": True, "shifts": 2},
]


@pytest.mark.parametrize("options", MISTAKES, ids=str)
def test_options_that_cannot_be_meant_are_refused_before_anything_is_loaded(monkeypatch, options):
    monkeypatch.setattr("hkdcli.detector.find_model", lambda *asked: pytest.fail("asked for the model"))
    with pytest.raises(UsageError, match=next(reversed(options))) as refused:
        Detector.load("no/such/model", **options)
    assert refused.value.hint
    how = {name: options[name] for name in ("shifts", "abstain_below") if name in options}
    rest = {name: value for name, value in options.items() if name in ("batch_size", "device", "policy")}
    if "shift" not in options:
        with pytest.raises(UsageError, match=next(iter(options))):
            Detector.open("no/such/model", InferOptions(**how), **rest)


@pytest.mark.parametrize(
    "options",
    [
        *({"abstain_below": value} for value in (0, 1, 0.5, np.float32(0.5), None)),
        *({"shifts": value, "batch_size": value} for value in (1, 3, np.int64(2))),
        *({"shifts": None, "device": device, "policy": ImagePolicy()} for device in get_args(DeviceName)),
    ],
    ids=str,
)
def test_options_that_can_be_meant_come_as_far_as_the_model(monkeypatch, options):
    def look(*asked: Any) -> None:
        raise LookupError("asked for the model")

    monkeypatch.setattr("hkdcli.detector.find_model", look)
    with pytest.raises(LookupError, match="asked for the model"):
        Detector.load("no/such/model", **options)


def test_a_level_of_a_model_without_levels_is_refused(tiny_llava):
    with pytest.raises(UsageError):
        Detector.load(tiny_llava, level="base")


def test_r21_a_gpu_that_is_not_there_is_refused(tiny_llava, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SetupError, match="no usable GPU"):
        Detector.load(tiny_llava, device="cuda")


def test_on_scenes_the_evidence_is_the_cell_that_the_phrase_is_about():
    judge = Detector.load("scenes:large-tuned", device="cpu")
    for index in range(8):
        scene = build_record("test", index).scene
        thing, other = scene.things[:2]
        phrases = [f"{thing.colour} {thing.shape}", f"large {other.colour} shape"]
        picture = render_scene(scene)
        verdict = judge.check_caption(
            picture, ", ".join(phrases) + ".", phrases, question="What is in the picture?"
        )
        assert phrases[0] not in verdict.hallucinated
        values = judge.explain(picture, verdict, phrase=phrases[0], grid=3).values
        assert np.unravel_index(values.argmax(), values.shape) == thing.cell
        assert values.max() > 0.5
