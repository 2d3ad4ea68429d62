"""Submissions: what is written is checked by the reader of records, and every fault is told."""

import json
import zipfile
from dataclasses import replace

import pytest
from gold_records import claim_record, phrase_record, predict

from hkdcli.data.examples import read_examples
from hkdcli.errors import DataError
from hkdcli.evaluation.submission import build_submission, check_submission, write_submission

EXAMPLES = [
    replace(phrase_record("1", None), caption="a dog", answer=None),
    replace(phrase_record("2", None), caption="a cat", answer=None),
    replace(claim_record("3", "A"), claim="It rains.", answer=None),
]
PREDICTIONS = [predict("3", "D"), predict("1", "CB"), predict("2", "A"), predict("stranger", "A")]


def write(path, examples=EXAMPLES, predictions=PREDICTIONS):
    write_submission(path, build_submission(examples, predictions))
    return path


def refuse(path, examples=EXAMPLES):
    with pytest.raises(DataError) as caught:
        check_submission(path, examples)
    return [(row.code, row.id) for row in caught.value.rows]


def test_what_is_written_passes_and_reads_back(tmp_path):
    path = write(tmp_path / "results.zip")
    check_submission(path, EXAMPLES)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["results.json"]
        archive.extractall(tmp_path)
    check_submission(tmp_path / "results.json", EXAMPLES)
    answers = {each.id: each.answer for each in read_examples(tmp_path / "results.json").examples}
    assert answers == {"1": {"B", "C"}, "2": {"A"}, "3": {"D"}}
    rows = json.loads((tmp_path / "results.json").read_text())
    assert rows[0]["metadata"]["correct_choice"] == "B,C"
    assert rows[0]["metadata"]["correct_answer"] == "phrase 1, phrase 2"
    assert list(rows[2]) == ["metadata"] and rows[2]["metadata"]["correct_answer"] == "Not Verifiable"


def test_equal_answers_are_equal_bytes(tmp_path):
    one, two = write(tmp_path / "1.zip"), write(tmp_path / "2.zip", predictions=PREDICTIONS[::-1])
    assert one.read_bytes() == two.read_bytes()


def test_ids_that_the_data_does_not_have_are_not_made_up(tmp_path):
    row = {"metadata": {"image_id": "x.png", "claim": "c", "question": "?", "choices": CHOICES}}
    (tmp_path / "data.json").write_text(json.dumps([row]))
    examples = read_examples(tmp_path / "data.json").examples
    path = write(tmp_path / "r.zip", examples, [predict(examples[0].id, "A")])
    check_submission(path, examples)
    with zipfile.ZipFile(path) as archive:
        assert "id" not in json.loads(archive.read("results.json"))[0]["metadata"]


CHOICES = [{"id": "A", "choice": "True"}, {"id": "B", "choice": "False"}]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (None, "submission.missing"),
        (predict("3", "D", failed=True), "submission.error"),
        (predict("3", None, abstained=True), "submission.abstained"),
        (predict("3", "E"), "submission.unknown_choice"),
        (predict("3", "AB"), "submission.several"),
        (predict("3", ""), "submission.empty"),
    ],
)
def test_what_cannot_be_submitted_is_named(row, code):
    rows = PREDICTIONS[1:3] + ([row] if row else [])
    with pytest.raises(DataError, match="1 of 3 records") as caught:
        build_submission(EXAMPLES, rows)
    assert [(bad.code, bad.id) for bad in caught.value.rows] == [(code, "3")]


def damage(tmp_path, change):
    """results.json of the three records, after `change` of its rows."""
    rows = build_submission(EXAMPLES, PREDICTIONS)
    change(rows)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda rows: rows.pop(0), [("submission.missing", "1")]),
        (lambda rows: rows.append(rows[0]), [("submission.twice", "1")]),
        (
            lambda rows: rows[0]["metadata"].update(id="9"),
            [("submission.extra", "9"), ("submission.missing", "1")],
        ),
        (lambda rows: rows[0]["metadata"].update(correct_choice="E"), [("record.unknown_answer", "1")]),
        (lambda rows: rows[0]["metadata"].update(correct_choice="A,B"), [("record.contradiction", "1")]),
        (lambda rows: rows[2]["metadata"].update(correct_choice="A,B"), [("record.many_answers", "3")]),
        (lambda rows: rows[2]["metadata"].update(correct_choice="A"), [("submission.other_words", "3")]),
        (lambda rows: rows[2]["metadata"].pop("correct_choice"), [("submission.no_answer", "3")]),
        (lambda rows: rows[1]["metadata"]["choices"].pop(), [("submission.other_choices", "2")]),
        (lambda rows: rows[0]["metadata"].update(image_id="y.png"), [("submission.other_record", "1")]),
        (lambda rows: rows[0]["metadata"].update(system1_answer="!"), [("submission.other_record", "1")]),
    ],
)
def test_a_check_names_what_is_wrong(tmp_path, change, found):
    assert refuse(damage(tmp_path, change)) == found


def test_a_bad_letter_is_named_by_its_record_also_without_ids(tmp_path):
    rows = [
        {"metadata": {"image_id": f"{place}.png", "claim": "c", "question": "?", "choices": CHOICES}}
        for place in range(2)
    ]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    examples = read_examples(tmp_path / "data.json").examples
    for row, letter in zip(rows, "AZ", strict=True):
        row["metadata"]["correct_choice"] = letter
    (tmp_path / "results.json").write_text(json.dumps(rows))
    assert refuse(tmp_path / "results.json", examples) == [("record.unknown_answer", examples[1].id)]


def test_all_problems_come_at_once(tmp_path):
    def change(rows):
        rows[0]["metadata"]["correct_choice"] = "Z"
        rows.pop(1)

    assert refuse(damage(tmp_path, change)) == [("record.unknown_answer", "1"), ("submission.missing", "2")]


@pytest.mark.parametrize("names", [["other.json"], ["results.json", "more.json"], ["a/results.json"], []])
def test_a_zip_holds_results_json_alone(tmp_path, names):
    path = tmp_path / "r.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "[]")
    assert refuse(path) == [("submission.members", "")]


def test_what_cannot_be_read_is_refused(tmp_path):
    assert refuse(tmp_path / "absent.zip") == [("submission.unreadable", "")]
    whole = write(tmp_path / "r.zip").read_bytes()
    broken = bytearray(whole)
    broken[60] ^= 0xFF
    (tmp_path / "r.zip").write_bytes(bytes(broken))
    assert refuse(tmp_path / "r.zip")[0][0] in ("submission.unreadable", "data.json", "data.encoding")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_to_a_zip_is_refused_however_it_was_packed(tmp_path, method):
    text = zipfile.ZipFile(write(tmp_path / "r.zip")).read("results.json")
    with zipfile.ZipFile(tmp_path / "r.zip", "w", method) as archive:
        archive.writestr("results.json", text)
    check_submission(tmp_path / "r.zip", EXAMPLES)
    whole = (tmp_path / "r.zip").read_bytes()
    for place in range(60, 130, 5):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        (tmp_path / "r.zip").write_bytes(bytes(broken))
        assert refuse(tmp_path / "r.zip")[0][0] == "submission.unreadable"


def test_a_zip_that_is_cut_short_is_told_as_one(tmp_path):
    path = write(tmp_path / "r.zip")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="a zip file that is cut short or damaged"):
        check_submission(path, EXAMPLES)


def test_another_encoding_is_told_without_an_option_that_is_about_the_records(tmp_path):
    path = tmp_path / "results.json"
    path.write_bytes(json.dumps([]).encode("utf-16"))
    with pytest.raises(DataError, match=r"data\.encoding.*save results\.json as UTF-8"):
        check_submission(path, EXAMPLES)


def test_a_record_without_prediction_is_named_where_no_line_can_be():
    with pytest.raises(DataError) as caught:
        build_submission(EXAMPLES, PREDICTIONS[1:])
    assert str(caught.value.rows[0]).startswith("[3]: submission.missing: ")


def test_numbers_stay_numbers(tmp_path):
    rows = [{"id": 7, "image_id": "x.png", "claim": "c", "question": "?", "choices": CHOICES}]
    (tmp_path / "data.json").write_text(json.dumps(rows))
    examples = read_examples(tmp_path / "data.json").examples
    assert examples[0].id == "7"
    path = write(tmp_path / "r.zip", examples, [predict("7", "A")])
    check_submission(path, examples)
    with zipfile.ZipFile(path) as archive:
        assert json.loads(archive.read("results.json"))[0]["metadata"]["id"] == 7
