"""What one record may hold, and what it may not (D07-D15, D21, D22)."""

import pytest
from record_makers import NONE, make_choices, make_factuality, make_hallucination, write_json, write_jsonl

from hkdcli.data.examples import read_examples
from hkdcli.data.rows import parse_row
from hkdcli.errors import BadRow


def parse(row):
    return parse_row(row, "rows.json:1")


def parse_code(row):
    result = parse(row)
    assert isinstance(result, BadRow), result
    assert result.detail.isascii() and result.path == "rows.json:1"
    return result.code


def test_d07_identical_rows_are_used_once(tmp_path):
    result = read_examples(write_json(tmp_path / "x.json", [make_factuality()] * 3 + [make_hallucination()]))
    assert [each.id for each in result.examples] == ["f1", "h1"] and not result.bad_rows
    assert result.warnings == ("2 records stand twice, identical; each is used once",)


def test_d07_different_rows_of_one_id(tmp_path):
    rows = [make_factuality(), make_factuality(), make_factuality(claim="Another."), make_hallucination()]
    result = read_examples(write_jsonl(tmp_path / "x.jsonl", rows))
    (row,) = result.bad_rows
    assert (row.code, row.id) == ("record.duplicate_id", "f1") and row.path.endswith("x.jsonl:3")
    assert len(result.examples) == 2 and len(result.warnings) == 1


def test_d07_one_image_with_several_questions_and_no_ids(tmp_path):
    rows = [make_factuality(..., claim=f"Claim {number}.") for number in range(3)] + [make_factuality(...)]
    result = read_examples(write_json(tmp_path / "x.json", rows + rows[:1]))
    ids = [each.id for each in result.examples]
    assert len(set(ids)) == 4 and all(len(each) == 40 for each in ids) and len(result.warnings) == 1
    assert ids == [each.id for each in read_examples(tmp_path / "x.json").examples]


def test_d07_ids_stay_as_written():
    assert [parse(make_factuality(each)).id for each in (7, "007", " x ", "t1/\u00e9")] == [
        "7",
        "007",
        " x ",
        "t1/\u00e9",
    ]
    assert [parse_code(make_factuality(each)) for each in (True, 1.5, [], "", " ")] == [
        "record.wrong_type",
        "record.wrong_type",
        "record.wrong_type",
        "record.empty_field",
        "record.empty_field",
    ]


@pytest.mark.parametrize("name", ["image_id", "system1_answer", "system2_question", "choices"])
@pytest.mark.parametrize(
    ("value", "code"),
    [(..., "record.missing_field"), (None, "record.missing_field"), (7, "record.wrong_type")],
)
def test_d08_hallucination_fields(name, value, code):
    result = parse(make_hallucination(**{name: value}))
    assert (result.code, result.id) == (code, "h1") and name in result.detail


@pytest.mark.parametrize("name", ["claim", "question", "image_id", "choices"])
@pytest.mark.parametrize(
    ("value", "code"), [(..., "record.missing_field"), ({}, "record.wrong_type"), (7, "record.wrong_type")]
)
def test_d08_factuality_fields(name, value, code):
    assert parse_code(make_factuality(**{name: value})) == code


@pytest.mark.parametrize("value", [None, 3, "text", [], [make_factuality()]])
def test_d08_not_an_object(value):
    assert parse_code(value) == "record.not_an_object"


def test_d08_which_task():
    assert parse_code({"image_id": "x.jpg", "choices": []}) == "record.task"
    assert parse_code(make_hallucination(claim="And a claim.")) == "record.task"
    assert parse(make_hallucination(claim=None, context="told apart")).task == "hallucination"
    assert parse(make_factuality(system1_answer=None)).task == "factuality"


@pytest.mark.parametrize(
    "item", [None, "A", ["A", "x"], {"id": "A"}, {"choice": "x"}, {"id": 1, "choice": "x"}]
)
def test_d08_choice_of_another_shape(item):
    code = parse_code(make_factuality(choices=[item, {"id": "B", "choice": "y"}]))
    assert code in ("record.wrong_type", "record.missing_field")


@pytest.mark.parametrize("ids", ["DCBA", "bdac", "1234", "WXYZ"])
def test_d09_ids_are_verbatim_and_never_positions(ids):
    choices = make_choices(NONE, "one", "two", "three", ids=ids)
    example = parse(make_hallucination(gold=f"{ids[1]}, {ids[3]}", choices=choices))
    assert [each.id for each in example.choices] == list(ids)
    assert example.answer == {ids[1], ids[3]} and example.none_id == ids[0]


@pytest.mark.parametrize("count", [2, 3, 9, 26])
def test_d09_numbers_of_choices(count):
    example = parse(make_factuality(choices=make_choices(*map(str, range(count)))))
    assert len(example.choices) == count


def test_d09_too_many_or_double_choices():
    many = [{"id": f"c{number}", "choice": "x"} for number in range(27)]
    assert parse_code(make_factuality(choices=many)) == "record.choice_count"
    assert parse_code(make_factuality(choices=make_choices("x"))) == "record.choice_count"
    assert parse_code(make_factuality(choices=make_choices("x", "y", ids="AA"))) == "record.duplicate_choice"
    assert parse_code(make_hallucination(choices=make_choices(NONE, "x", NONE))) == "record.duplicate_choice"


@pytest.mark.parametrize("gold", ["E", "a", "AE", "A,E", ["A", "E"], "none", "?", ",", "A.B"])
def test_d10_unknown_gold(gold):
    assert parse_code(make_hallucination(gold=gold)) == "record.unknown_answer"


@pytest.mark.parametrize("gold", [3, {"A": 1}, [1], [["A"]], True])
def test_d10_gold_of_another_type(gold):
    assert parse_code(make_hallucination(gold=gold)) == "record.wrong_type"


def test_d11_answers_that_disagree(tmp_path):
    rows = [
        make_hallucination("same", "C", correct_answer="Blue wire  shelf"),
        make_hallucination("set", "B,D", correct_answer="fresh produce and leafy greens"),
        make_hallucination("list", "B,D", correct_answer=["fresh produce", "leafy greens"]),
        make_hallucination("swapped", "C", correct_answer="leafy greens"),
        make_hallucination("more", "C", correct_answer="blue wire shelf, leafy greens"),
        make_hallucination("open", None, correct_answer="leafy greens"),
    ]
    path = write_json(tmp_path / "x.json", rows)
    result = read_examples(path)
    assert len(result.examples) == 6 and result.examples[3].answer == {"C"}
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("2 records") and "first: swapped, more" in result.warnings[0]
    strict = read_examples(path, strict=True)
    assert [(row.code, row.id) for row in strict.bad_rows] == [
        ("record.answer_mismatch", "swapped"),
        ("record.answer_mismatch", "more"),
    ]


@pytest.mark.parametrize(
    "gold",
    [
        "B,C",
        "B, C",
        "C,B",
        "BC",
        "CB",
        "B and C",
        ["B", "C"],
        ["C", "B"],
        "B;C",
        "B & C",
        " B ,C ",
        "B C",
        "B\nC",
    ],
)
def test_d12_one_set_in_every_spelling(gold):
    assert parse(make_hallucination(gold=gold)).answer == {"B", "C"}


@pytest.mark.parametrize("gold", [None, ..., "", " ", []])
def test_d12_no_gold(gold):
    assert parse(make_hallucination(gold=gold)).answer is None


def test_d12_ids_of_several_letters():
    choices = [{"id": each, "choice": each} for each in ("B", "C", "BC", "sand and stone")]
    row = {"choices": choices, "correct_answer": ...}
    assert parse(make_hallucination(gold="BC", **row)).answer == {"BC"}
    assert parse(make_hallucination(gold="B,C", **row)).answer == {"B", "C"}
    assert parse(make_hallucination(gold="sand and stone", **row)).answer == {"sand and stone"}


@pytest.mark.parametrize("gold", ["A,B", "AB", ["A", "C"]])
def test_d13_no_hallucination_together_with_others(gold):
    assert parse_code(make_hallucination(gold=gold)) == "record.contradiction"


@pytest.mark.parametrize("text", ["No hallucination", "no hallucination.", " NO HALLUCINATION "])
def test_d13_spellings_of_no_hallucination(text):
    row = make_hallucination(gold="B", choices=make_choices("x", text))
    assert parse(row).none_id == "B"
    assert parse_code({**row, "correct_choice": "A,B"}) == "record.contradiction"
    assert parse(make_factuality(choices=make_choices("x", text))).none_id is None


def test_d13_two_answers_to_a_claim():
    assert parse_code(make_factuality(gold="A,B")) == "record.many_answers"


@pytest.mark.parametrize("gold", ["\uff21", "\uff22\uff0c\uff23", "\uff22\uff23", ["\uff22", "C"]])
def test_d14_full_width_letters(gold):
    assert parse(make_hallucination(gold=gold)).answer in ({"A"}, {"B", "C"})


@pytest.mark.parametrize(
    ("letter", "name"), [("\u0410", "CYRILLIC"), ("\u0391", "GREEK"), ("\u0421", "CYRILLIC")]
)
def test_d14_letters_that_only_look_latin(letter, name):
    row = parse(make_hallucination(gold=letter))
    assert row.code == "record.unknown_answer" and f"U+{ord(letter):04X} {name}" in row.detail
    row = parse(make_factuality(gold=None, choices=make_choices("x", "y", ids=f"B{letter}")))
    assert row.code == "record.lookalike_id" and f"U+{ord(letter):04X} {name}" in row.detail


def test_d14_ids_equal_under_nfkc():
    example = parse(make_hallucination(gold="\uff22", choices=make_choices("x", "y", ids="AB")))
    assert example.answer == {"B"}
    assert (
        parse_code(make_hallucination(choices=make_choices("x", "y", ids="A\uff21")))
        == "record.duplicate_choice"
    )


@pytest.mark.parametrize("context", [None, ..., "", "  \n"])
def test_d15_no_context(context):
    assert parse(make_factuality(context=context)).context == ""


@pytest.mark.parametrize("empty", ["", "  ", "\n"])
def test_d15_empty_texts(empty):
    assert parse_code(make_factuality(claim=empty)) == "record.empty_field"
    assert parse_code(make_hallucination(system1_answer=empty)) == "record.empty_field"
    assert parse_code(make_factuality(image_id=empty)) == "record.empty_field"
    assert parse_code(make_factuality(choices=make_choices("x", empty))) == "record.empty_field"
    assert parse(make_hallucination(system1_question=empty)).caption_question == ""
    assert parse_code(make_factuality(choices=[])) == "record.choice_count"


def test_d16_long_context_is_read_whole():
    text = "word " * 40_000
    example = parse(make_factuality(context=text))
    assert example.context == text and example.truncated is False
    assert parse_code(make_factuality(context="x" * 1_000_001)) == "record.too_large"


@pytest.mark.parametrize("text", ["half \ud83d", "\udc80", "a\0b"])
def test_d21_half_characters_and_nul(tmp_path, text):
    assert parse_code(make_factuality(claim=text)) == "record.text"
    assert parse_code(make_factuality(image_id=text)) == "record.text"
    assert parse_code(make_factuality(note={"deep": [text]})) == "record.text"
    assert parse_code(make_factuality(**{text: 1})) == "record.text"
    path = write_json(tmp_path / "x.json", [make_factuality("f1", claim=text), make_factuality("f2")])
    result = read_examples(path)
    assert [row.code for row in result.bad_rows] == ["record.text"] and len(result.examples) == 1


def test_d22_other_fields_are_kept_apart():
    example = parse({"metadata": make_hallucination(split="dev"), "source": {"url": None}})
    assert example.extra == {
        "meta": {"origin": "test", "score": 0.5, "turns": [1, 2]},
        "split": "dev",
        "source": {"url": None},
    }
    seen = [example.question, example.caption, example.caption_question, example.claim, example.context]
    assert not any("test" in text or "dev" in text for text in seen)
