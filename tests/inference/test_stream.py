"""Records that come one after the other: a row for each, at once, in order, once."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_records import DrawnImages, make_choices, make_factuality, make_hallucination

from hkdcli.data.datasets import Dataset
from hkdcli.data.examples import Example
from hkdcli.errors import BadRow, MachineLimitError
from hkdcli.inference.asking import Judge
from hkdcli.inference.predict import answer_examples
from hkdcli.inference.scoring import Scorer
from hkdcli.inference.stream import StreamSummary, answer_stream
from hkdcli.models.loading import load_model
from hkdcli.reporter import SilentReporter

Records = Sequence[Example | BadRow]


@pytest.fixture(scope="module")
def judge(tiny_llava: Path) -> Judge:
    return Judge(Scorer(load_model(tiny_llava)))


class Listener(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class Out(io.BytesIO):
    """Knows how much of it was flushed."""

    flushed = 0

    def flush(self) -> None:
        self.flushed = self.tell()


def answer(judge: Judge, *batches: Records) -> tuple[list[dict[str, Any]], StreamSummary, list[str]]:
    out, listener = Out(), Listener()
    summary = answer_stream(batches, DrawnImages(), judge, out=out, reporter=listener)
    assert out.flushed == len(out.getvalue())
    rows = [json.loads(line) for line in out.getvalue().split(b"\n")[:-1]]
    return rows, summary, listener.warnings


def test_rows_are_those_of_a_file_in_the_order_in_which_records_came(judge: Judge) -> None:
    long = "It stands in a shop. " * 8  # so that sorting by length, as for a file, would show
    records = [make_factuality("f1", context=long), make_hallucination("h1"), make_factuality("f2")]
    rows, summary, warnings = answer(judge, records[:2], records[2:])
    dataset = Dataset("test", tuple(records), DrawnImages())
    expected = answer_examples(dataset, records[:2], judge) + answer_examples(dataset, records[2:], judge)
    assert rows == expected
    assert summary == StreamSummary(3, 0) and warnings == []


def test_each_batch_is_out_before_the_next_is_asked_for(judge: Judge) -> None:
    out, seen = Out(), []

    def come() -> Iterator[Records]:
        for number in range(3):
            seen.append(out.getvalue()[: out.flushed].count(b"\n"))
            yield [make_factuality(f"a{number}"), make_factuality(f"b{number}")]

    answer_stream(come(), DrawnImages(), judge, out=out, reporter=SilentReporter())
    assert seen == [0, 2, 4]


def test_failed_records_have_rows_and_what_has_no_id_is_told(judge: Judge) -> None:
    named = BadRow("record.text", "x", "stdin:2", "holds half a character")
    unnamed = BadRow("data.json", "", "stdin:3:1", "Expecting value")
    rows, summary, warnings = answer(
        judge, [make_factuality("f1", image="broken.png"), named, unnamed, make_factuality("f2")]
    )
    assert [(row["id"], row["status"]) for row in rows] == [("f1", "error"), ("x", "error"), ("f2", "ok")]
    assert [row["error"] and row["error"]["code"] for row in rows] == ["image.truncated", "record.text", None]
    assert summary == StreamSummary(4, 3)
    assert warnings == ["stdin:3:1: data.json: Expecting value; it has no id, and so gets no row"]


@pytest.mark.parametrize("together", [True, False])
def test_of_records_of_one_id_the_first_is_answered_as_itself(judge: Judge, together: bool) -> None:
    """The second may ask something else: its answer must not stand under the first one's choices."""
    first = make_hallucination("h1", ("red square", "left of"))
    second = make_hallucination("h1", ("a", "b", "c", "d"), choices=make_choices("x", "y", "z", "u", "v"))
    batches = (
        [[first, second, make_factuality("f1")]] if together else [[first], [second, make_factuality("f1")]]
    )
    rows, summary, warnings = answer(judge, *batches)
    assert [row["id"] for row in rows] == ["h1", "f1"] and summary == StreamSummary(3, 1)
    assert warnings == ["h1: an earlier record has this id; it gets no second row"]
    (alone,), *_ = answer(judge, [first])
    assert rows[0]["prediction"] == alone["prediction"] and set(rows[0]["marginals"]) == {"A", "B", "C"}


def test_memory_that_runs_out_now_and_then_ends_no_stream(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one record after the other does: a service that lives for weeks has many a large record."""
    score = Scorer.score_prepared
    asked: list[int] = []

    def run_out(self: Scorer, prepared: Any) -> Any:
        asked.append(1)
        if len(asked) % 2:
            raise MachineLimitError("out of memory")
        return score(self, prepared)

    monkeypatch.setattr(Scorer, "score_prepared", run_out)
    rows, summary, _ = answer(judge, *([make_factuality(f"f{number}")] for number in range(8)))
    assert [row["status"] for row in rows] == ["error", "ok"] * 4
    assert rows[0]["error"]["code"] == "machine.memory" and summary == StreamSummary(8, 4)


def test_no_records_are_no_rows(judge: Judge) -> None:
    assert answer(judge) == ([], StreamSummary(0, 0), [])
