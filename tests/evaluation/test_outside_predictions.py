"""Files of other systems: one meaning whatever the form, and what is wrong is said with its place."""

import csv
import io
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hkdcli.errors import DataError, UsageError
from hkdcli.evaluation.columns import Columns, parse_columns
from hkdcli.evaluation.predictions import Prediction, read_predictions

OTHER = Columns("question_id", "response", "score")


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refuse(path, *arguments):
    """The rows of the refusal as (code, place behind the file's name, detail, hint)."""
    with pytest.raises(DataError) as caught:
        read_predictions(path, *arguments)
    return [(row.code, row.path.rpartition(path.name)[2], row.detail, row.hint) for row in caught.value.rows]


def write_table(rows, delimiter=","):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return text.getvalue()


def get_answers(predictions):
    return [(row.id, row.text, row.choices) for row in predictions]


def test_a_text_is_kept_as_text_and_a_list_as_ids(tmp_path):
    rows = [{"id": 1, "prediction": "B, C"}, {"id": 2, "prediction": ["B"]}, {"id": 3, "prediction": 2}]
    rows += [{"id": 4, "prediction": True}, {"id": 5, "prediction": None}, {"id": 6, "prediction": {"B": 1}}]
    path = write(tmp_path, "p.json", json.dumps(rows))
    assert get_answers(read_predictions(path)) == [
        ("1", "B, C", None),
        ("2", None, frozenset("B")),
        ("3", "2", None),
        *((name, None, None) for name in "456"),
    ]


def test_named_columns_reach_into_objects(tmp_path):
    rows = [
        {"meta": {"qid": 7}, "output": {"text": "B"}, "p": 0.5, "confidence": "high", "posterior": "?"},
        {"meta": {"qid": 8}, "output": {"text": "C"}, "output.text": "D", "status": "error"},
    ]
    path = write(tmp_path, "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    first, second = read_predictions(path, Columns("meta.qid", "output.text", "p"))
    assert (first.id, first.text, first.certainty.confidence, first.failed) == ("7", "B", 0.5, False)
    assert (second.id, second.text, second.certainty.confidence, second.failed) == ("8", "D", None, True)


def test_a_row_that_is_no_object_is_refused_also_with_named_columns(tmp_path):
    path = write(tmp_path, "p.jsonl", '{"question_id": 1, "response": "B", "score": 1}\n["q2", "B"]\n"q3"\n')
    assert [row[:2] for row in refuse(path, OTHER)] == [("prediction.type", ":2"), ("prediction.type", ":3")]


def test_a_mapping_gives_a_row_for_each_id(tmp_path):
    path = write(tmp_path, "p.json", '{"q1": "The answer is B", "q2": ["B", "C"], "q3": ""}')
    assert get_answers(read_predictions(path)) == [
        ("q1", "The answer is B", None),
        ("q2", None, frozenset("BC")),
        ("q3", "", None),
    ]


def test_an_object_with_an_id_is_one_row(tmp_path):
    path = write(tmp_path, "p.json", '{"id": "q1", "prediction": ["B"]}')
    assert get_answers(read_predictions(path)) == [("q1", None, frozenset("B"))]


@pytest.mark.parametrize("text", ['{"q1": "B", "q2": null}', '{"q1": ["B", 1]}', "{}", '{"q1": {"a": "B"}}'])
def test_an_object_of_other_values_is_no_mapping(tmp_path, text):
    assert refuse(write(tmp_path, "p.json", text))[0][:3] == ("prediction.no_id", ":1", "has no id")


def test_an_id_that_stands_twice_in_a_mapping_is_refused(tmp_path):
    (row,) = refuse(write(tmp_path, "p.json", '{"q1": "B", "q1": "C"}'))
    assert row[0] == "data.duplicate_key"


def test_cells_are_trimmed_and_an_empty_one_says_nothing(tmp_path):
    table = ' id ,prediction,confidence,status,note\nq1," B\nC ",0.5,,x\n\nq2,,,error,\nq3,D, 1 ,abstain,\n'
    rows = read_predictions(write(tmp_path, "P.CSV", "\ufeff" + table))
    assert [(row.id, row.text, row.failed, row.abstained, row.certainty.confidence) for row in rows] == [
        ("q1", "B\nC", False, False, 0.5),
        ("q2", "", True, False, None),
        ("q3", "D", False, True, 1.0),
    ]
    assert [row.path.rpartition(":")[2] for row in rows] == ["2", "5", "6"]


def test_every_bad_row_of_a_table_is_named_with_its_line(tmp_path):
    table = (
        'id,prediction,confidence\nq1,"B\n",\nq2,B\nq3,B,0.5,x\n,B,\nq5,B,50%\nq6,B,1.5\nq7,B,nan\nq8,B,1_0\n'
    )
    rows = refuse(write(tmp_path, "p.csv", table))
    assert [row[:2] for row in rows] == [
        ("data.table", ":4"),
        ("data.table", ":5"),
        ("prediction.no_id", ":6"),
        *(("prediction.confidence", f":{line}") for line in (7, 8, 9, 10)),
    ]
    assert rows[0][2] == "2 cells where the header has 3"


@pytest.mark.parametrize("tail", ['q2,"B', 'q2,"B" x\nq3,C\n'])
def test_a_broken_quote_is_refused_where_its_row_begins(tmp_path, tail):
    ((code, place, detail, _),) = refuse(write(tmp_path, "p.csv", "id,prediction\nq1,A\n" + tail))
    assert (code, place) == ("data.table", ":3") and "cannot be told apart" in detail


@pytest.mark.parametrize("content", ["", "\n\n", "id,prediction\n"])
def test_a_table_without_rows_is_refused(tmp_path, content):
    with pytest.raises(DataError, match="0 predictions"):
        read_predictions(write(tmp_path, "p.csv", content))


def test_an_id_that_stands_twice_in_a_table_is_refused(tmp_path):
    ((code, place, _, _),) = refuse(write(tmp_path, "p.csv", "id,prediction\nq1,A\nq1,A\n"))
    assert (code, place) == ("prediction.duplicate", ":3")


def test_a_header_that_names_a_column_twice_is_refused(tmp_path):
    ((code, place, detail, _),) = refuse(write(tmp_path, "p.csv", "id,prediction,prediction\nq1,A,B\n"))
    assert (code, place) == ("data.table", ":1") and "'prediction' stands twice" in detail


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl"])
def test_an_unknown_column_is_refused_with_those_that_are_there(tmp_path, name):
    content = (
        'question_id,response\nq1,"B"\n' if name == "p.csv" else '{"question_id": "q1", "response": "B"}\n'
    )
    path = write(tmp_path, name, content)
    (row,) = refuse(path, Columns("question_id", "responses"))
    assert row[0] == "prediction.unknown_column"
    assert row[2] == 'no column "responses"; did you mean "response"?'
    assert row[3] == "there are: question_id, response; see --columns"
    assert len(refuse(path, Columns("a", "b", "c"))) == 3


def test_a_file_without_an_id_says_which_fields_it_has(tmp_path):
    path = write(tmp_path, "p.jsonl", '{"qid": 1, "output": {"text": "B"}}\n{"qid": 2}\n')
    assert [row[2:] for row in refuse(path)] == [
        ("has no id", "there are: qid, output.text; see --columns"),
        ("has no id", "there are: qid; see --columns"),
    ]


def test_a_row_without_a_named_field_has_no_prediction(tmp_path):
    path = write(tmp_path, "p.jsonl", '{"question_id": 1, "response": "B"}\n{"question_id": 2}\n')
    assert get_answers(read_predictions(path, Columns("question_id", "response"))) == [
        ("1", "B", None),
        ("2", None, None),
    ]


def test_a_file_in_another_encoding_is_read(tmp_path):
    path = write(tmp_path, "p.csv", "id,prediction\nq1,\u00e9t\u00e9\n".encode("latin-1"))
    assert read_predictions(path, encoding="latin-1")[0].text == "\u00e9t\u00e9"
    with pytest.raises(DataError, match=r"data\.encoding"):
        read_predictions(path)


def test_an_unreadable_encoding_is_told_without_an_option_that_is_about_the_records(tmp_path):
    path = write(tmp_path, "p.csv", "")
    path.write_bytes("id,prediction\nq1,B\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"data\.encoding.*save the file as UTF-8"):
        read_predictions(path)


@pytest.mark.parametrize("status", ["success", "done", 200, ["ok"], {"code": 0}])
def test_a_status_that_is_none_of_ours_means_nothing_where_no_columns_are_named(tmp_path, status):
    rows = [{"id": "q1", "prediction": "B", "status": status}, {"id": "q2", "status": "error"}]
    first, second = read_predictions(write(tmp_path, "p.json", json.dumps(rows)))
    assert (first.text, first.failed, first.abstained) == ("B", False, False)
    assert second.failed


def test_a_column_called_status_may_be_named_as_another(tmp_path):
    for name, content in (("p.csv", "id,status\nq1,B\n"), ("p.json", '[{"id": "q1", "status": "B"}]')):
        (row,) = read_predictions(write(tmp_path, name, content), Columns(prediction="status"))
        assert row.text == "B" and not row.failed


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("id=question_id,prediction=response,confidence=score", OTHER),
        (" prediction = output.text ", Columns(prediction="output.text")),
        ("id=a=b", Columns(id="a=b")),
    ],
)
def test_columns_are_parsed(text, columns):
    assert parse_columns(text) == columns


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("predction=x", ['unknown name "predction"; did you mean "prediction"?']),
        ("id=a,id=b", ["id stands twice"]),
        ("id", ['"id" is no pair']),
        ("id=", ['"id=" is no pair']),
        ("", ['"" is no pair']),
        ("id=a,", ['"" is no pair']),
        ("zzz=1,id=a,id=b,x", ['unknown name "zzz";', "id stands twice", '"x" is no pair']),
    ],
)
def test_every_fault_of_columns_is_named_at_once(text, messages):
    with pytest.raises(UsageError) as caught:
        parse_columns(text)
    assert all(message in caught.value.message for message in messages)
    assert caught.value.hint == "The names are id, prediction, confidence."


# Text that trimming leaves as it is, in characters that every form may hold.
CELLS = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('\n",;\t'), max_size=20).map(
    str.strip
)
ROWS = st.lists(
    st.tuples(CELLS.filter(bool), CELLS, st.none() | st.floats(0, 1)),
    min_size=1,
    unique_by=lambda row: row[0],
)


@given(rows=ROWS, delimiter=st.sampled_from([",", "\t"]))
def test_law_what_csv_writes_is_read_back(tmp_path_factory, rows, delimiter):
    header = ("question_id", "extra", "response", "score")
    table = [header, *((name, "x,\ty", text, "" if sure is None else sure) for name, text, sure in rows)]
    name = "p.csv" if delimiter == "," else "p.tsv"
    path = write(tmp_path_factory.getbasetemp(), name, write_table(table, delimiter))
    read = read_predictions(path, OTHER)
    assert [(row.id, row.text, row.certainty.confidence) for row in read] == rows


@given(rows=ROWS)
def test_law_five_forms_of_the_same_rows_are_equal(tmp_path_factory, rows):
    objects = [{"id": name, "prediction": text} for name, text, _ in rows if name != "id"]
    rows = [(each["id"], each["prediction"]) for each in objects] or [("q1", "B")]
    objects = [{"id": name, "prediction": text} for name, text in rows]
    forms = {
        "p.jsonl": "".join(json.dumps(row) + "\n" for row in objects),
        "p.json": json.dumps(objects),
        "mapping.json": json.dumps(dict(rows)),
        "p.csv": write_table([("id", "prediction"), *rows]),
        "p.tsv": write_table([("prediction", "id"), *(row[::-1] for row in rows)], "\t"),
    }
    folder = tmp_path_factory.getbasetemp()
    read = [read_predictions(write(folder, name, content)) for name, content in forms.items()]
    expected = [Prediction(name, None, text=text) for name, text in rows]
    assert [[replace(row, path="") for row in form] for form in read] == [expected] * 5


@given(data=st.binary(max_size=80) | st.text('id,prediction"\n\r\t\0a', max_size=40).map(str.encode))
def test_law_whatever_the_bytes_a_table_is_read_or_refused(tmp_path_factory, data):
    path = write(tmp_path_factory.getbasetemp(), "fuzz.csv", b"id,prediction\n" + data)
    try:
        assert all(row.id and row.text is not None for row in read_predictions(path))
    except DataError as error:
        assert error.rows or "0 predictions" in error.message


@pytest.mark.parametrize(("name", "parted"), [("p.csv", ";"), ("p.tsv", ","), ("p.csv", "\t")])
def test_a_table_parted_by_something_else_is_told_so(tmp_path, name, parted):
    content = parted.join(("id", "prediction")) + "\n" + parted.join(("q1", "A")) + "\n"
    with pytest.raises(DataError) as caught:
        read_predictions(write(tmp_path, name, content))
    (row,) = caught.value.rows
    assert row.code == "data.table" and repr(parted) in row.detail and "by commas" in row.hint
