"""A model asked about labelled records and calibrated on them: what is left out, and what is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_records import DrawnImages, make_choices, make_factuality, make_hallucination

from hkdcli.data.datasets import Dataset
from hkdcli.errors import DataError, UsageError
from hkdcli.inference.asking import Asking
from hkdcli.inference.calibrating import fit_judge
from hkdcli.inference.calibration_file import read_calibration
from hkdcli.inference.scoring import Scorer
from hkdcli.inferring import InferOptions, build_judge
from hkdcli.inferring import store_calibration as calibrate
from hkdcli.models.loading import load_model
from hkdcli.opening import ModelSource
from hkdcli.reporter import SilentReporter
from hkdcli.tables import tabulate_fit


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def scorer(tiny_llava: Path) -> Scorer:
    return Scorer(load_model(tiny_llava))


def make_dataset(*examples):
    return Dataset("dev", tuple(examples), DrawnImages())


CLAIMS = [make_factuality(f"f{i}") for i in range(12)]


@pytest.mark.parametrize("answer", [frozenset({"B"}), None])
def test_a_task_with_too_few_labels_stays_uncalibrated_and_costs_the_other_nothing(scorer, answer):
    captions, listener = [make_hallucination(f"h{i}", answer=answer) for i in range(3)], Listener()
    fit = fit_judge(make_dataset(*CLAIMS, *captions), scorer, Asking(), reporter=listener)
    assert set(fit.tasks) == {"factuality"}
    assert len(listener.warnings) == (answer is not None)
    with pytest.raises(DataError, match="no task has 10"):
        fit_judge(make_dataset(*captions[:2], *CLAIMS[:2]), scorer, Asking(), reporter=listener)


def test_a_labelled_record_without_a_letter_prior_for_it_is_left_out(scorer):
    odd = [
        make_factuality(f"odd{i}", choices=make_choices("True", "False", "Partially True")) for i in range(3)
    ]
    for one in odd:
        fit = fit_judge(make_dataset(*CLAIMS, one), scorer, Asking(debias="prior"), reporter=Listener())
        half = fit.tasks["factuality"]
        assert len(half.fit_half.correct) + len(half.test_half.correct) == 12 + (
            3 in fit.letter_prior["factuality"]
        )


def test_what_is_no_calibration_is_not_lost(tiny_llava, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes")
    with pytest.raises(UsageError, match="would be lost"):
        calibrate(str(tiny_llava), make_dataset(*CLAIMS), InferOptions(calibration=path), Listener())
    assert path.read_text() == "my notes"


@pytest.mark.parametrize(
    "damage", [lambda text: text[:400], lambda text: text.replace('_hash": "', '_hash": "0')]
)
def test_a_damaged_or_foreign_calibration_is_replaced_as_its_hint_says(tiny_llava, tmp_path, damage):
    path, options = tmp_path / "c.json", InferOptions(calibration=tmp_path / "c.json")
    calibrate(str(tiny_llava), make_dataset(*CLAIMS), options, Listener())
    path.write_text(damage(path.read_text()))
    listener = Listener()
    calibrate(str(tiny_llava), make_dataset(*CLAIMS), options, listener)
    assert len(read_calibration(path).fits) == 1
    assert [text for text in listener.warnings if "replaced" in text]


@pytest.mark.parametrize("decoding", ["threshold", "expected-f1"])
def test_a_way_of_decoding_sets_leaves_single_answers_as_they_are(scorer, tmp_path, tiny_llava, decoding):
    captions = [make_hallucination(f"h{i}") for i in range(12)]
    options = InferOptions(calibration=tmp_path / "c.json", decoding=decoding)
    calibrate(str(tiny_llava), make_dataset(*CLAIMS, *captions), options, Listener())
    judge = build_judge(
        ModelSource(str(tiny_llava)), scorer, options, ("hallucination", "factuality"), Listener()
    )
    assert (judge.rules["hallucination"].decoding, judge.rules["factuality"].decoding) == (decoding, "map")
    with pytest.raises(UsageError, match="no threshold was fitted for hallucination"):
        plain = InferOptions(is_calibrated=False, decoding="threshold")
        build_judge(ModelSource(str(tiny_llava)), scorer, plain, ("hallucination",), Listener())


@pytest.mark.parametrize("answer", [frozenset({"C"}), None])
def test_what_was_fitted_is_shown_whatever_was(scorer, answer):
    claims = [make_factuality(f"f{i}", answer=answer) for i in range(12)]
    fit = fit_judge(make_dataset(*claims), scorer, Asking(debias="prior"), reporter=Listener())
    tables = tabulate_fit(fit)
    assert [table.title for table in tables] == [*(["Calibration"] if answer else []), "Letter prior"]
    assert all(len(row) == len(table.header) for table in tables for row in table.rows)
