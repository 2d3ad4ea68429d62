"""Rows of the fault matrix that end at `hkd evaluate`, through the command line."""

import json
import random

import pytest

from hkdcli.__main__ import main

LABELS = ("True", "False", "Partially True", "Not Verifiable")


def build_record(index, gold):
    choices = [{"id": letter, "choice": text} for letter, text in zip("ABCD", LABELS, strict=True)]
    record = {
        "id": f"r{index}",
        "image_id": "x.jpg",
        "claim": f"Claim {index}.",
        "context": "Some text.",
        "question": "Is it factual?",
        "choices": choices,
    }
    return record if gold is None else {**record, "correct_choice": gold}


def build_row(index, said, *, status="ok", **fields):
    return {"id": f"r{index}", "prediction": said, "status": status, **fields}


def evaluate(folder, capsys, records, rows):
    """Exit code and what was printed: the document, its errors included."""
    (folder / "records.json").write_text(json.dumps(records))
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code = main(["evaluate", str(folder / "p.jsonl"), str(folder / "records.json"), "--json"])
    return code, capsys.readouterr()


def score(*arguments):
    """The metrics; refuses NaN and infinity, which Python's reader would let through."""
    code, printed = evaluate(*arguments)
    assert code == 0, printed.err

    def refuse(text):
        raise AssertionError(text)

    return json.loads(printed.out, parse_constant=refuse)


def test_d23_records_without_labels_are_refused(tmp_path, capsys):
    records = [build_record(index, None) for index in range(1000)]
    code, printed = evaluate(tmp_path, capsys, records, [build_row(0, ["A"], confidence=0.9)])
    assert code == 3 and "no gold in 1000 rows" in printed.out + printed.err


def test_d24_reordered_predictions_are_joined_by_id(tmp_path, capsys):
    records = [build_record(index, "ABCD"[index % 4]) for index in range(20)]
    rows = [
        build_row(index, ["ABCA"[index % 4]], confidence=0.5 + index % 3 / 10, shifts=1)
        for index in range(20)
    ]
    straight = score(tmp_path, capsys, records, rows)
    assert straight["metrics"]["exact_match"] == 0.75 and straight["metrics"]["ece"] is not None
    random.Random(3).shuffle(rows)
    assert score(tmp_path, capsys, records, rows) == straight


def test_d24_a_missing_prediction_is_wrong_and_an_extra_one_is_told_of(tmp_path, capsys):
    records = [build_record(index, "A") for index in range(4)]
    rows = [build_row(index, ["A"], confidence=1.0) for index in (7, 0, 2)]
    found = score(tmp_path, capsys, records, rows)
    assert found["metrics"]["exact_match"] == found["metrics"]["coverage"] == 0.5
    assert found["metrics"]["selective_exact_match"] == 1.0 and found["metrics"]["ece"] == 0.0
    counts = {"records": 4, "missing": 2, "extra": 1, "error": 0, "abstained": 0, "with_confidence": 2}
    assert counts.items() <= found["counts"].items()
    assert any("2 of 4 records have no prediction" in warning for warning in found["warnings"])
    assert any("1 predictions belong to no scored record" in warning for warning in found["warnings"])


def test_d24_a_second_prediction_for_a_record_is_refused_where_it_stands(tmp_path, capsys):
    records = [build_record(0, "A"), build_record(1, "A")]
    rows = [build_row(0, ["A"]), build_row(1, ["A"]), build_row(0, None, status="abstain", confidence=0.3)]
    code, printed = evaluate(tmp_path, capsys, records, rows)
    said = printed.out + printed.err
    assert code == 3 and "p.jsonl:3" in said and "p.jsonl:1" in said


@pytest.mark.parametrize("size", [1, 3])
def test_d25_one_class_or_nothing_right_is_finite_json_and_flagged(tmp_path, capsys, size):
    records = [build_record(index, "A") for index in range(size)]
    sure = {"confidence": 0.5, "posterior": [{"answer": ["B"], "p": 0.5}]}
    rows = [build_row(index, None, status="abstain", **sure) for index in range(size)]
    found = score(tmp_path, capsys, records, rows)
    assert found["metrics"]["selective_exact_match"] is None and found["metrics"]["exact_match"] == 0.0
    assert found["metrics"]["brier"] == 1.25 and found["metrics"]["ece"] == 0.5
    assert any("one class (True)" in warning for warning in found["warnings"])
    assert any("factuality.metrics.selective_exact_match" in warning for warning in found["warnings"])


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("The answer is A, because the shelf is blue.", "invalid.unreadable"),
        (["The answer is A"], "invalid.unknown_choice"),
        ("", "invalid.unreadable"),
        (None, "invalid.unreadable"),
        ([], "invalid.empty"),
        ([""], "invalid.unknown_choice"),
        ([chr(65 + index % 26) * (1 + index // 26) for index in range(40)], "invalid.unknown_choice"),
        (["A"] * 20 + ["B"] * 20, "invalid.several"),
    ],
)
def test_r19_what_is_no_answer_is_counted_as_invalid_and_never_taken_for_a(tmp_path, capsys, said, count):
    records = [build_record(0, "A"), build_record(1, "B")]
    rows = [build_row(0, said, confidence=0.9), build_row(1, ["B"], confidence=0.9)]
    found = score(tmp_path, capsys, records, rows)
    assert found["counts"][count] == found["counts"]["invalid"] == 1 and found["counts"]["missing"] == 0
    assert found["metrics"]["exact_match"] == found["metrics"]["selective_exact_match"] == 0.5
    assert found["metrics"]["micro_recall"] == 0.5 and found["metrics"]["micro_precision"] == 1.0
    assert found["tasks"]["factuality"]["per_class"]["True"]["recall"] == 0.0
    assert any("no legal answer" in warning for warning in found["warnings"])
