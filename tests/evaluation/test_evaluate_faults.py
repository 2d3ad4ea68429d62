"""Rows of the fault matrix that end at `hkd evaluate`, through the command line."""

import csv
import io
import json
import random

import pytest
from PIL import Image

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
    (folder / "records.json").write_text(json.dumps(records), encoding="utf-8")
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
        ("The answer is A or B, because the shelf is blue.", "invalid.unparsed"),
        ("\u0391", "invalid.unparsed"),  # Greek
        ("I'm sorry, but I cannot answer that.", "invalid.refusal"),
        ("Option B: True", "invalid.conflict"),
        ("A, B", "invalid.several"),
        (["The answer is A"], "invalid.unknown_choice"),
        ("", "invalid.empty"),
        ({"answer": "A"}, "invalid.unreadable"),
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


def build_phrases(index, gold):
    texts = ("No hallucination", "a red ball", "a tall tree", "on the table")
    choices = [{"id": letter, "choice": text} for letter, text in zip("ABCD", texts, strict=True)]
    record = {"id": f"r{index}", "image_id": "x.jpg", "system1_answer": "A caption.", "system2_question": "?"}
    return {**record, "choices": choices, "correct_choice": gold}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_d05_what_is_no_number_is_refused_in_records_and_predictions(tmp_path, capsys, number):
    score(tmp_path, capsys, [build_record(0, "A")], [build_row(0, ["A"])])
    rows = tmp_path / "p.jsonl"
    rows.write_text(f'{{"id": "r0", "prediction": ["A"], "confidence": {number}}}\n')
    assert main(["evaluate", str(rows), str(tmp_path / "records.json")]) == 3
    assert "p.jsonl:1: data.number" in capsys.readouterr().err
    rows.write_text('{"id": "r0", "prediction": ["A"]}\n')
    records = tmp_path / "records.json"
    records.write_text(records.read_text().replace('"Some text."', number))
    assert main(["evaluate", str(rows), str(records)]) == 3
    assert "data.number" in capsys.readouterr().err


def test_d05_undefined_scores_are_null_in_every_file_with_a_warning(tmp_path, capsys):
    found = score(tmp_path, capsys, [build_record(0, "A")], [build_row(0, None, status="error")])
    assert found["metrics"]["micro_precision"] is None and found["intervals"]["micro_precision"] is None
    assert any("undefined, so null: factuality.metrics.micro_precision" in each for each in found["warnings"])


def test_d10_gold_of_no_choice_is_refused(tmp_path, capsys):
    code, printed = evaluate(tmp_path, capsys, [build_record(0, "E")], [build_row(0, ["A"])])
    assert code == 3 and "r0" in printed.err and "record.unknown_answer" in printed.err


def test_d11_contradicting_gold_warns_and_strict_refuses(tmp_path, capsys):
    records = [{**build_record(0, "A"), "correct_answer": "False"}, build_record(1, "B")]
    rows = [build_row(0, ["A"]), build_row(1, ["B"])]
    code, printed = evaluate(tmp_path, capsys, records, rows)
    assert code == 0 and "1 records whose correct_answer and correct_choice disagree" in printed.err
    arguments = ["evaluate", str(tmp_path / "p.jsonl"), str(tmp_path / "records.json"), "--strict"]
    assert main(arguments) == 3
    assert "record.answer_mismatch" in capsys.readouterr().err


def test_d12_gold_and_answers_are_the_same_set_however_they_are_written(tmp_path, capsys):
    forms = ["B,C", "B, C", "BC", "B and C", ["B", "C"], ["C", "B"], "C;B", "B & C"]
    records = [build_phrases(index, gold) for index, gold in enumerate(forms)]
    for said in forms:
        found = score(tmp_path, capsys, records, [build_row(index, said) for index in range(len(forms))])
        assert found["metrics"]["exact_match"] == 1.0, said


@pytest.mark.parametrize("said", [["A", "B"], "A, B", "A and B"])
def test_d13_no_hallucination_together_with_others(tmp_path, capsys, said):
    code, printed = evaluate(tmp_path, capsys, [build_phrases(0, "A,B")], [build_row(0, ["A"])])
    assert code == 3 and "record.contradiction" in printed.err
    found = score(tmp_path, capsys, [build_phrases(0, "A")], [build_row(0, said)])
    assert found["counts"]["invalid.contradiction"] == 1 and found["metrics"]["exact_match"] == 0


def test_d14_full_width_letters_are_letters_and_lookalikes_are_named(tmp_path, capsys):
    found = score(tmp_path, capsys, [build_record(0, "\uff21")], [build_row(0, "\uff21")])
    assert found["metrics"]["exact_match"] == 1.0
    code, printed = evaluate(tmp_path, capsys, [build_record(0, "\u0410")], [build_row(0, ["A"])])
    assert code == 3 and "U+0410" in printed.err and "CYRILLIC" in printed.err
    found = score(tmp_path, capsys, [build_record(0, "A")], [build_row(0, "\u0410")])
    assert found["counts"]["invalid.unparsed"] == 1


HOSTILE = (
    "[/b][red]x",
    "\x1b[31mred\x1b[0m",
    "<script>alert(1)</script>",
    '=cmd|"/c calc"!A0',
    "@SUM(A1)",
    "a\u202eb",
)


def test_d19_hostile_text_is_shown_and_does_nothing(tmp_path, capsys):
    records, rows = [], []
    for index, text in enumerate(HOSTILE):
        record = build_phrases(index, "B")
        record |= {
            "id": f"{text}{index}",
            "system1_answer": text,
            "meta": {"source": text, text[:9]: {"B": text}},
        }
        record["choices"][2]["choice"] = text
        records.append(record)
        rows.append({"id": record["id"], "prediction": ["C"]})
    (tmp_path / "records.json").write_text(json.dumps(records))
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "q.jsonl").write_text(
        "".join(json.dumps({**row, "prediction": ["B"]}) + "\n" for row in rows)
    )
    written = [tmp_path / name for name in ("r.html", "r.md", "r.csv")]
    places = [str(tmp_path / name) for name in ("p.jsonl", "q.jsonl", "records.json")]
    reports = ["--report", str(written[0]), "--report", str(written[1]), "--per-record", str(written[2])]
    assert main(["evaluate", places[0], places[2], *reports]) == 0
    assert main(["compare", *places]) == 0
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err and "\u202e" not in printed.out
    assert "[/b][red]x" in printed.out and "\\x1b[31mred" in printed.out
    page, text = written[0].read_text(), written[1].read_text()
    assert "<script>alert" not in page + text and "\x1b" not in page + text
    cells = list(csv.reader(io.StringIO(written[2].read_text(), newline="")))
    assert len(cells) == 1 + len(HOSTILE) and not any(
        cell.startswith(("=", "+", "-", "@")) for row in cells for cell in row
    )
    assert {row[3] for row in cells[1:]} >= {"'" + HOSTILE[3], "'" + HOSTILE[4]}


def save_image(folder, name, colour):
    (folder / "images").mkdir(exist_ok=True)
    Image.new("RGB", (32, 32), colour).save(folder / "images" / name)


def test_d26_records_that_the_model_learned_from_are_told_and_can_be_refused(tmp_path, capsys):
    train, test = tmp_path / "train", tmp_path / "test"
    for folder in (train, test):
        folder.mkdir()
    save_image(train, "a.png", "red")
    save_image(test, "other-name.png", "red")  # the same pixels
    save_image(test, "new.png", "blue")
    (train / "records.json").write_text(json.dumps([{**build_record(0, "A"), "image_id": "a.png"}]))
    records = [
        {**build_record(1, "A"), "image_id": "other-name.png"},
        {**build_record(0, "B"), "claim": "Another.", "image_id": "new.png"},  # the same id
        {**build_record(2, "B"), "image_id": "other-name.png"},
        {**build_record(3, "B"), "image_id": "absent.png"},
    ]
    (test / "records.json").write_text(json.dumps(records))
    (test / "p.jsonl").write_text("".join(json.dumps(build_row(index, ["A"])) + "\n" for index in range(4)))
    arguments = ["evaluate", str(test / "p.jsonl"), str(test / "records.json")]
    arguments += ["--trained-on", str(train / "records.json")]
    assert main([*arguments, "--json"]) == 0
    printed = capsys.readouterr()
    leak = json.loads(printed.out)["leak"]
    assert leak == {"leak_rate": 0.75, "shared_ids": 1, "shared_images": 2}
    assert (
        "3 of 4 records are known from records.json" in printed.err
        and "1 images cannot be loaded" in printed.err
    )
    assert main([*arguments, "--fail-on-leak"]) == 3
    said = capsys.readouterr().err
    assert "data.leak" in said and "r1" in said and "its image is in" in said and "r0" in said
