"""Reading predictions.jsonl: strict, by id, nothing dropped in silence."""

import json

import pytest

from hkdcli.errors import DataError
from hkdcli.evaluation.certainty import Certainty
from hkdcli.evaluation.predictions import read_predictions

GOOD = b'{"id": "1", "prediction": ["B", "C"], "status": "ok", "posterior": []}\n'


def write(folder, content):
    path = folder / "predictions.jsonl"
    path.write_bytes(content)
    return path


def test_rows_are_read_in_order(tmp_path):
    rows = (
        GOOD
        + b'{"id": 2, "prediction": null, "status": "error"}\r\n\n{"id": "3\xe2\x80\xa8", "prediction": "B"}'
    )
    first, second, third = read_predictions(write(tmp_path, rows))
    assert (first.id, first.choices, first.failed) == ("1", frozenset("BC"), False)
    assert (second.id, second.choices, second.failed) == ("2", None, True)
    assert (third.id, third.choices) == ("3\u2028", None)  # text instead of a list cannot be read
    assert first.path.endswith("predictions.jsonl:1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 predictions"),
        (b"\n \n", "0 predictions"),
        (GOOD + b'{"id": "2", "prediction": ["A"', "data.json"),
        (GOOD + b'{"id": "2", "confidence": NaN}\n', "NaN"),
        (GOOD + b'{"id": "2", "confidence": -Infinity}\n', "Infinity"),
        (GOOD + b'{"id": "2", "id": "3"}\n', "twice"),
        (GOOD + b'{"prediction": ["A"]}\n', "has no id"),
        (GOOD + b"[1]\n", "no JSON object"),
        (GOOD + GOOD, "prediction.duplicate"),
        (GOOD + b'{"id": "\xff"}\n', "data.encoding"),
        (GOOD + b'{"id": ' + b"9" * 5000 + b"}\n", "5000 digits"),
    ],
)
def test_what_cannot_be_trusted_is_refused(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_predictions(write(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot read predictions"):
        read_predictions(tmp_path / "absent.jsonl")


def test_every_bad_row_is_named_at_once(tmp_path):
    with pytest.raises(DataError) as caught:
        read_predictions(write(tmp_path, GOOD + b"{}\n[\n{}\n"))
    assert len(caught.value.rows) == 3


def write_rows(folder, *rows):
    return write(folder, "".join(json.dumps(row) + "\n" for row in rows).encode())


def test_a_row_keeps_how_sure_it_is(tmp_path):
    posterior = [{"answer": ["B", "C"], "p": 0.75}, {"answer": ["A"], "p": 0.25, "rank": 2}]
    sure = {"posterior": posterior, "confidence": 0.75, "flip_rate": 0.5, "all_agree": False, "shifts": 4}
    given, abstained = read_predictions(
        write_rows(
            tmp_path,
            {"id": "1", "prediction": ["B", "C"], "status": "ok", **sure},
            {"id": "2", "prediction": None, "status": "abstain", **sure, "approximate": True},
        )
    )
    distribution = ((frozenset("BC"), 0.75), (frozenset("A"), 0.25))
    assert given.certainty == Certainty(0.75, distribution, 0.5, False, 4)
    assert not given.abstained and abstained.abstained and not abstained.failed
    assert abstained.certainty.approximate and abstained.choices is None


def test_what_another_tool_leaves_out_is_unknown_and_not_refused(tmp_path):
    nulls = dict.fromkeys(("confidence", "posterior", "flip_rate", "all_agree", "shifts", "approximate"))
    rows = read_predictions(
        write_rows(
            tmp_path,
            {"id": "1", "prediction": ["B"]},
            {"id": "2", "prediction": ["B"], **nulls},
            {"id": "3", "prediction": ["B"], "posterior": []},
        )
    )
    assert [row.certainty for row in rows] == [Certainty()] * 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("confidence", value) for value in (1.01, -0.1, "0.5", True, [0.5])),
        *(("posterior", value) for value in ({"A": 1.0}, "A", 0.5, ["A"], [{"answer": ["A"]}])),
        ("posterior", [{"answer": "A", "p": 0.5}]),
        ("posterior", [{"answer": [1], "p": 0.5}]),
        ("posterior", [{"answer": ["A"], "p": 1.5}]),
        ("posterior", [{"answer": ["A"], "p": None}]),
        ("posterior", [{"answer": ["A", "B"], "p": 0.5}, {"answer": ["B", "A"], "p": 0.5}]),
        ("posterior", [{"answer": ["A"], "p": 0.8}, {"answer": ["B"], "p": 0.8}]),
        *(("flip_rate", value) for value in (1.5, "0")),
        *(("all_agree", value) for value in (1, "yes")),
        *(("shifts", value) for value in (0, 1.5, True)),
        ("approximate", "no"),
    ],
)
def test_a_malformed_field_is_refused_by_name(tmp_path, field, value):
    rows = [{"id": "1", "prediction": ["B"]}, {"id": "2", "prediction": ["B"], field: value}]
    with pytest.raises(DataError) as caught:
        read_predictions(write_rows(tmp_path, *rows))
    assert [(row.code, row.id) for row in caught.value.rows] == [(f"prediction.{field}", "2")]
    assert caught.value.rows[0].path.endswith("predictions.jsonl:2")


def test_every_malformed_field_of_every_row_is_named_at_once(tmp_path):
    rows = [{"id": "1", "confidence": 2, "posterior": {}}, {"id": "2"}, {"id": "3", "confidence": -1}]
    with pytest.raises(DataError, match="2 unreadable prediction rows") as caught:
        read_predictions(write_rows(tmp_path, *rows))
    assert [(row.code, row.path.rpartition(":")[2]) for row in caught.value.rows] == [
        ("prediction.confidence", "1"),
        ("prediction.posterior", "1"),
        ("prediction.confidence", "3"),
    ]
