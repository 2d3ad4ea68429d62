"""Reading predictions.jsonl: strict, by id, nothing dropped in silence."""

import pytest

from hkdcli.errors import DataError
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
