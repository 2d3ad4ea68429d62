"""Records at scale: workers that die, memory that runs out, batches of any size, and the same answers."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from test_predict import make_dataset, read_rows
from tiny_records import DrawnImages, make_choices, make_factuality, make_hallucination

from hkdcli.data.datasets import Dataset
from hkdcli.errors import MachineLimitError
from hkdcli.inference.asking import Asking, Judge, Rule, build_rules
from hkdcli.inference.predict import predict
from hkdcli.inference.rounds import build_loader
from hkdcli.inference.scoring import Scorer
from hkdcli.models import families
from hkdcli.models.loading import load_model
from hkdcli.reporter import SilentReporter


@pytest.fixture(scope="module")
def scorer(tiny_llava: Path) -> Scorer:
    return Scorer(load_model(tiny_llava))


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def answer(dataset: Dataset, scorer: Scorer, out: Path, **options: Any) -> list[dict[str, Any]]:
    predict(dataset, Judge(scorer), out=out, **options)
    return read_rows(out)


def test_workers_change_nothing(scorer, tmp_path):
    dataset = make_dataset(9, broken=(4,))
    plain = answer(dataset, scorer, tmp_path / "a", batch_size=2)
    assert answer(dataset, scorer, tmp_path / "b", batch_size=2, workers=2) == plain
    assert len(dataset.images.loaded) == 9  # workers loaded the others


class Fatal(DrawnImages):
    """Images whose worker is killed, or finds no room, when it comes to a certain one."""

    def __init__(self, fail: Callable[[], None]) -> None:
        super().__init__()
        self.home, self.fail = os.getpid(), fail

    def load(self, name: str) -> Any:
        if name == "5.png" and os.getpid() != self.home:
            self.fail()
        return super().load(name)


def kill_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def end_worker() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def run_out_of_files() -> None:
    raise OSError(24, "Too many open files")


@pytest.mark.parametrize("fail", [kill_worker, end_worker, run_out_of_files])
def test_r12_a_worker_that_fails_costs_no_record(scorer, tmp_path, fail):
    dataset = make_dataset(9)
    plain = answer(dataset, scorer, tmp_path / "a", batch_size=2)
    listener = Listener()
    failing = Dataset(dataset.name, dataset.examples, Fatal(fail))
    rows = answer(failing, scorer, tmp_path / "b", batch_size=2, workers=2, reporter=listener)
    assert rows == plain
    (said,) = listener.warnings
    assert "going on without workers" in said and "ulimit -n" in said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_r12_a_worker_that_dies_while_it_hands_a_batch_over_stalls_nothing(
    scorer, tmp_path, monkeypatch, number
):
    """The pipe is full: both workers wait in the middle of a batch, and one of them is killed there."""
    dataset, listener = make_dataset(40), Listener()
    plain = answer(dataset, scorer, tmp_path / "a", batch_size=8)
    loader = build_loader(Judge(scorer), dataset.images, 2, listener)
    loaded = loader.run([dataset.examples[start : start + 8] for start in range(0, 40, 8)])
    ids = [example.id for example in next(loaded).examples]
    wait_until(lambda: all(is_writing(child) for child in multiprocessing.active_children()))
    os.kill(multiprocessing.active_children()[0].pid, number)
    ids += [example.id for batch in loaded for example in batch.examples]
    assert ids == [row["id"] for row in plain]
    assert len(listener.warnings) == 1 and not multiprocessing.active_children()


def is_writing(child: Any) -> bool:
    """Whether a process waits in a write to a pipe, where the system says so; else whether it waits."""
    place = Path(f"/proc/{child.pid}/wchan")
    known = place.exists() and place.read_text().strip("0")
    return psutil.Process(child.pid).status() == "sleeping" and (not known or "pipe_w" in place.read_text())


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refuse_more_than(most: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let memory hold so many records at once; gives the sizes that were tried."""
    tried: list[int] = []
    score = Scorer.score_prepared

    def limited(self, prepared):
        tried.append(len(prepared.examples))
        if len(prepared.examples) > most:
            raise MachineLimitError("no memory")
        return score(self, prepared)

    monkeypatch.setattr(Scorer, "score_prepared", limited)
    return tried


@pytest.mark.parametrize("batch_size", [8, None])
def test_memory_that_runs_out_makes_batches_smaller_and_loses_nothing(
    scorer, tmp_path, monkeypatch, batch_size
):
    dataset = make_dataset(20, broken=(3,))
    plain = answer(dataset, scorer, tmp_path / "a")
    tried = refuse_more_than(2, monkeypatch)
    rows = answer(dataset, scorer, tmp_path / "b", batch_size=batch_size)
    assert [(row["id"], row["prediction"]) for row in rows] == [(r["id"], r["prediction"]) for r in plain]
    assert tried[0] > 2 and max(tried[3:]) <= 4 and max(tried[6:]) == 2


def test_a_record_that_never_fits_fails_alone(scorer, tmp_path, monkeypatch):
    score = Scorer.score_prepared

    def limited(self, prepared):
        if any(example.id == "r3" for example in prepared.examples):
            raise MachineLimitError("no memory")
        return score(self, prepared)

    with monkeypatch.context() as patch:
        patch.setattr(Scorer, "score_prepared", limited)
        rows = answer(make_dataset(6), scorer, tmp_path / "p")
    assert [row["status"] for row in rows] == ["ok"] * 3 + ["error"] + ["ok"] * 2
    assert rows[3]["error"]["code"] == "machine.memory"
    resumed = answer(make_dataset(6), scorer, tmp_path / "p", resume=True)  # with more memory, perhaps
    assert [row["status"] for row in resumed] == ["ok"] * 6
    assert resumed[:3] == rows[:3] and [row["id"] for row in resumed] == [row["id"] for row in rows]


def test_where_nothing_fits_the_run_ends_and_what_is_done_stays(scorer, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        refuse_more_than(0, patch)
        with pytest.raises(MachineLimitError, match="in a row"):
            answer(make_dataset(6), scorer, tmp_path / "p")
    assert len(answer(make_dataset(6), scorer, tmp_path / "p", resume=True)) == 6


def test_auto_grows_and_answers_alike(scorer, tmp_path, monkeypatch):
    tried = refuse_more_than(1000, monkeypatch)
    monkeypatch.setattr("hkdcli.runtime.MemoryGauge.read_share", lambda self: 0.1)
    dataset = make_dataset(60)
    rows = answer(dataset, scorer, tmp_path / "a", batch_size=None)
    assert tried[:3] == [8, 16, 32]
    plain = answer(dataset, scorer, tmp_path / "b", batch_size=5)
    assert [row["prediction"] for row in rows] == [row["prediction"] for row in plain]


def test_a_model_that_cannot_reuse_a_prefix_says_so_once(scorer, tmp_path, monkeypatch):
    monkeypatch.setattr(families, "can_share_prefix", lambda model, length: False)
    monkeypatch.setattr(scorer, "fell_back", False)
    listener = Listener()
    answer(make_dataset(4), scorer, tmp_path / "p", batch_size=2, reporter=listener)
    assert len(listener.warnings) == 1 and "whole pass" in listener.warnings[0]


def test_rows_of_a_beam_are_marked_and_have_every_marginal(scorer, tmp_path):
    many = make_hallucination("many", choices=make_choices("No hallucination", *"abcdefghijklmnopqrstuvwxy"))
    dataset = Dataset("t", (many, make_hallucination("few")), DrawnImages())
    rows = answer(dataset, scorer, tmp_path / "p")
    assert [row["approximate"] for row in rows] == [True, False]
    assert list(rows[0]["marginals"]) == list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert rows[0]["prediction"] and sum(item["p"] for item in rows[0]["posterior"]) == pytest.approx(1)


def test_what_is_not_sure_enough_is_not_said(scorer, tmp_path):
    dataset = make_dataset(8)
    plain = answer(dataset, scorer, tmp_path / "a")
    middle = sorted(row["confidence"] for row in plain)[4]
    judge = Judge(scorer, rules=build_rules(abstain_below=middle))
    summary = predict(dataset, judge, out=tmp_path / "b")
    rows = read_rows(tmp_path / "b")
    assert summary.abstained == 4 and summary.failed == 0
    for before, row in zip(plain, rows, strict=True):
        assert (row["status"] == "abstain") == (row["confidence"] < middle) == (row["prediction"] is None)
        assert row["posterior"] == before["posterior"] and row["confidence"] == before["confidence"]


def test_temperature_flattens_what_is_written_and_keeps_the_answer(scorer, tmp_path):
    dataset = make_dataset(4)
    rules = {"hallucination": Rule(temperature=5.0), "factuality": Rule(temperature=5.0)}
    predict(dataset, Judge(scorer, rules=rules), out=tmp_path / "b")
    for before, row in zip(answer(dataset, scorer, tmp_path / "a"), read_rows(tmp_path / "b"), strict=True):
        assert row["prediction"] == before["prediction"] and row["confidence"] < before["confidence"]
        assert row["run_hash"] != before["run_hash"]


def test_each_shift_is_kept_on_request(scorer, tmp_path):
    predict(make_dataset(2), Judge(scorer, Asking(shifts=None), per_shift=True), out=tmp_path / "p")
    for row in read_rows(tmp_path / "p"):
        assert len(row["orders"]) == 4
        tops = [max(order["posterior"], key=lambda item: item["p"])["answer"] for order in row["orders"]]
        assert row["all_agree"] == (len({json.dumps(top) for top in tops}) == 1)
        assert {tuple(order["letters"]) for order in row["orders"]} == {tuple("ABCD")}
        assert [order["letters"]["A"] for order in row["orders"]] == ["A", "D", "C", "B"]


def test_d16_d17_d20_d21_d22_hostile_texts_get_a_row_each_and_spoil_no_other(tiny_llava, tmp_path):
    """A context too long, special tokens, line separators, half characters and further fields."""
    scorer = Scorer(load_model(tiny_llava), max_length=400)
    hostile = [
        make_factuality("long", context="many words " * 20_000, claim="The claim stays whole."),
        make_hallucination("tokens", caption="<image> <|im_end|> </s> <image>\n[/b] =cmd()"),
        make_factuality("lines", context="one\u2028two\r\nthree\x00\ud83d"),
        make_hallucination("extra", extra={"mine": {"\ud83d": ["\u2028", None, 1.5]}}),
    ]
    plain = make_factuality("plain")
    alone = answer(Dataset("t", (plain,), DrawnImages()), scorer, tmp_path / "a")
    rows = answer(Dataset("t", (*hostile, plain), DrawnImages()), scorer, tmp_path / "b", batch_size=5)
    assert [row["status"] for row in rows] == ["ok"] * 5
    assert [row["truncated"] for row in rows] == [True, False, False, False, False]
    assert rows[3]["extra"] == hostile[3].extra
    assert rows[4]["prediction"] == alone[0]["prediction"]
    (tmp_path / "b").read_bytes().decode("ascii")


def refuse(ids, monkeypatch):
    score = Scorer.score_prepared

    def limited(self, prepared):
        if any(example.id in ids for example in prepared.examples):
            raise MachineLimitError("no memory")
        return score(self, prepared)

    monkeypatch.setattr(Scorer, "score_prepared", limited)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_many_records_that_never_fit_fail_alone_while_others_fit(scorer, tmp_path, monkeypatch, batch_size):
    refuse(bad := {"r0", "r4", "r3", "r7"}, monkeypatch)  # never three in a row, in any order of lengths
    rows = answer(make_dataset(9), scorer, tmp_path / "p", batch_size=batch_size)
    assert {row["id"] for row in rows if row["status"] == "error"} == bad


def test_one_by_one_a_run_ends_where_nothing_fits_too(scorer, tmp_path, monkeypatch):
    refuse_more_than(0, monkeypatch)
    with pytest.raises(MachineLimitError, match="in a row"):
        answer(make_dataset(6), scorer, tmp_path / "p", batch_size=1)
    assert len(read_rows(tmp_path / "p")) == 2


def test_auto_grows_beside_a_model_that_fills_half_of_the_memory(scorer, tmp_path, monkeypatch):
    tried = refuse_more_than(1000, monkeypatch)
    shares = iter([0.5, 0.55, 0.6, *[0.7] * 9])
    monkeypatch.setattr("hkdcli.runtime.MemoryGauge.read_share", lambda self: next(shares))
    answer(make_dataset(80), scorer, tmp_path / "a", batch_size=None)
    assert tried == [8, 16, 32, 24]
