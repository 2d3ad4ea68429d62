from __future__ import annotations

from typing import Any

import pytest
from tiny_records import DrawnImages, make_factuality, make_hallucination

from hkdcli.errors import GateError, UsageError
from hkdcli.inference.asking import Judge, Rule
from hkdcli.inference.calibration_file import AskedHow, Fit
from hkdcli.inference.judging import judge_batch, load_batch
from hkdcli.inference.scoring import Scorer
from hkdcli.inference.task_fit import Half, TaskFit
from hkdcli.inferring import InferOptions
from hkdcli.models.loading import load_model
from hkdcli.reporter import SilentReporter
from hkdcli.rules import build_rules


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def make_fit(records: int) -> Fit:
    """A fit of hallucination alone, whose answers were all right."""
    half = Half(confidence=(0.9,) * records, correct=(True,) * records)
    names = [f"{name}_{when}" for name in ("nll", "ece", "exact_match") for when in ("before", "after")]
    figures: dict[str, Any] = dict.fromkeys(names, 0.5)
    task = TaskFit(temperature=2.0, decoding="map", threshold=None, fit_half=half, test_half=half, **figures)
    asking = AskedHow(shifts=1, what="both", move_none=True, combination="log_mean", debias="none")
    return Fit(asking=asking, tasks={"hallucination": task}, letter_prior={}, data="dev", data_hash="h")


def build(
    options: InferOptions, fit: Fit | None, *, all_needed: bool, listener: Listener | None = None
) -> Any:
    tasks = ("factuality", "hallucination")
    return build_rules(tasks, fit, options, listener or Listener(), all_needed=all_needed)


def test_without_a_fit_answers_are_the_most_probable_ones() -> None:
    assert build(InferOptions(), None, all_needed=True) == dict.fromkeys(
        ("factuality", "hallucination"), Rule()
    )


def test_a_fit_calibrates_its_task_alone() -> None:
    rules = build(InferOptions(), make_fit(100), all_needed=True)
    assert (rules["hallucination"].temperature, rules["factuality"].temperature) == (2.0, 1.0)


def test_what_cannot_be_kept_for_a_task_is_refused_where_the_task_is_needed() -> None:
    with pytest.raises(UsageError, match="factuality are not calibrated"):
        build(InferOptions(target_precision=0.9), make_fit(100), all_needed=True)


def test_and_else_costs_that_task_alone() -> None:
    listener = Listener()
    rules = build(InferOptions(target_precision=0.9), make_fit(100), all_needed=False, listener=listener)
    assert set(rules) == {"hallucination"} and rules["hallucination"].abstain_below is not None
    assert len(listener.warnings) == 1 and "factuality" in listener.warnings[0]


def test_where_no_task_is_left_it_is_refused_all_the_same() -> None:
    with pytest.raises((UsageError, GateError)):
        build(InferOptions(target_precision=0.9), make_fit(10), all_needed=False)


def test_a_record_of_a_task_without_a_rule_fails_alone(tiny_llava: Any) -> None:
    judge = Judge(Scorer(load_model(tiny_llava)), rules={"hallucination": Rule()})
    records = [make_hallucination("h"), make_factuality("f"), make_hallucination("g")]
    said = judge_batch(judge, load_batch(judge, DrawnImages(), records))
    assert [getattr(one, "code", "") for one in said] == ["", "task.no_rule", ""]
