"""Records that come one after the other: a row each, in order, whatever comes twice or does not fit."""

from __future__ import annotations

import io
import json

import pytest
from tiny_records import DrawnImages, make_factuality, make_hallucination

from hkdcli.errors import BadRow, MachineLimitError
from hkdcli.inference.asking import Judge
from hkdcli.inference.scoring import Scorer
from hkdcli.inference.stream import answer_stream
from hkdcli.models.loading import load_model
from hkdcli.reporter import SilentReporter


@pytest.fixture(scope="module")
def judge(tiny_llava):
    return Judge(Scorer(load_model(tiny_llava)))


def stream(judge, *batches):
    out = io.BytesIO()
    summary = answer_stream(batches, DrawnImages(), judge, out=out, reporter=SilentReporter())
    return summary, [json.loads(line) for line in out.getvalue().splitlines()]


def test_what_comes_twice_in_a_batch_is_answered_as_it_came_first(judge):
    first, again = make_factuality("x"), make_hallucination("x")
    _, (alone,) = stream(judge, [first])
    summary, rows = stream(judge, [first, again, make_factuality("y")], [again])
    assert [row["id"] for row in rows] == ["x", "y"]
    assert rows[0]["task"] == "factuality"
    assert rows[0]["marginals"] == pytest.approx(alone["marginals"], abs=1e-5)
    assert (summary.total, summary.failed) == (4, 2)


def test_what_cannot_be_read_has_a_row_where_it_has_an_id(judge):
    bad = BadRow("record.no_choices", "z", "stdin:2", "no choices")
    summary, rows = stream(judge, [make_factuality("x"), bad, BadRow("data.json", "", "stdin:3", "no JSON")])
    assert [(row["id"], row["status"]) for row in rows] == [("x", "ok"), ("z", "error")]
    assert (summary.total, summary.failed) == (3, 2)


def test_a_stream_goes_on_however_many_records_never_fit(judge, monkeypatch):
    score = Scorer.score_prepared

    def limited(self, prepared):
        if any(example.id.startswith("big") for example in prepared.examples):
            raise MachineLimitError("no memory")
        return score(self, prepared)

    monkeypatch.setattr(Scorer, "score_prepared", limited)
    records = [make_factuality(f"{'big' if i % 2 else 'r'}{i}") for i in range(9)]
    _, rows = stream(judge, *([record] for record in records))
    assert [row["status"] for row in rows] == ["ok", "error"] * 4 + ["ok"]
